"""Training in the report: what one axis shows of interruptions, rounds, phases and many steps."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic import generate, records, train

from cai_bootstrap.events import EventLog, StepStarted, TrainingStarted, TrainStep, newest_training
from cai_bootstrap.files import read_json
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.report.build import report_page
from cai_bootstrap.report.files import load
from cai_bootstrap.report.tables import thinned
from cai_bootstrap.report.training import pictures
from cai_bootstrap.run.folder import RunFolder


def test_training_curves_go_on_after_an_interruption_and_start_again_with_a_new_training(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()

    def log(name: str, numbers: range, loss: float) -> None:
        events = EventLog(workspace.logs / f"{name}.jsonl", name)
        for number in numbers:
            events.emit(TrainStep(step="train", number=number, figures={"loss": loss}))

    def losses() -> list[float]:
        return [row.event.figures["loss"] for row in load(workspace).training]

    log("20260101T000000Z", range(1, 8), 1.0)
    log("20260102T000000Z", range(6, 10), 2.0)
    assert losses() == [1.0] * 5 + [2.0] * 4
    log("20260103T000000Z", range(1, 4), 3.0)
    assert losses() == [3.0] * 3


def test_of_several_trainings_in_a_step_each_has_its_own_steps(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "20261122T101500Z.jsonl", "20261122T101500Z")
    log.emit(TrainStep(step="train", number=1, figures={"loss": 7.0}))  # of an older version: nobody knows whose
    for folder, losses in (("a", (3.0, 2.0)), ("b", (6.0,)), ("a", (3.0,))):
        log.emit(StepStarted(step="train", timeout=9))
        log.emit(TrainingStarted(step="train", adapter=folder))
        for number, loss in enumerate(losses, 1):
            log.emit(TrainStep(step="train", number=number, figures={"loss": loss}))

    def losses_of(folder: str) -> list[Any]:
        return [row.event.figures["loss"] for row in newest_training([log.path], folder)]

    assert losses_of("a") == [3.0]
    assert losses_of("b") == [6.0]


def test_rounds_follow_each_other_on_one_axis_and_their_data_are_added_up(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    events = EventLog(workspace.logs / "20260101T000000Z.jsonl", "r")
    for part in (1, 2):
        events.emit(StepStarted(step="train", timeout=9, round=part if part > 1 else None))
        for number in (1, 2, 3):
            events.emit(TrainStep(step="train", number=number, figures={"loss": 1.0 / part}))
    generate(workspace, 40)
    second = RunFolder.at(tmp_path, data=workspace.data / "round-2")
    generate(second, 24)
    found = load(workspace)
    table = pictures(found)[0].table
    assert table is not None
    assert [row[0] for row in table.rows] == [f"{n} (round {1 + (n > 3)})" for n in range(1, 7)]
    assert [name in pictures(found)[0].svg for name in ("round 1", "round 2", "round 3", "SFT")] == [
        True,
        True,
        False,
        False,
    ]
    one, two = (read_json(w.data / "generation_summary.json") for w in (workspace, second))
    assert found.summary is not None
    assert (found.summary.produced, found.summary.pairs) == (64, one["pairs"] + two["pairs"])
    assert found.summary.by_principle["clear"].assigned == 8
    assert found.summary.diversity is not None
    assert found.summary.diversity.as_json() == one["diversity"]
    pairs = records(report_page(workspace))["pairs"]
    assert len(pairs) == 64
    assert [record["f"]["round"] for record in pairs].count(["round 2"]) == 24


def test_sft_before_dpo_is_shown_with_the_dpo_that_follows_it(small: RunFolder) -> None:
    """Both phases count their steps from one, in one step of the run; a resumed one goes on in its phase."""
    newest = sorted(small.logs.glob("*Z.jsonl"))[-1]

    def log(name: str, phase: int, numbers: range) -> None:
        events = EventLog(small.logs / f"{name}.jsonl", name)
        events.emit(StepStarted(step="train", timeout=9))
        for number in numbers:
            events.emit(TrainStep(step="train", number=number, phase=phase, figures={"loss": 9.0 - phase}))

    newest.unlink()
    log("20260103T000000Z", 0, range(1, 5))
    log("20260104T000000Z", 1, range(1, 4))
    log("20260105T000000Z", 1, range(3, 6))
    run = read_json(small.results / "run.json")
    run["manifest"]["config"]["training.method"]["value"] = "sft+dpo"
    (small.results / "run.json").write_text(json.dumps(run))
    found = load(small)
    assert [(row.event.phase, row.event.number) for row in found.training] == [(0, n) for n in range(1, 5)] + [
        (1, n) for n in range(1, 6)
    ]
    picture = pictures(found)[0]
    assert picture.table is not None
    assert [row[0] for row in picture.table.rows] == [f"{n} ({'DPO' if n > 4 else 'SFT'})" for n in range(1, 10)]
    assert " SFT<" in picture.svg
    assert " DPO<" in picture.svg
    log("20260106T000000Z", 0, range(1, 3))
    assert [(row.event.phase, row.event.number) for row in load(small).training] == [(0, 1), (0, 2)]


def test_a_long_training_keeps_all_points_in_the_plot_and_says_so_in_the_table(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    train(workspace, load_suite("quick"), steps=900)
    table = pictures(load(workspace))[0].table
    assert table is not None
    assert len(table.rows) == 40
    assert (table.rows[0][0], table.rows[-1][0]) == ("1", "900")
    assert "40 of 900 steps" in table.note


@pytest.mark.parametrize("count", [1, 2, 39, 40, 41, 5000])
def test_thinning_keeps_first_and_last(count: int) -> None:
    kept = [row[0] for row in thinned([[n] for n in range(count)])]
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert kept == sorted(set(kept))


def test_infinite_losses_leave_a_gap_and_no_error(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    events = EventLog(workspace.logs / "20260101T000000Z.jsonl", "r")
    for number, loss in enumerate((1.0, float("nan"), float("inf"), 0.5), 1):
        events.emit(TrainStep(step="train", number=number, figures={"loss": loss}))
    path = workspace.logs / "20260102T000000Z.jsonl"
    path.write_text('{"event": "train_step", "number": 5, "figures": {"loss": NaN}}\n')
    assert "Loss" in report_page(workspace)
