"""Where a run's files lie: every one by stage, round and name. No file name of a run is spelled anywhere else."""

import errno
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from cai_bootstrap.errors import UsageError
from cai_bootstrap.printable import is_text

POD_BASE = Path("/workspace/cai-constitution-bootstrap")
POD_CACHE = Path("/workspace/.cache")
SUCCESS = "TRAINING_SUCCESS"
CHUNKS, PLAN = "chunks.json", "generation_plan.json"
_ROUND = "round-"
_CONFIG = ".config.yaml"


@dataclass(frozen=True)
class Stage:
    """How a stage names its files, so that several stages live in one base directory.

    `folder` lies below `data` and `checkpoints`, `markers` below `logs`.
    An evaluation is `{evaluation}_<UTC stamp>.json`. What every stage writes under one name begins with `prefix`.
    """

    name: str
    folder: str
    evaluation: str
    record: str
    markers: str
    baseline: str
    prefix: str = ""


INSTRUCTIONS = Stage(
    "instructions", "stage1", "stage1_evaluation", "run.json", "steps", baseline="baseline_assessment.json"
)
CONSTITUTION = Stage(
    "constitution",
    "constitution",
    "constitution_evaluation",
    "constitution_run.json",
    "constitution_steps",
    baseline="constitution_baseline.json",
    prefix="constitution_",
)
STAGES = {stage.name: stage for stage in (INSTRUCTIONS, CONSTITUTION)}


@dataclass(frozen=True)
class DataFolder:
    """The data of one round."""

    path: Path
    round: int = 1

    @property
    def identity(self) -> Path:
        """What decided the data: `generation.identity`."""
        return self.path / "data_identity.json"

    @property
    def instructions(self) -> Path:
        return self.path / "instructions.jsonl"

    @property
    def responses(self) -> Path:
        return self.path / "responses.jsonl"

    @property
    def critiques(self) -> Path:
        return self.path / "critiques.jsonl"

    @property
    def revisions(self) -> Path:
        return self.path / "revisions.jsonl"

    @property
    def proposals(self) -> Path:
        """For each instruction the two answers that the judges propose as a pair, or why there are none."""
        return self.path / "proposals.jsonl"

    @property
    def judgements(self) -> Path:
        return self.path / "judgements.jsonl"

    @property
    def pairs(self) -> Path:
        return self.path / "preference_pairs.jsonl"

    @property
    def rejected(self) -> Path:
        return self.path / "rejected_pairs.jsonl"

    @property
    def summary(self) -> Path:
        """All counts; written last, so that it says that the round's data are whole."""
        return self.path / "generation_summary.json"

    @property
    def diversity(self) -> Path:
        return self.path / "diversity.json"

    @property
    def server_answers(self) -> Path:
        """What a model server answered while the data were made, where one did (`inference.server_log`)."""
        return self.path / "server_answers.jsonl"

    @property
    def judge_answers(self) -> Path:
        """What a judge at an address answered; no data are made from it."""
        return self.path / "judge_answers.jsonl"

    @property
    def prompts(self) -> Path:
        """The constitution stage's prompts, frozen: those that train and those that are held out."""
        return self.path / "prompts.jsonl"

    @property
    def applicability(self) -> Path:
        """Where each conditional principle applies, as the model chose."""
        return self.path / "applicability.jsonl"

    def critiques_by(self, number: int) -> Path:
        """What was said by the constitution's principle of that number, counted from 1."""
        return self.path / f"critiques-{number}.jsonl"

    def revisions_by(self, number: int) -> Path:
        """The answers revised by the constitution's principle of that number, counted from 1."""
        return self.path / f"revisions-{number}.jsonl"

    @property
    def plan(self) -> Path:
        """The batch sizes with which each pass is decoded."""
        return self.path / PLAN

    @property
    def chunks(self) -> Path:
        """The hashes of the chunks that are done."""
        return self.path / CHUNKS

    @property
    def waiting(self) -> tuple[Path, Path]:
        """Where the pairs, and those that were rejected, wait until all of them are known."""
        return self.pairs.with_suffix(".waiting"), self.rejected.with_suffix(".waiting")

    def steering_outputs(self, principles: int) -> dict[str, Path]:
        """The files of finished data of the constitution stage, by the names that their marker gives them."""
        turns = range(1, principles + 1)
        return {
            "prompts": self.prompts,
            "responses": self.responses,
            "applicability": self.applicability,
            **{f"critiques-{n}": self.critiques_by(n) for n in turns},
            **{f"revisions-{n}": self.revisions_by(n) for n in turns},
            "pairs": self.pairs,
            "rejected": self.rejected,
            "summary": self.summary,
        }

    @property
    def passes(self) -> tuple[Path, ...]:
        """What the passes make from the instructions, each from those before it."""
        return (self.responses, self.critiques, self.revisions, self.proposals, self.judgements)

    def outputs(self) -> dict[str, Path]:
        """The files of a finished round, by the names that its marker gives them."""
        return {
            "instructions": self.instructions,
            "responses": self.responses,
            "critiques": self.critiques,
            "revisions": self.revisions,
            "proposals": self.proposals,
            "pairs": self.pairs,
            "rejected": self.rejected,
            "summary": self.summary,
            "diversity": self.diversity,
            "judgements": self.judgements,
        }

    def imported_outputs(self) -> dict[str, Path]:
        """The files of imported pairs, by the names that their marker gives them. The responses are empty."""
        outputs = self.outputs()
        return {name: outputs[name] for name in ("instructions", "responses", "pairs", "rejected", "summary")}

    def files(self) -> list[Path]:
        """The files of this data that are there, of either stage: the summary first, the identity last.

        Whoever removes them in this order never leaves data that look whole, or that nothing decided. A file of
        another name is not a run's.
        """
        numbered = [
            path
            for kind in ("critiques", "revisions")
            for path in sorted(self.path.glob(f"{kind}-*.jsonl"))
            if path.stem.removeprefix(f"{kind}-").isdigit()
        ]
        between = [*self.outputs().values(), *self.steering_outputs(0).values(), *numbered]
        named = [self.summary, *between, self.plan, self.chunks, *self.waiting, self.server_answers, self.identity]
        return [path for path in dict.fromkeys(named) if path.is_file() or path.is_symlink()]

    @property
    def hashed(self) -> list[Path]:
        """The files of a manifest that are there: every JSONL file, the summary, the diversity."""
        return [*sorted(self.path.glob("*.jsonl")), *(path for path in (self.summary, self.diversity) if path.exists())]


