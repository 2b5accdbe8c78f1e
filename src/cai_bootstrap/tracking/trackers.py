"""The trackers: what each is, where it keeps a run, and how it is told figures.

TensorBoard gets files in `logs/tensorboard/RUN` under the base directory; trackio writes a local database
(`TRACKIO_DIR`), wandb whatever its own settings say (`WANDB_MODE=offline` for no network).
"""

import importlib.util
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import JsonObject
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.tracking.axis import Point

PROJECT = "cai-bootstrap"
PROJECT_VARIABLE = {"trackio": "TRACKIO_PROJECT", "wandb": "WANDB_PROJECT"}
AXIS = "training_step"  # the horizontal axis of wandb's charts
HOST = "-"  # what wandb is told as the machine's name; an empty one it would look up
Verdict = Mapping[str, str | float]


class Tracker(Protocol):
    """A tracker that has a run open. Each method raises whatever the library raises."""

    def log(self, point: Point) -> None:
        """Take figures at a step."""
        ...

    def flush(self) -> bool:
        """Let what was taken be seen; whether it is now safe, so that not even a kill loses it."""
        ...

    def conclude(self, step: int, verdict: Verdict, report: Path | None) -> None:
        """Take how the run ended, in numbers and words, and its report where there is one."""
        ...

    def close(self) -> None:
        """Write what is left and close the run. All that was taken is safe then."""
        ...


@dataclass(frozen=True)
class Opening:
    """What a tracker needs to begin a run, or to go on with it: `run` is its name there."""

    workspace: RunFolder
    run: str
    settings: JsonObject

    def project(self, name: str) -> str:
        """The project that gets the run."""
        return os.environ.get(PROJECT_VARIABLE.get(name, ""), PROJECT)


def require_tracker(name: str) -> None:
    """Raise UsageError if the tracker is not installed; it is imported by the process that tells the run to it."""
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"--track {name}: it is not installed; run: pip install 'cai-bootstrap[track]'")


def open_tracker(name: str, opening: Opening) -> Tracker:
    """Import a tracker and open the run. Raises whatever the library raises."""
    kinds: dict[str, type[TensorBoard] | type[Trackio] | type[Wandb]] = {
        "tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb,
    }  # fmt: skip
    return kinds[name](opening)


class TensorBoard:
    """Event files, written by TensorBoard itself; torch, which has a writer too, is not loaded for it."""

    def __init__(self, opening: Opening) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = opening.workspace.tensorboard(opening.run)
        new = not folder.exists()
        self._writer = EventFileWriter(str(folder))
        if new:
            self._text("settings", _listed(_flat(opening.settings)), 0)

    def log(self, point: Point) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.figures.items()]
        self._add(Summary(value=values), point.step, _seconds(point.at))

    def flush(self) -> bool:
        self._writer.flush()
        return True

    def conclude(self, step: int, verdict: Verdict, report: Path | None) -> None:  # noqa: ARG002 - it shows no pages
        self.log(Point(step, _numbers(verdict), ""))
        self._text("verdict", _listed(verdict), step)

    def close(self) -> None:
        self._writer.close()

    def _text(self, name: str, text: str, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        kind = create_summary_metadata(display_name=name, description="")
        tensor = make_tensor_proto([text.encode()])
        self._add(Summary(value=[Summary.Value(tag=name, metadata=kind, tensor=tensor)]), step, time.time())

    def _add(self, summary: Any, step: int, seconds: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(summary=summary, step=step, wall_time=seconds))


class Trackio:
    """A run in trackio's database; one of the same name goes on."""

    def __init__(self, opening: Opening) -> None:
        import trackio

        self._project = opening.project("trackio")
        self._library: Any = trackio
        self._record: Any = trackio.init(
            project=self._project, name=opening.run, config=opening.settings, resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, point: Point) -> None:
        self._record.log(dict(point.figures), step=point.step)

    def flush(self) -> bool:
        """It sends by itself, and does not say what has arrived."""
        return False

    def conclude(self, step: int, verdict: Verdict, report: Path | None) -> None:
        self._record.log(_numbers(verdict), step=step)
        self._record.log({"verdict": self._library.Markdown(_listed(verdict))}, step=step)
        if report is not None:
            self._library.save(report, project=self._project)

    def close(self) -> None:
        self._record.finish()


class Wandb:
    """A run of wandb's; one of the same id goes on. It gets no code, git address, screen or name of this machine.

    Left to itself it tells the host's name, the working directory, the interpreter's path and the arguments.
    `x_disable_meta` stops all but the host's name, which stands in the run's own record as well.
    """

    def __init__(self, opening: Opening) -> None:
        import wandb

        self._library: Any = wandb
        self._record: Any = wandb.init(
            project=opening.project("wandb"), name=opening.run, id=opening.run, resume="allow",
            config=opening.settings, dir=str(opening.workspace.logs),
            settings=wandb.Settings(
                console="off", disable_git=True, disable_code=True,
                host=HOST, x_disable_meta=True, x_save_requirements=False,
            ),
        )  # fmt: skip
        # A step of wandb's own never goes back, not even for a run that goes on: what does is dropped.
        self._record.define_metric(AXIS, hidden=True)
        self._record.define_metric("*", step_metric=AXIS)

    def log(self, point: Point) -> None:
        self._record.log({**point.figures, AXIS: point.step})

    def flush(self) -> bool:
        """It sends by itself, and does not say what has arrived."""
        return False

    def conclude(self, step: int, verdict: Verdict, report: Path | None) -> None:
        self.log(Point(step, _numbers(verdict), ""))
        self._record.summary.update(dict(verdict))
        if report is not None:
            self._record.save(str(report), base_path=str(report.parent), policy="now")

    def close(self) -> None:
        self._record.finish()
        self._library.teardown()  # what it writes to its file offline may lie in memory until then


def _numbers(verdict: Verdict) -> dict[str, float]:
    return {key: float(value) for key, value in verdict.items() if not isinstance(value, str)}


def _listed(values: Mapping[str, object]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in values.items())


def _flat(settings: JsonObject, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted key."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _seconds(at: str) -> float:
    """A UTC time in seconds since 1970; now, where it is none."""
    with suppress(ValueError):
        return datetime.fromisoformat(at).timestamp()
    return time.time()
