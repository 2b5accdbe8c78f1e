"""The constitution stage in real processes without a model: time-outs, kills, the lock, exit codes, two stages."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from processes import alive, processes_of, run, start
from recorder import Recorder
from test_constitution_stage import Workbench, untrained
from test_supervision import ready

from cai_bootstrap.events import EventLog, StepSkipped, StepStarted, TrainingStarted, TrainStep
from cai_bootstrap.files import sha256_file
from cai_bootstrap.measuring.stage_verdicts import results_file
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.run.provenance import manifest
from cai_bootstrap.shipped import shipped

THANKS = shipped("examples/constitutions/thanks.yaml")
STAGE = ("--stage", "constitution", "--constitution", THANKS)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "base"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    return Workbench(tmp_path / "base", monkeypatch)


def record(base: Path) -> dict[str, Any]:
    """How the last run of the stage ended."""
    found: dict[str, Any] = json.loads(RunFolder.at(base, stage=CONSTITUTION).record.read_text())
    return found


def bytes_under(base: Path) -> dict[str, str]:
    """Every file under a base directory with its hash; locks aside, which belong to nobody."""
    files = (path for path in base.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(base)): sha256_file(path) for path in files}


def test_a_step_of_the_stage_ends_at_its_limit_with_124_and_keeps_what_it_has(base: Path) -> None:
    code, said = run("run", *STAGE, "--base-dir", base, "--timeout", "train=1", fake=True, FAKE_TRAIN="polite")
    assert code == 124
    assert "the step 'train' was ended at its time limit of 1 s" in said
    ended = record(base)
    assert (ended["verdict"], ended["exit_code"], ended["steps"]["train"]["status"]) == ("error", 124, "failed")
    assert (base / "data/constitution/kept.txt").exists()
    assert processes_of(base) == []


def test_a_killed_run_of_the_stage_leaves_no_process_and_the_next_goes_on_at_once(base: Path) -> None:
    parent = start("run", *STAGE, "--base-dir", base, fake=True, FAKE_GENERATE="stubborn")
    pids = ready(base, parent)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    code, _ = run("generate", *STAGE, "--base-dir", base, fake=True)
    assert code == 0
    assert not any(alive(pid) for pid in pids)


def test_the_stages_of_one_base_directory_share_its_lock_and_the_second_ends_with_75(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="polite")
    ready(base, parent)
    code, said = run("run", *STAGE, "--base-dir", base, fake=True)
    assert code == 75
    assert f"process {parent.pid}" in said
    assert not (base / "results/constitution_run.json").exists()
    os.kill(parent.pid, signal.SIGINT)
    parent.communicate(timeout=60)
    assert parent.returncode == 130


@pytest.mark.parametrize("code", [1, 2, 4])
def test_a_steps_exit_code_becomes_that_of_the_stage(base: Path, code: int) -> None:
    ended, said = run("run", *STAGE, "--base-dir", base, fake=True, FAKE_GENERATE=f"fail:{code}")
    assert (ended, record(base)["exit_code"]) == (code, code)
    assert "error: generate failed as told" in said
    assert not (base / "results/run.json").exists()


@pytest.mark.parametrize(("holds", "code", "verdict"), [(True, 0, "held"), (False, 3, "not_held")])
def test_an_enforced_gate_decides_the_exit_code_of_the_stage(
    bench: Workbench, base: Path, monkeypatch: pytest.MonkeyPatch, holds: bool, code: int, verdict: str
) -> None:
    """A whole evaluation, judged by `cai run` after steps that do nothing; without --enforce-gate it is told only."""
    if not holds:
        monkeypatch.setattr("test_constitution_stage.thanking", untrained)
    bench.run(control="none", steering__beside=False)
    kept = {"FAKE_EVALUATE": f"results:{results_file(bench.workspace)}"}
    given = ("run", *STAGE, "--base-dir", base, "--train-anyway")
    assert run(*given, "--enforce-gate", fake=True, **kept)[0] == code
    assert (record(base)["verdict"], record(base)["exit_code"]) == (verdict, code)
    assert record(base)["reuse"]["found"] == 24  # prompts, of the 1,000 that this command line would take at most
    assert run(*given, fake=True, **kept)[0] == 0


def test_a_results_file_of_the_stage_that_was_changed_by_hand_ends_with_4(bench: Workbench, base: Path) -> None:
    bench.run(control="none", steering__beside=False)
    path = results_file(bench.workspace)
    results = json.loads(path.read_text())
    for item in results["items"]:
        item["trained"]["response"] = "It is made of wood."
    path.write_text(json.dumps(results))
    given = ("run", *STAGE, "--base-dir", base, "--train-anyway")
    code, said = run(*given, fake=True, FAKE_EVALUATE=f"results:{path}")
    assert (code, record(base)["exit_code"]) == (4, 4)
    assert path.name in said


def test_two_stages_in_one_base_directory_leave_each_others_files_byte_for_byte(bench: Workbench, base: Path) -> None:
    own = RunFolder.at(base).create()
    first = [*own.round_data(1).outputs().values(), *own.round_data(2).outputs().values(), own.round_data(1).identity,
             own.baseline, own.elicitation, own.elicitable, own.model, own.preflight, own.record,
             own.marker("train"), own.marker("train", 2), own.evaluation("2026-11-22T10:31:00Z"),
             own.adapter("f" * 64) / "TRAINING_SUCCESS", own.partial("evaluate-0123") / "trained.jsonl",
             own.partial("baseline-0123") / "base.jsonl"]  # fmt: skip
    for path in first:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    before = bytes_under(base)
    assert len(before) == len(first)
    bench.run()
    after = bytes_under(base)
    assert {name: after.get(name) for name in before} == before

    run("run", "--base-dir", base, "--train-anyway", fake=True, FAKE_GENERATE="fail:1")  # Stage 1, in a process
    end = bytes_under(base)
    stage = {name: sha256 for name, sha256 in after.items() if name not in before}
    assert len(stage) > 20
    assert {name: end.get(name) for name in stage} == stage


def test_a_pulled_evaluation_of_the_stage_stands_in_this_ledger_once(
    bench: Workbench, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap.measuring.ledger import openings
    from cai_bootstrap.pod.deploy import note_openings

    bench.run(control="none", steering__beside=False)
    asked = json.loads(results_file(bench.workspace).read_text())["prompts"]
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "here"))
    for _ in range(2):
        note_openings(base)
    found = openings(asked["sha256"])
    assert sorted(opening.what for opening in found) == ["baseline", "evaluation"]
    assert {opening.suite for opening in found} == {asked["name"]}
    assert all(opening.elsewhere is not None for opening in found)


def test_a_tracker_is_told_each_principles_rates(bench: Workbench) -> None:
    from cai_bootstrap.tracking.rates import step_figures

    bench.run(steering__beside=False)
    made, told = (step_figures(bench.workspace, step, 1) for step in ("generate", "evaluate"))
    rates = {name: told[f"thanks/{name}"] for name in ("base", "rival", "trained", "control")}
    assert (rates["base"], rates["trained"], rates["control"]) == (0.0, 1.0, 0.0)
    assert step_figures(bench.workspace, "baseline", 1) == {f"thanks/{arm}": rates[arm] for arm in ("base", "rival")}
    assert (
        made["data/pairs"] == made["thanks/pairs"] == len(bench.workspace.round_data(1).pairs.read_text().splitlines())
    )


def test_a_skipped_training_is_told_as_the_constitutions_and_the_controls(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap.run.markers import read_outputs
    from cai_bootstrap.tracking import follow

    bench.run("prepare", "generate", "train")
    outputs = read_outputs(bench.workspace, "train")
    assert outputs is not None
    log = EventLog(bench.workspace.events("20261129T100000Z"), "20261129T100000Z")
    log.emit(StepStarted(step="train", timeout=9))
    for name, steps in (("success", 2), ("control-success", 5)):
        log.emit(TrainingStarted(step="train", adapter=outputs.path(name).parent.name))
        for number in range(1, steps + 1):
            log.emit(TrainStep(step="train", number=number, phase=0, figures={"loss": 1.0}))
    newer = EventLog(bench.workspace.events("20261129T110000Z"), "20261129T110000Z")
    newer.emit(StepStarted(step="train", timeout=9))
    newer.emit(StepSkipped(step="train"))
    recorder = Recorder().install(monkeypatch)
    follow.Follower("trackio", bench.workspace, bench.context().config, "20261129T110000Z").tell()
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2]
    assert [step for step, _ in recorder.curve("control/train/loss")] == [3, 4, 5, 6, 7]


def test_the_manifest_names_the_data_of_the_constitution_and_of_its_control(bench: Workbench) -> None:
    from cai_bootstrap.config import Resolved

    bench.run(steering__beside=False)
    made = manifest(Resolved(config=bench.context().config, origins={}), bench.workspace)
    for folder in ("data/constitution", "data/constitution/control"):
        for name in ("responses.jsonl", "critiques-1.jsonl", "revisions-1.jsonl", "preference_pairs.jsonl"):
            assert f"{folder}/{name}" in made.files
    assert made.data["produced"] == 24
    assert sum(name.startswith("checkpoints/constitution/") for name in made.files) == 2