@dataclass(frozen=True)
class RunFolder:
    """The folders and files of one stage of one run. Making the object creates nothing; `create` does."""

    base: Path
    data: Path
    checkpoints: Path
    results: Path
    logs: Path
    stage: Stage = INSTRUCTIONS

    @classmethod
    def at(
        cls,
        base: str | Path | None = None,
        *,
        data: str | Path | None = None,
        checkpoints: str | Path | None = None,
        results: str | Path | None = None,
        stage: Stage = INSTRUCTIONS,
    ) -> "RunFolder":
        """The run under `base` (resolved by `resolve_base_dir`), with any folder moved elsewhere on request."""
        root = resolve_base_dir(base)
        data_folder, checkpoint_folder = (root / kind / stage.folder for kind in ("data", "checkpoints"))
        usual = cls(root, data_folder, checkpoint_folder, root / "results", root / "logs", stage)
        return replace(
            usual,
            data=_absolute(data) or usual.data,
            checkpoints=_absolute(checkpoints) or usual.checkpoints,
            results=_absolute(results) or usual.results,
        )

    @classmethod
    def around(cls, results_file: Path, stage: Stage = INSTRUCTIONS) -> "RunFolder | None":
        """The run of a stage in whose results folder a file lies; None if it lies in no base directory."""
        folder = results_file.absolute().parent
        return cls.at(folder.parent, stage=stage) if folder.name == "results" else None

    def create(self) -> "RunFolder":
        """Make the folders. Raises UsageError naming the folder that cannot be made or written, and why."""
        for folder in (self.base, self.data, self.checkpoints, self.results, self.logs):
            if not is_text(str(folder)):
                raise UsageError(f"{folder}: its name is not UTF-8 text; rename it, or choose another with --base-dir")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
                    probe.write(b"0")
            except OSError as error:
                hint = "free some space" if error.errno == errno.ENOSPC else "choose another with --base-dir"
                raise UsageError(f"{folder}: cannot be used as a working folder: {error.strerror}; {hint}") from error
        return self

    def round_data(self, number: int) -> DataFolder:
        """A round's data: the first one's in the data folder itself, later ones' in `round-N` below it."""
        return DataFolder(self.data if number == 1 else self.data / f"{_ROUND}{number}", number)

    @property
    def control_data(self) -> DataFolder:
        """The data of the control: the same pipeline with another constitution."""
        return DataFolder(self.data / "control")

    def rounds(self) -> list[DataFolder]:
        """The data of the first round, and of each later one that is there, in their order."""
        numbers = (path.name.removeprefix(_ROUND) for path in self.data.glob(f"{_ROUND}*"))
        later = sorted(int(number) for number in numbers if number.isdigit())
        return [self.round_data(1), *map(self.round_data, later)]

    def adapter(self, fingerprint: str) -> Path:
        """The folder of the adapter of a training."""
        return self.checkpoints / fingerprint[:12]

    def success_markers(self) -> list[Path]:
        """The success markers of the finished trainings, by their folders' names."""
        return sorted(self.checkpoints.glob(f"*/{SUCCESS}"))

    @property
    def record(self) -> Path:
        """How the newest run ended."""
        return self.results / self.stage.record

    @property
    def report(self) -> Path:
        """The page that shows this stage."""
        return self.results / f"{self.stage.prefix}report.html"

    @property
    def baseline(self) -> Path:
        return self.results / self.stage.baseline

    def benchmark(self, name: str) -> Path:
        """What a published benchmark gave before and after training: `ifeval.json`."""
        return self.results / f"{self.stage.prefix}{name}.json"

    @property
    def elicitation(self) -> Path:
        return self.results / "elicitation.json"

    @property
    def elicitable(self) -> Path:
        return self.results / "elicitable.json"

    @property
    def control_preflight(self) -> Path:
        """What the last look at the control's pairs saw."""
        return self.logs / f"{self.stage.prefix}control_pair_preflight.json"

    @property
    def ablation(self) -> Path:
        """A folder for each variation, and one for what they share."""
        return self.base / "ablation"

    @property
    def ablation_table(self) -> Path:
        return self.results / "ablation.json"

    def evaluation(self, time: str) -> Path:
        """The results file of an evaluation that ended at a UTC time (`2026-11-22T10:31:00Z`)."""
        return self.results / f"{self.stage.evaluation}_{stamp_of(time)}.json"

    def evaluations(self) -> list[Path]:
        """The results files of evaluations that lie here, the newest first."""
        return sorted(self.results.glob(f"{self.stage.evaluation}_*.json"), reverse=True)

    def partial(self, name: str) -> Path:
        """The outputs of a measurement that has not ended."""
        return self.results / "partial" / f"{self.stage.prefix}{name}"

    def partials(self, step: str) -> list[Path]:
        """What measurements of a step of this stage left that did not end."""
        return list((self.results / "partial").glob(f"{self.stage.prefix}{step}-*"))

    def marker(self, step: str, number: int = 1) -> Path:
        """The marker of a finished step."""
        return self.markers / f"{step_name(step, number)}.json"

    def marked_rounds(self, step: str) -> list[int]:
        """The rounds in which a step ended, as far as markers lie here."""
        numbers = (path.stem.removeprefix(f"{step}-") for path in self.markers.glob(f"{step}-*.json"))
        later = sorted(int(number) for number in numbers if number.isdigit())
        return [*([1] if self.marker(step).exists() else []), *later]

    @property
    def markers(self) -> Path:
        return self.logs / self.stage.markers

    @property
    def model(self) -> Path:
        """What `prepare` prepared."""
        return self.logs / f"{self.stage.prefix}model.json"

    @property
    def preflight(self) -> Path:
        """What the last look at the pairs saw."""
        return self.logs / f"{self.stage.prefix}pair_preflight.json"

    def events(self, run: str) -> Path:
        return self.logs / f"{run}.jsonl"

    def event_files(self) -> list[Path]:
        """The events files of all runs (their names begin with a date), the oldest first."""
        return sorted(path for path in self.logs.glob("*.jsonl") if path.stem[:8].isdigit())

    def config(self, run: str) -> Path:
        """The whole configuration of a run."""
        return self.logs / f"{run}{_CONFIG}"

    def configs(self) -> list[Path]:
        """The configurations of all runs, the oldest first."""
        return sorted(self.logs.glob(f"*{_CONFIG}"))

    def events_beside(self, config: Path) -> Path:
        """The events of the run whose configuration this is."""
        return self.events(config.name.removesuffix(_CONFIG))

    def standby_log(self, run: str) -> Path:
        return self.logs / f"{run}.standby.log"

    def tracking(self, tracker: str) -> Path:
        """What a tracker was told of this stage's run."""
        return self.logs / f"{self.stage.prefix}tracking_{tracker}.json"

    def tracking_log(self, run: str) -> Path:
        """What a tracker's library prints."""
        return self.logs / f"{run}.tracking.log"

    def tracked_report(self, run: str) -> Path:
        """The report as a tracker gets it."""
        return self.logs / f"{run}.tracked" / self.report.name

    def tensorboard(self, run: str) -> Path:
        """The folder of a run's event files for TensorBoard."""
        return self.logs / "tensorboard" / run

    def step_log(self, run: str, step: str, number: int) -> Path:
        """What a step's process prints: `logs/RUN.generate-2.log` in round 2."""
        return self.logs / f"{run}.{step_name(step, number)}.log"

    def relative(self, path: Path) -> str:
        """A path as people read it: below the base directory where it lies there."""
        return str(path.relative_to(self.base)) if path.is_relative_to(self.base) else str(path)


