"""Where a run's figures stand on one axis of training steps, and which of them a tracker has been told already.

Rounds, phases and trainings follow on: the second round begins where the first one ended. What was told is kept in a
file, so that a run that is started again goes on in the same place of the tracker, and no step stands there twice.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cai_bootstrap.events import TrainStep, Watch

TRAIN, WATCH = "train", "watch"


class Training(NamedTuple):
    """The training that events belong to: its round, the folder of its adapter, whether it is the control's."""

    round: int = 1
    adapter: str = ""
    control: bool = False


class Point(NamedTuple):
    """Figures at a step of the axis, and the time (ISO 8601, UTC) at which they were seen."""

    step: int
    figures: dict[str, float]
    at: str


class Part(BaseModel):
    """A phase of a training: where it begins on the axis, and the last of its steps and looks that was told."""

    model_config = ConfigDict(extra="forbid", strict=True)

    round: int
    adapter: str
    phase: int
    begin: int
    train: int = -1
    watch: int = -1

    def last(self, kind: str) -> int:
        """The number of the last step or look that was told; -1 for none."""
        return self.train if kind == TRAIN else self.watch


class Told(BaseModel):
    """What a tracker was told of a run: `{"run": "20261129T183000Z", "settings": "9f…", "parts": […], …}`.

    `run` is the tracker's run, which later runs with the same `settings` (their fingerprint) go on with. `figures` are
    the last values of what is no training step. `sentence` is what was said at the end.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    run: str
    settings: str
    parts: list[Part] = Field(default_factory=list)
    figures: dict[str, float] = Field(default_factory=dict)
    sentence: str = ""

    @property
    def end(self) -> int:
        """The last step of the axis that was told."""
        return max((part.begin + max(part.train, part.watch, 0) for part in self.parts), default=0)

    @property
    def steps(self) -> int:
        """How many training steps were told."""
        return sum(max(part.train, 0) for part in self.parts)

    def place(self, training: Training, event: TrainStep | Watch) -> Point | None:
        """Where a training step or a look stands; None if it was told, or holds no number."""
        kind = TRAIN if isinstance(event, TrainStep) else WATCH
        part = self._part(training, event.phase)
        if part is not None and event.number <= part.last(kind):
            return None
        name = f"control/{kind}" if training.control else kind
        figures = {f"{name}/{key}": float(value) for key, value in event.figures.items() if value is not None}
        begin = self.end if part is None else part.begin
        return Point(begin + event.number, figures, event.at) if figures else None

    def note(self, training: Training, event: TrainStep | Watch) -> None:
        """Write down that a training step or a look was told."""
        part = self._part(training, event.phase)
        if part is None:
            part = Part(round=training.round, adapter=training.adapter, phase=event.phase, begin=self.end)
            self.parts.append(part)
        if isinstance(event, TrainStep):
            part.train = max(part.train, event.number)
        else:
            part.watch = max(part.watch, event.number)

    def news(self, figures: Mapping[str, float | None], at: str) -> Point | None:
        """Figures that are no training step's, at the end of the axis; None if these very ones were told."""
        new = {key: value for key, value in figures.items() if value is not None and self.figures.get(key) != value}
        return Point(self.end, new, at) if new else None

    def _part(self, training: Training, phase: int) -> Part | None:
        key = (training.round, training.adapter, phase)
        return next((part for part in self.parts if (part.round, part.adapter, part.phase) == key), None)
