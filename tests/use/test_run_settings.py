"""Whoever uses a run's model need not say again what the run was told."""

import json
from pathlib import Path

import pytest
from finished import Finished

from cai_bootstrap.cli import run_command
from cai_bootstrap.config import dump_yaml, resolve
from cai_bootstrap.events import EventLog, RunStarted
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.use.run_settings import as_the_run


def test_what_nobody_set_is_the_runs_and_what_was_set_is_kept(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    told: list[str] = []
    asked = resolve({"evaluation.max_new_tokens": 9}, environment={"CAI_SEED": "4"})
    assert as_the_run(asked, workspace, say=told.append) == asked.config
    ran = resolve(
        {"model": "owner/base", "evaluation.max_new_tokens": 48, "seed": 3, "training.epochs": 7},
        preset="gemma-270m-gpu",
        environment={},
    )
    (workspace.logs / "20260101T000000Z.config.yaml").write_text("model: an older one\n")
    newest = workspace.logs / "20260102T000000Z.config.yaml"
    newest.write_text(dump_yaml(ran.config))
    found = as_the_run(asked, workspace, say=told.append)
    assert (found.model, found.precision, found.evaluation.suite) == ("owner/base", "bf16", "stage1")
    assert (found.evaluation.max_new_tokens, found.seed) == (9, 4)
    assert found.training == asked.config.training
    newest.write_text("a_key_of_another_version: 1\n")
    assert as_the_run(asked, workspace, say=told.append) == asked.config
    assert len(told) == 1
    assert "a_key_of_another_version" in told[0]


def test_preparing_another_model_is_no_run_to_take_settings_from(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    for at, model, steps in (("01", "owner/base", ["prepare", "baseline"]), ("02", "owner/other", ["prepare"])):
        name = f"202601{at}T000000Z"
        ran = resolve({"model": model}, environment={})
        (workspace.logs / f"{name}.config.yaml").write_text(dump_yaml(ran.config))
        EventLog(workspace.logs / f"{name}.jsonl", name).emit(RunStarted(steps=steps))
    assert as_the_run(resolve(environment={}), workspace, say=print).model == "owner/base"


def test_ask_and_export_need_the_base_directory_alone(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in finished.environment:
        monkeypatch.delenv(name, raising=False)
    config = finished.workspace.logs / "20260101T000000Z.config.yaml"
    config.write_text(dump_yaml(finished.config))
    try:
        base = str(finished.workspace.base)
        assert run_command(["ask", "--json", "--base-dir", base, "Say one word only."]) == 0
        (asked,) = json.loads(capsys.readouterr().out)
        assert set(asked["answers"]) == {"base", "prompted", "trained"}
        assert asked["adapter"] == finished.checkpoint.sha256
        assert asked["answers"]["trained"]["tokens"] <= 12
        assert run_command(["export", "--base-dir", base, "--to", str(tmp_path / "out")]) == 0
        assert f"measured: {finished.results_file.name}" in capsys.readouterr().out
    finally:
        config.unlink()
