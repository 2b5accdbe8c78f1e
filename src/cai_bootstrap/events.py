"""What a run tells while it goes on: one JSON object a line in `logs/<run>.jsonl`, for screen, report and pod.

Every event has `at` (UTC), `event` and `run`; `progress` events have `step`, `done`, `total`, `tokens_per_second` and
`eta_seconds`.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROGRESS_SECONDS = 1.0
RATE_AFTER = 0.01  # of all there is to do; before, no rate and no ETA are told
Rows = list[dict[str, Any]]


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class EventLog:
    """Appends events to a file, each as one whole write, so that several processes may share it."""

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        path.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event. Values that JSON cannot hold (NaN, infinity) are written as null."""
        known = {name: value for name, value in fields.items() if value is not None}
        line = (
            json.dumps({"at": utc_now(), "event": event, "run": self.run, **_finite(known)}, ensure_ascii=False) + "\n"
        )
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
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
        """Count `count` more units and `tokens` more generated tokens."""
        with self._lock:
            self._done += count
            self._tokens += tokens
            now = time.monotonic()
            if now - self._told < PROGRESS_SECONDS and self._done < self._total:
                return
            self._told = now
        seconds, made = now - self._start, self._done - self._before
        # The first of a batch comes when the whole batch is done: a rate of it alone once promised 57 hours.
        known = seconds > 0 and made >= max(2, RATE_AFTER * self._total)
        self._log.emit(
            "progress",
            step=self._step,
            done=self._done,
            total=self._total,
            tokens_per_second=round(self._tokens / seconds, 1) if known and self._tokens else None,
            eta_seconds=round((self._total - self._done) * seconds / made, 1) if known else None,
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
        self._log.emit("notice", step=self._step, message=message)

    def record(self, event: str, **fields: Any) -> None:
        """Emit any other event of this step, for example a training step's figures."""
        self._log.emit(event, step=self._step, **fields)


def run_logs(folder: Path) -> list[Path]:
    """The events files of all runs, oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem[:8].isdigit())


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
            for line in source:
                if line.strip():
                    try:
                        yield json.loads(line.decode("utf-8", errors="replace"))
                    except (ValueError, RecursionError):
                        yield None
    except OSError:
        return


def newest_training(logs: Sequence[Path]) -> Rows:
    """The `train_step` and `watch` events of the newest training in these files, which are given oldest first.

    A resumed training goes on from its number, a new one starts again from the first.
    Each has its `round`, and its `phase` (0 for the first): SFT before DPO counts its own steps.
    """
    kept: dict[tuple[int, int, str, int], dict[str, Any]] = {}
    part = 1
    for path in logs:
        for event in rows(path)[0]:
            number = event.get("number")
            if event.get("event") == "step_started":
                part = event["round"] if isinstance(event.get("round"), int) else 1
            if event.get("event") not in {"train_step", "watch"} or not isinstance(number, int):
                continue
            phase = event["phase"] if isinstance(event.get("phase"), int) else 0
            starts = (event["event"], number) in {("watch", 0), ("train_step", 1)}
            if starts and any(key[0] == part and (key[1], key[3]) > (phase, number) for key in kept):
                kept = {key: row for key, row in kept.items() if key[:2] < (part, phase)}
            kept[part, phase, event["event"], number] = {**event, "round": part, "phase": phase}
    return [kept[key] for key in sorted(kept)]


def training_offsets(training: Rows) -> dict[tuple[int, int], int]:
    """Where the steps of each round, and of each phase in it, begin on one axis."""
    found: dict[tuple[int, int], int] = {}
    end = 0
    for part in sorted({(row["round"], row["phase"]) for row in training}):
        found[part] = end
        end += max(row["number"] for row in training if (row["round"], row["phase"]) == part)
    return found
