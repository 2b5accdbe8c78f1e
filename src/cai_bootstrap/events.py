"""What a run tells while it goes on: one JSON object a line in `logs/<run>.jsonl`, for screen, report and pod.

`{"at": "2026-11-22T10:31:00Z", "event": "progress", "run": "20261122T103000Z", "step": "train", "done": 3, …}`
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cai_bootstrap.files import open_append, parse_json

PROGRESS_SECONDS = 1.0
RATE_AFTER = 0.01  # of all there is to do; before, no rate and no ETA are told
Rows = list[dict[str, Any]]
_HEAD = ("at", "event", "run")


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class _Event(BaseModel):
    """The log adds `at` (UTC) and `run` as it writes. The other fields keep their order; None is left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    at: str = ""
    run: str = ""


class RunStarted(_Event):
    """A run begins with these steps."""

    event: Literal["run_started"] = "run_started"
    steps: list[str] = Field(default_factory=list)
    preset: str | None = None


class RunFinished(_Event):
    """The run is over; `message` says why if it did not pass."""

    event: Literal["run_finished"] = "run_finished"
    exit_code: int
    verdict: str
    message: str | None = None


class StepStarted(_Event):
    """A step begins; `timeout` is its time limit in seconds. `round` is None in the first round."""

    event: Literal["step_started"] = "step_started"
    step: str
    timeout: int
    round: int | None = None


class StepSkipped(_Event):
    """The step was finished before, by this run or an earlier one."""

    event: Literal["step_skipped"] = "step_skipped"
    step: str


class StepFinished(_Event):
    """A step's process has ended after `seconds`."""

    event: Literal["step_finished"] = "step_finished"
    step: str
    round: int | None = None
    status: str
    seconds: float
    skipped: bool
    exit_code: int


class StepProgress(_Event):
    """How far a step is. Rate and time left are None until enough is done to tell."""

    event: Literal["progress"] = "progress"
    step: str
    done: int
    total: int
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class Notice(_Event):
    """A sentence that the user should see."""

    event: Literal["notice"] = "notice"
    step: str
    message: str


class Error(_Event):
    """Why a step ends before its time. `out_of_memory` is True if it lacked memory, else None."""

    event: Literal["error"] = "error"
    step: str
    message: str
    out_of_memory: bool | None = None


class Gate(_Event):
    """The verdict on the results file; `passed` is None where nothing was decided."""

    event: Literal["gate"] = "gate"
    passed: bool | None = None
    enforced: bool
    message: str


class Elicited(_Event):
    """The share of dev items that the base follows under one prompt."""

    event: Literal["elicited"] = "elicited"
    step: str
    rendering: str
    rate: float


class TrainingStarted(_Event):
    """A training begins, or goes on; `adapter` is the name of the folder that gets the adapter.

    `control` is True for that of a control constitution, else None.
    """

    event: Literal["training_started"] = "training_started"
    step: str
    adapter: str
    control: bool | None = None


class TrainStep(_Event):
    """The trainer's figures after optimizer step `number` of a phase: `{"loss": 0.61, "rewards/margins": 0.4}`."""

    event: Literal["train_step"] = "train_step"
    step: str
    number: int
    phase: int = 0
    figures: dict[str, int | float | None] = Field(default_factory=dict)


class Watch(_Event):
    """One look of the collapse watch (`training.watch.Look`) at optimizer step `number` of a phase."""

    event: Literal["watch"] = "watch"
    step: str
    number: int
    phase: int = 0
    strict_rate: float
    eos_rate: float
    silent_rate: float | None = None
    distinct: float | None = None
    words: float | None = None
    chosen_per_token: float | None = None

    @property
    def figures(self) -> dict[str, int | float | None]:
        """What the look saw, by name."""
        return {name: getattr(self, name) for name in WATCH_FIGURES if name in self.model_fields_set}


WATCH_FIGURES = ("strict_rate", "eos_rate", "silent_rate", "distinct", "words", "chosen_per_token")
Event = (
    RunStarted
    | RunFinished
    | StepStarted
    | StepSkipped
    | StepFinished
    | StepProgress
    | Notice
    | Error
    | Gate
    | Elicited
    | TrainingStarted
    | TrainStep
    | Watch
)