def step_name(step: str, number: int) -> str:
    """A step's name with its round: evaluation has one, other steps have one for each round (`train`, `train-2`)."""
    return step if number == 1 or step == "evaluate" else f"{step}-{number}"


def stamp_of(time: str) -> str:
    """A UTC time as it stands in the name of a results file: `20261122T103100Z`."""
    return time.replace("-", "").replace(":", "")


def is_measurement(name: str) -> bool:
    """Whether a file's name is that of a results file, of any stage."""
    baselines = {stage.baseline for stage in STAGES.values()}
    return name in baselines or any(name.startswith(f"{stage.evaluation}_") for stage in STAGES.values())


def output_name(path: str) -> str:
    """The name under which a step's marker lists a file, by the file's own name: `success` for `TRAINING_SUCCESS`."""
    data, name = RunFolder.at(".").round_data(1), Path(path).name
    names = {file.name: key for key, file in (data.outputs() | data.steering_outputs(0)).items()} | {SUCCESS: "success"}
    for stage in STAGES.values():
        workspace = RunFolder.at(".", stage=stage)
        names |= {workspace.model.name: "model", workspace.baseline.name: "baseline"}
    return names.get(name, "results" if is_measurement(name) else name)


def resolve_base_dir(given: str | Path | None = None) -> Path:
    """The base directory: `given`, else $CAI_BASE_DIR, else the pod's /workspace if writable, else ./cai-work.

    Creates nothing.
    """
    if given is None:
        given = os.environ.get("CAI_BASE_DIR") or None
    if given is not None:
        return Path(given).expanduser().absolute()
    if POD_BASE.parent.is_dir() and os.access(POD_BASE.parent, os.W_OK):
        return POD_BASE
    return Path("cai-work").absolute()


def resolve_cache_dir() -> Path:
    """Where converted and downloaded models are kept, shared by every base directory. Creates nothing."""
    if given := os.environ.get("CAI_CACHE_DIR"):
        return Path(given).expanduser().absolute()
    if POD_CACHE.parent.is_dir() and os.access(POD_CACHE.parent, os.W_OK):
        return POD_CACHE / "cai-bootstrap"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user_cache.expanduser().absolute() / "cai-bootstrap"


def _absolute(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser().absolute()
