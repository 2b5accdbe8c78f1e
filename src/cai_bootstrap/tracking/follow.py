"""The process that tells a run to a tracker: it reads the run's events as they come, and tells what is new.

The events file is the queue: what a tracker did not take is read again later, so that memory does not grow, however
slow the tracker is. wandb and trackio take figures into a queue of their own. So what they took is written down as told
only when they have closed the run without an error; until then another start of the run tells it again.
"""

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.errors import CaiError, DataError, UntrustedResultError
from cai_bootstrap.events import (
    Elicited,
    Event,
    EventLog,
    Notice,
    RunFinished,
    RunStarted,
    StepFinished,
    StepSkipped,
    StepStarted,
    TrainingStarted,
    TrainStep,
    Watch,
    newest_training,
    read_event,
    read_events,
)
from cai_bootstrap.files import fingerprint, read_json, write_atomic, write_json
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import read_outputs
from cai_bootstrap.tracking.axis import Told, Training
from cai_bootstrap.tracking.live import STEP
from cai_bootstrap.tracking.openness import (
    machine_folders,
    public_settings,
    without_folders,
    without_paths,
    without_secrets,
)
from cai_bootstrap.tracking.rates import step_figures
from cai_bootstrap.tracking.trackers import Opening, Tracker, open_tracker

POLL_SECONDS = 0.5
RETRY_SECONDS = 30.0
ORPHAN_SECONDS = 20.0  # how long a tracker may take to close when the run's process is gone
# What another start of the same run may set otherwise.
NO_SETTINGS = frozenset({"track", "timeouts", "force_data", "threads", "workers", "preset", "paths"})
Work = Callable[[Tracker], None]


@dataclass(frozen=True)
class LastWord:
    """What the run's process says at its end: the report. Where it was killed, it is `gone` and says nothing."""

    report: Path | None = None
    gone: bool = False


@dataclass
class Place:
    """How far a run was told: what of it, and how many bytes of its events file, which end in this training."""

    told: Told
    offset: int = 0
    training: Training = field(default_factory=Training)

    def copy(self) -> "Place":
        """The same place, which does not move with this one."""
        return replace(self, told=self.told.model_copy(deep=True))


