"""A tracker without a library, for tests of what a tracker is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.tracking import follow
from cai_bootstrap.tracking.axis import Point
from cai_bootstrap.tracking.trackers import Opening


@dataclass
class Recorder:
    """A tracker that keeps what it is told. `fails_at`: how many points it takes before it raises.

    `keeps`: what it took is safe after a flush, as with TensorBoard. `closes`: it can be closed without an error.
    """

    fails_at: int | None = None
    keeps: bool = False
    closes: bool = True
    opened: list[Opening] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    reports: list[Path | None] = field(default_factory=list)
    closed: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Recorder":
        monkeypatch.setattr(follow, "open_tracker", self.open)
        monkeypatch.setattr(follow, "RETRY_SECONDS", 0.0)
        return self

    def open(self, _: str, opening: Opening) -> "Recorder":
        self.opened.append(opening)
        return self

    def log(self, point: Point) -> None:
        if self.fails_at == len(self.points):
            self.fails_at = None
            raise ConnectionError("no route to https://me:hunter22@example.org/api")
        self.points.append(point)

    def flush(self) -> bool:
        return self.keeps

    def conclude(self, _: int, verdict: dict[str, Any], report: Path | None) -> None:
        self.verdicts.append(verdict)
        self.reports.append(report)

    def close(self) -> None:
        if not self.closes:
            raise ConnectionError("nothing of the queue was sent")
        self.closed += 1

    def curve(self, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.figures[name]) for point in self.points if name in point.figures]
