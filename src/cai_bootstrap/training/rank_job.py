"""What each of several training processes is told by the process that starts them: one file, `job.json`."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from cai_bootstrap.config import RunConfig
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.records import EvalItem, PreferencePair
from cai_bootstrap.training.batch_split import Share

OUT_OF_MEMORY = 70  # a process's exit code


@dataclass(frozen=True)
class RankJob:
    """A training (`training.train.TrainingRun`) with its pairs, each process's share of a step, and the events file
    with the names of run and step in it."""

    config: RunConfig
    prepared: PreparedModel
    folder: Path
    fingerprint: str
    dev_items: list[EvalItem]
    details: dict[str, object]
    graphed: bool
    share: Share
    pairs: list[PreferencePair]
    events: Path
    run: str
    step: str
    start: Path | None = None

    def write(self, path: Path) -> None:
        """Write it to a file, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TypeAdapter(RankJob).dump_json(self))

    @staticmethod
    def read(path: Path) -> "RankJob":
        """The job in a file."""
        return TypeAdapter(RankJob).validate_json(path.read_bytes())


def stop_file(job_file: Path) -> Path:
    """The file by which the processes are told to stop."""
    return job_file.with_name("stop")


def outcome_file(job_file: Path, rank: int) -> Path:
    """The file in which a process says why it failed: `{"kind": "TrainingCollapsedError", "message": "…"}`."""
    return job_file.with_name(f"outcome-{rank}.json")