@dataclass
class Follower:
    """One run and the tracker that is told it. `tracker` is None while there is none, as after an error.

    `place` is how far the tracker took the run, `safe` how far it surely keeps it: that alone is in the file.
    """

    name: str
    workspace: RunFolder
    config: RunConfig
    run: str
    place: Place = field(init=False)
    safe: Place = field(init=False)
    tracker: Tracker | None = None
    fault: str | None = None
    finished: RunFinished | None = None
    _report: Path | None = None
    _retry_at: float = 0.0

    def __post_init__(self) -> None:
        self.safe = Place(self._begin())
        self.place = self.safe.copy()

    @property
    def told(self) -> Told:
        """What the tracker took."""
        return self.place.told

    def follow(self, line: IO[bytes]) -> int:
        """Tell the run until `line` says that it is over, and with which report: `{"report": "/…/report.html"}`.

        A line that ends without a word says that the run's process is gone. Returns 0 if all was told, else 1.
        """
        while (last := _last_word(line)) is None:
            self.tell()
        if last.gone:
            _end_after(ORPHAN_SECONDS)
        self._retry_at = 0.0
        self.tell()
        if self.fault is None:
            self._attempt(lambda tracker: self._conclude(tracker, last))
        self.safe.told.sentence = self.fault or self._summary()
        self._save()
        return 0 if self.fault is None else 1

    def tell(self) -> None:
        """Tell what the events file holds that was not told yet. An error of the tracker is said once, not raised."""
        if time.monotonic() >= self._retry_at:
            self._attempt(self._tell)

    def _begin(self) -> Told:
        """What was told before, if this run goes on with a run of the same settings; else nothing."""
        settings = fingerprint(self.config.model_dump(mode="json", exclude=set(NO_SETTINGS)))
        with contextlib.suppress(DataError, ValidationError):
            told = Told.model_validate(read_json(self.workspace.tracking(self.name)))
            if told.settings == settings and not self.config.force_data:
                return told.model_copy(update={"sentence": ""})
        return Told(run=self.run, settings=settings)

    def _attempt(self, work: Work) -> None:
        try:
            if self.tracker is None:
                settings = public_settings(self.config, self._folders)
                self.tracker = open_tracker(self.name, Opening(self.workspace, self.told.run, settings))
                self._save()  # another start goes on in this run of the tracker
            work(self.tracker)
            self.fault = None
        except Exception as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        """Say once that the tracker does not take the run; it is opened again later."""
        self._give_up()
        self._retry_at = time.monotonic() + RETRY_SECONDS
        first = self.fault is None
        reason = without_secrets(f"{type(error).__name__}: {error}").splitlines()[0]
        self.fault = f"the run could not be told to {self.name} ({reason})"
        if first and self.finished is None:
            message = f"WARNING: {self.fault}; the run goes on, and this is tried again"
            EventLog(self.workspace.events(self.run), self.run).emit(Notice(step=STEP, message=message))

    def _give_up(self) -> None:
        """Close the tracker; where it does not even close, what it took is told again to the next one."""
        tracker, self.tracker = self.tracker, None
        if tracker is not None:
            with contextlib.suppress(Exception):
                tracker.close()
                self._secure()
        self.place = self.safe.copy()

    def _secure(self) -> None:
        """Write down that the tracker surely keeps what it took."""
        changed = self.safe.told != self.place.told
        self.safe = self.place.copy()
        if changed:
            self._save()

    def _save(self) -> None:
        write_json(self.workspace.tracking(self.name), self.safe.told.model_dump(mode="json"))

    def _tell(self, tracker: Tracker) -> None:
        path = self.workspace.events(self.run)
        if not path.exists():
            return
        with path.open("rb") as source:
            source.seek(self.place.offset)
            for line in source:
                if not line.endswith(b"\n"):
                    break
                event = read_event(line)
                if event is not None:
                    self._take(tracker, event)
                self.place.offset += len(line)  # after it was told: else the event is read again
        if tracker.flush():
            self._secure()

    def _take(self, tracker: Tracker, event: Event) -> None:
        match event:
            case RunStarted():
                self._tell_figures(tracker, self._earlier_rates(), event.at)
            case StepStarted():
                self.place.training = Training(event.round or 1)
            case TrainingStarted():
                self.place.training = Training(self.place.training.round, event.adapter, bool(event.control))
                self._tell_earlier(tracker, self.place.training)
            case StepSkipped(step="train"):
                for training in self._finished_trainings():
                    self._tell_earlier(tracker, training)
            case TrainStep() | Watch():
                self._tell_row(tracker, self.place.training, event)
            case Elicited():
                self._tell_figures(tracker, {f"dev/{event.rendering}": event.rate}, event.at)
            case StepFinished(exit_code=0):
                self._tell_figures(tracker, step_figures(self.workspace, event.step, event.round or 1), event.at)
            case RunFinished():
                self.finished = event

    def _tell_row(self, tracker: Tracker, training: Training, event: TrainStep | Watch) -> None:
        if (point := self.told.place(training, event)) is not None:
            tracker.log(point)
            self.told.note(training, event)

    def _tell_figures(self, tracker: Tracker, figures: dict[str, float | None], at: str) -> None:
        if (point := self.told.news(figures, at)) is not None:
            tracker.log(point)
            self.told.figures |= point.figures

    def _tell_earlier(self, tracker: Tracker, training: Training) -> None:
        """The steps of a training that an earlier run did, of which this one does the rest, or none."""
        logs = [path for path in self.workspace.event_files() if path.stem < self.run]
        rows = newest_training(logs, training.adapter or None)
        for row in sorted(rows, key=lambda row: (row.round, row.event.phase, row.event.number)):
            if row.round == training.round:
                self._tell_row(tracker, training, row.event)

    def _earlier_rates(self) -> dict[str, float | None]:
        """The dev rates of the earlier starts that this run goes on with: a step that is skipped says none again."""
        rates: dict[str, float | None] = {}
        for path in self.workspace.event_files():
            if self.told.run <= path.stem < self.run and self._is_of_this_stage(path.stem):
                for event in read_events(path)[0]:
                    if isinstance(event, Elicited):
                        rates[f"dev/{event.rendering}"] = event.rate
        return rates

    def _is_of_this_stage(self, run: str) -> bool:
        with contextlib.suppress(CaiError):
            return resolve(config_file=self.workspace.config(run), environment={}).config.stage == self.config.stage
        return False

    def _finished_trainings(self) -> Iterator[Training]:
        """The trainings of the round that were finished before."""
        with contextlib.suppress(UntrustedResultError):
            number = self.place.training.round
            outputs = read_outputs(self.workspace, "train", number)
            for name in ("success", "control-success"):
                path = None if outputs is None else outputs.find(name)
                if path is not None:
                    yield Training(number, path.parent.name, name != "success")

    def _conclude(self, tracker: Tracker, last: LastWord) -> None:
        if self.finished is not None:
            self._report = self._public_report(last)
            tracker.conclude(self.told.end, self._verdict(self.finished), self._report)
        self.tracker = None  # a close that fails is not tried again: the second time it may say nothing
        tracker.close()
        self._secure()

    @property
    def _folders(self) -> frozenset[str]:
        return machine_folders(self.config, self.workspace.base)

    def _verdict(self, ended: RunFinished) -> dict[str, str | float]:
        """How the run ended; of a long message the first line alone, for a step's own output may follow it."""
        first = (ended.message or "").partition("\n")[0]
        message = without_paths(without_secrets(first), self._folders)
        return {"verdict": ended.verdict, "exit_code": ended.exit_code, **({"message": message} if message else {})}

    def _public_report(self, last: LastWord) -> Path | None:
        """A copy of the report that names no folder of this machine; None if a secret seems to stand in it."""
        if last.report is None or self.name == "tensorboard":
            return None
        text = last.report.read_text(encoding="utf-8", errors="replace")
        if without_secrets(text) != text:
            return None
        path = self.workspace.tracked_report(self.run)  # it stays: wandb reads it when it sends, maybe much later
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, without_folders(text, self._folders))
        return path

    def _summary(self) -> str:
        where = (
            f"{self.workspace.tensorboard(self.told.run)} (tensorboard --logdir "
            f"{self.workspace.tensorboard(self.told.run).parent})"
            if self.name == "tensorboard"
            else f"project {Opening(self.workspace, self.told.run, {}).project(self.name)}, run {self.told.run}"
        )
        report = ", the report" if self._report is not None else ""
        return f"told {self.name}: {where}, {self.told.steps} training steps{report}"


def _last_word(line: IO[bytes]) -> LastWord | None:
    """What the run's process has said, or None while it says nothing; waits a moment for it."""
    if not select.select([line], [], [], POLL_SECONDS)[0]:
        return None
    word = line.readline()
    if not word.endswith(b"\n"):
        return LastWord(gone=True)
    report = json.loads(word)["report"]
    return LastWord(None if report is None else Path(report))


def _end_after(seconds: float) -> None:
    """End this process, whatever it does then."""
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()
