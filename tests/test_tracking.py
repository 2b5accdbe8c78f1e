"""Telling a run to a tracker: the real libraries, on this machine only, and what is said when there is none."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for
from stubs import Cai

from cai_bootstrap.config import RunConfig
from cai_bootstrap.events import newest_training
from cai_bootstrap.files import write_json
from cai_bootstrap.pipeline import RunOutcome
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.record import StepRecord
from cai_bootstrap.tracking import track_run, training_curves

STEP = StepRecord(status="done", seconds=1.0, skipped=False)
FAILED = RunOutcome("failed", 3, {"train": STEP}, message="Stage 1 FAILED: 25.0% of 8")


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """What a run of two phases leaves of its curves, its result and its report."""
    workspace = RunFolder.at(tmp_path / "work").create()
    rows: list[dict[str, Any]] = [{"event": "step_started", "step": "train"}]
    rows.append({"event": "watch", "step": "train", "number": 0, "strict_rate": 0.0, "eos_rate": 0.0})
    for phase in range(2):
        for number in (1, 2):
            figures = {"loss": 2.0 - phase - number / 10, "nll": 1.0}
            rows.append({"event": "train_step", "step": "train", "number": number, "phase": phase, "figures": figures})
    rows.append({"event": "watch", "step": "train", "number": 2, "phase": 1, "strict_rate": 0.25, "eos_rate": 0.5})
    log = workspace.logs / "20260101T000000Z.jsonl"
    log.write_text("".join(json.dumps({"at": "now", "run": log.stem, **row}) + "\n" for row in rows) + '{"torn')
    results = workspace.results / "stage1_evaluation_x.json"
    write_json(results, {"statistics": {"rates": {"trained": {"success_rate": 0.25}, "base": {"success_rate": 0.125}}}})
    (workspace.results / "report.html").write_text("<title>report</title>")
    return workspace


def told(name: str, workspace: RunFolder) -> str:
    outcome = replace(FAILED, results_file=workspace.results / "stage1_evaluation_x.json")
    return track_run(name, workspace, RunConfig(), outcome, workspace.results / "report.html")


def test_phases_follow_on_and_a_look_stands_at_the_step_it_was_made(finished: RunFolder) -> None:
    curves = list(training_curves(newest_training(finished.event_files())))
    assert [step for step, _ in curves] == [0, 1, 2, 3, 4, 4]
    assert curves[3] == (3, {"train/loss": pytest.approx(0.9), "train/nll": 1.0})
    assert curves[5][1] == {"watch/strict_rate": 0.25, "watch/eos_rate": 0.5}


def test_a_run_that_went_on_after_its_training_tells_the_curves_and_one_without_training_none(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`steps` names a training that was skipped, since it was finished before, but none that the run did not have."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (finished.logs / "20260102T000000Z.jsonl").write_text('{"event": "run_started", "steps": ["train", "evaluate"]}\n')
    assert "run 20260102T000000Z, 4 training steps" in told("wandb", finished)
    assert list(training_curves([])) == []
    monkeypatch.setattr(FAILED, "steps", {"baseline": STEP})
    assert "run 20260102T000000Z, 0 training steps" in told("wandb", finished)


def test_trackio_gets_settings_curves_verdict_and_report(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its local database, read back with sqlite itself."""
    import trackio
    from trackio import utils

    for module in [trackio.sqlite_storage, utils, trackio]:
        for name in ("TRACKIO_DIR", "MEDIA_DIR"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / "trackio" / ("media" if name == "MEDIA_DIR" else ""))
    said = told("trackio", finished)
    assert "4 training steps" in said
    found = list((tmp_path / "trackio").rglob("*.db"))
    assert found, sorted(tmp_path.rglob("*"))
    rows = sqlite3.connect(found[0]).execute("select step, metrics from metrics order by step").fetchall()
    logged = [(step, json.loads(metrics)) for step, metrics in rows]
    assert {"train/loss": 1.9, "train/nll": 1.0}.items() <= dict(logged)[1].items()
    together: dict[str, Any] = {}
    for _, metrics in logged:
        together |= metrics
    assert together["success_rate/trained"] == 0.25
    assert together["exit_code"] == 3
    assert "Stage 1 FAILED" in json.dumps(together["verdict"])
    configs = sqlite3.connect(found[0]).execute("select config from configs").fetchall()
    assert json.loads(configs[0][0])["training"]["method"] == "joint"
    assert [path.name for path in (tmp_path / "trackio").rglob("report*.html")]


def test_wandb_gets_them_offline(finished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    told("wandb", finished)
    folder = next(finished.logs.glob("wandb/offline-run-*"))
    assert [path.read_text() for path in folder.rglob("report.html")] == ["<title>report</title>"]
    kept = next(folder.glob("*.wandb"))
    for expected in (b"train/loss", b"watch/eos_rate", b"success_rate/trained", b"Stage 1 FAILED", b"lora_alpha"):
        wait_for(lambda word=expected: word in kept.read_bytes(), seconds=20, what=f"{expected!r} in {kept}")
    assert wandb.run is None


def test_a_missing_tracker_is_an_error_before_anything_starts(
    cai: Cai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else find(name, *rest))
    code, _, said = cai("run", "--quick-test", "--track", "wandb", "--base-dir", tmp_path / "work")
    assert code == 2
    assert "--track wandb: it is not installed; run: pip install 'cai-bootstrap[track]'" in said
    assert not (tmp_path / "work").exists()


def test_a_tracker_that_fails_is_said_and_changes_nothing(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cai_bootstrap import tracking
    from cai_bootstrap.cli.run import _track

    def fail(*_: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(tracking, "track_run", fail)
    _track(RunConfig(track="trackio"), finished, FAILED, None)
    assert "WARNING: the run could not be told to trackio (ConnectionError: no route)" in capsys.readouterr().err
