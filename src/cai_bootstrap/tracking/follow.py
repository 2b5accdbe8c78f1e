"""The process that tells a run to a tracker: it reads the run's events as they come, and tells what is new.

The events file is the queue: what a tracker did not take is read again later, so that nothing is lost and memory does
not grow, however slow the tracker is.
"""

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.events import (
    Elicited,
    Event,
    EventLog,
    Notice,
    RunFinished,
    StepFinished,
    StepSkipped,
    StepStarted,
    TrainingStarted,
    TrainStep,
    Watch,
    newest_training,
    read_event,
)
from cai_bootstrap.files import fingerprint, read_json, write_json
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import read_outputs
from cai_bootstrap.tracking.axis import Told, Training
from cai_bootstrap.tracking.live import STEP
from cai_bootstrap.tracking.openness import public_settings, without_secrets
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
class Follower:
    """One run and the tracker that is told it. `tracker` is None while there is none, as after an error."""

    name: str
    workspace: RunFolder
    config: RunConfig
    run: str
    told: Told = field(init=False)
    tracker: Tracker | None = None
    fault: str | None = None
    finished: RunFinished | None = None
    _offset: int = 0
    _round: int = 1
    _training: Training = field(default_factory=Training)
    _retry_at: float = 0.0

    def __post_init__(self) -> None:
        self.told = self._begin()

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
        self.told.sentence = self.fault or self._summary(last)
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
                return told
        return Told(run=self.run, settings=settings)

    def _attempt(self, work: Work) -> None:
        before = self.told.model_dump()
        try:
            if self.tracker is None:
                self.tracker = open_tracker(
                    self.name, Opening(self.workspace, self.told.run, public_settings(self.config))
                )
            work(self.tracker)
            self.fault = None
        except Exception as error:
            self._warn(error)
        if self.told.model_dump() != before:
            self._save()

    def _warn(self, error: Exception) -> None:
        """Say once that the tracker does not take the run; it is opened again later."""
        self.tracker, self._retry_at = None, time.monotonic() + RETRY_SECONDS
        first = self.fault is None
        reason = without_secrets(f"{type(error).__name__}: {error}").splitlines()[0]
        self.fault = f"the run could not be told to {self.name} ({reason})"
        if first and self.finished is None:
            message = f"WARNING: {self.fault}; the run goes on, and this is tried again"
            EventLog(self.workspace.events(self.run), self.run).emit(Notice(step=STEP, message=message))

    def _save(self) -> None:
        write_json(self.workspace.tracking(self.name), self.told.model_dump(mode="json"))

    def _tell(self, tracker: Tracker) -> None:
        path = self.workspace.events(self.run)
        if not path.exists():
            return
        with path.open("rb") as source:
            source.seek(self._offset)
            for line in source:
                if not line.endswith(b"\n"):
                    break
                event = read_event(line)
                if event is not None:
                    self._take(tracker, event)
                self._offset += len(line)  # after it was told: else the event is read again
        tracker.flush()

    def _take(self, tracker: Tracker, event: Event) -> None:
        match event:
            case StepStarted():
                self._round = event.round or 1
                self._training = Training(self._round)
            case TrainingStarted():
                self._training = Training(self._round, event.adapter, bool(event.control))
                self._tell_earlier(tracker, self._training)
            case StepSkipped(step="train"):
                for training in self._finished_trainings():
                    self._tell_earlier(tracker, training)
            case TrainStep() | Watch():
                self._tell_row(tracker, self._training, event)
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

    def _finished_trainings(self) -> Iterator[Training]:
        """The trainings of the round that were finished before."""
        with contextlib.suppress(UntrustedResultError):
            outputs = read_outputs(self.workspace, "train", self._round)
            for name in ("success", "control-success"):
                path = None if outputs is None else outputs.find(name)
                if path is not None:
                    yield Training(self._round, path.parent.name, name != "success")

    def _conclude(self, tracker: Tracker, last: LastWord) -> None:
        if self.finished is not None:
            tracker.conclude(self.told.end, _verdict(self.finished), self._report(last))
        tracker.close()

    def _report(self, last: LastWord) -> Path | None:
        """The report, unless a secret seems to stand in it."""
        if last.report is None or self.name == "tensorboard":
            return None
        text = last.report.read_text(encoding="utf-8", errors="replace")
        return last.report if without_secrets(text) == text else None

    def _summary(self, last: LastWord) -> str:
        where = (
            f"{self.workspace.tensorboard(self.told.run)} (tensorboard --logdir "
            f"{self.workspace.tensorboard(self.told.run).parent})"
            if self.name == "tensorboard"
            else f"project {Opening(self.workspace, self.told.run, {}).project(self.name)}, run {self.told.run}"
        )
        report = ", the report" if self._report(last) is not None else ""
        return f"told {self.name}: {where}, {self.told.steps} training steps{report}"


def _verdict(ended: RunFinished) -> dict[str, str | float]:
    """How the run ended; of a long message the first line alone, for a step's own output may follow it."""
    message = without_secrets(ended.message.splitlines()[0]) if ended.message else ""
    return {"verdict": ended.verdict, "exit_code": ended.exit_code, **({"message": message} if message else {})}


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