class EventLog:
    """Appends events to a file, each as one whole write, so that several processes may share it.

    The first event makes the file's folder: a command that ends before it leaves none behind.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run

    def emit(self, event: Event) -> None:
        """Append one event. Values that JSON cannot hold (NaN, infinity) are written as null."""
        fields = {name: getattr(event, name) for name in type(event).model_fields if name not in _HEAD}
        values = {name: _finite(value) for name, value in fields.items() if value is not None}
        head = {"at": utc_now(), "event": event.event, "run": self.run}
        line = json.dumps({**head, **values}, ensure_ascii=False) + "\n"
        try:
            handle = open_append(self.path)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = open_append(self.path)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


class Progress:
    """Counts what a step has done and emits at most one `progress` event a second."""

    def __init__(self, log: EventLog, step: str) -> None:
        self._log, self._step = log, step
        self._lock = threading.Lock()
        self.begin(0)

    @property
    def log(self) -> EventLog:
        """Where the events go."""
        return self._log

    @property
    def step(self) -> str:
        """The step whose progress this is."""
        return self._step

    def begin(self, total: int, *, done: int = 0) -> None:
        """Start counting towards `total`, of which `done` were there before this process."""
        self._total, self._done, self._before = total, done, done
        self._tokens = 0
        self._start = self._told = time.monotonic()

    def advance(self, count: int = 1, *, tokens: int = 0) -> None:
        """Count `count` more units and `tokens` more generated tokens.

        More units than were expected (answers that were drawn again) count as expected, so that nothing is overdue.
        """
        with self._lock:
            self._done += count
            self._tokens += tokens
            now = time.monotonic()
            if now - self._told < PROGRESS_SECONDS and self._done != self._total:
                return
            self._told = now
        seconds, made, total = now - self._start, self._done - self._before, max(self._total, self._done)
        # The first of a batch comes when the whole batch is done: a rate of it alone once promised 57 hours.
        known = seconds > 0 and made >= max(2, RATE_AFTER * self._total)
        self._log.emit(
            StepProgress(
                step=self._step,
                done=self._done,
                total=total,
                tokens_per_second=round(self._tokens / seconds, 1) if known and self._tokens else None,
                eta_seconds=round((total - self._done) * seconds / made, 1) if known else None,
            )
        )

    @property
    def mark(self) -> int:
        """How much is done: what `rewind` goes back to."""
        return self._done

    def rewind(self, mark: int) -> None:
        """Forget what was counted since `mark`, because it is done again."""
        with self._lock:
            self._done = mark

    def say(self, message: str) -> None:
        """Emit a notice that the user should see."""
        self._log.emit(Notice(step=self._step, message=message))


def rows(path: Path) -> tuple[Rows, int]:
    """The objects of a JSONL file, and how many lines are none. Bytes that are not UTF-8 become U+FFFD."""
    good: Rows = []
    bad = 0
    for value in _lines(path):
        if isinstance(value, dict):
            good.append(value)
        else:
            bad += 1
    return good, bad


def _lines(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as source:
            yield from (_object(line) for line in source if line.strip())
    except OSError:
        return


def _object(line: bytes) -> Any:
    try:
        return parse_json(line.decode("utf-8-sig", errors="replace"), foreign=True)
    except ValueError:
        return None


def read_event(line: bytes) -> Event | None:
    """One line of an events file, or None for what is none: torn, or of a kind that only another version knows."""
    value = _object(line)
    return _typed(value) if isinstance(value, dict) else None


def read_events(path: Path) -> tuple[list[Event], int]:
    """The events of a file, and how many lines are no JSON object (none where there is no file)."""
    objects, bad = rows(path)
    return [event for event in map(_typed, objects) if event is not None], bad


def _typed(value: dict[str, Any]) -> Event | None:
    try:
        return _adapter().validate_python(value)
    except ValidationError:
        return None


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Annotated[Event, Field(discriminator="event")])


@dataclass(frozen=True)
class TrainingEvent:
    """A training step or a look, and the round whose training it belongs to."""

    round: int
    event: TrainStep | Watch

    @property
    def part(self) -> tuple[int, int]:
        """Round and phase (0 for the first): SFT before DPO counts its own steps."""
        return self.round, self.event.phase


def newest_training(logs: Sequence[Path], adapter: str | None = None) -> list[TrainingEvent]:
    """The training steps and looks of the newest training in these files, which are given oldest first.

    A resumed training goes on from its number, a new one starts again from the first. `adapter` is the folder of the
    adapter that is meant, where a step trains several; a training of which no folder is told may be any.
    """
    newest: dict[tuple[int, int, str, int], TrainingEvent] = {}
    part, trained = 1, adapter
    for path in logs:
        for event in read_events(path)[0]:
            if isinstance(event, StepStarted):
                part, trained = event.round or 1, adapter
            if isinstance(event, TrainingStarted):
                trained = event.adapter
            if not isinstance(event, TrainStep | Watch) or (adapter is not None and trained != adapter):
                continue
            phase, number = event.phase, event.number
            starts = (event.event, number) in {("watch", 0), ("train_step", 1)}
            if starts and any(key[0] == part and (key[1], key[3]) > (phase, number) for key in newest):
                newest = {key: row for key, row in newest.items() if key[:2] < (part, phase)}
            newest[part, phase, event.event, number] = TrainingEvent(part, event)
    return [newest[key] for key in sorted(newest)]


def training_offsets(training: Sequence[TrainingEvent]) -> dict[tuple[int, int], int]:
    """Where the steps of each round, and of each phase in it, begin on one axis."""
    offsets: dict[tuple[int, int], int] = {}
    end = 0
    for part in sorted({row.part for row in training}):
        offsets[part] = end
        end += max(row.event.number for row in training if row.part == part)
    return offsets
