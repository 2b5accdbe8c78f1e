"""Events are written as fixed bytes and read back typed; what is none costs its line only."""

import json
import math
from pathlib import Path

from cai_bootstrap.events import EventLog, Notice, Progress, StepProgress, StepStarted, TrainStep, Watch, read_events


def test_the_fields_of_an_event_keep_their_order_and_none_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "x.jsonl", "r")
    log.emit(StepStarted(step="train", timeout=9))
    log.emit(TrainStep(step="train", number=1, phase=0, figures={"loss": math.nan, "epoch": 1}))
    look = {"strict_rate": 0.5, "eos_rate": 1.0, "silent_rate": 0.0, "distinct": math.inf, "words": 4.5}
    log.emit(Watch(step="train", number=2, phase=1, **look))
    Progress(log, "train").say("é")
    lines = [line.partition(', "event"')[2] for line in log.path.read_text(encoding="utf-8").splitlines()]
    assert lines == [
        ': "step_started", "run": "r", "step": "train", "timeout": 9}',
        ': "train_step", "run": "r", "step": "train", "number": 1, "phase": 0, "figures": {"loss": null, "epoch": 1}}',
        ': "watch", "run": "r", "step": "train", "number": 2, "phase": 1, "strict_rate": 0.5, "eos_rate": 1.0, '
        '"silent_rate": 0.0, "distinct": null, "words": 4.5}',
        ': "notice", "run": "r", "step": "train", "message": "é"}',
    ]
    events, bad = read_events(log.path)
    assert [type(event) for event in events] == [StepStarted, TrainStep, Watch, Notice]
    assert bad == 0


def test_a_torn_line_and_an_event_of_another_version_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"event": "of_tomorrow"}, {"event": "notice"}, {"event": ["notice"]}, {"step": "train"}]
    rows.append({"event": "notice", "step": "train", "message": "m", "new": 1})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '[1]\n{"event": "noti')
    events, bad = read_events(path)
    assert events == [Notice(step="train", message="m")]
    assert bad == 2


def test_more_units_than_expected_are_neither_overdue_nor_told_one_by_one(tmp_path: Path) -> None:
    """A pod's answers hold no negative time; and answers drawn again come in large numbers."""
    log = EventLog(tmp_path / "log.jsonl", "run")
    progress = Progress(log, "generate")
    progress.begin(10)
    for _ in range(30):
        progress.advance()
    told = read_events(log.path)[0]
    assert [(event.done, event.total) for event in told if isinstance(event, StepProgress)] == [(10, 10)]
    progress._told -= 2
    progress.advance()
    last = read_events(log.path)[0][-1]
    assert isinstance(last, StepProgress)
    assert (last.done, last.total, last.eta_seconds) == (31, 31, 0.0)
