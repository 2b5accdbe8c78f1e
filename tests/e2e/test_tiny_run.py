"""Whole runs of a tiny model in processes of their own: killed, interrupted, resumed (C2.4, C5)."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from once import made_once
from processes import alive, executed, plant, processes_of, run, run_json, start, wait_for
from stubs import Cai
from tiny import make_model, make_suite

pytestmark = pytest.mark.slow

Suites = tuple[Path, Path]


def arguments(base: Path, tiny: Path, suites: Suites, *more: str) -> list[object]:
    settings = (
        "pairs.min_pairs=1", "generation.chunk=4", "generation.batch_size=8", "generation.max_new_tokens=12",
        "generation.critique_tokens=8", "generation.candidates=2", "generation.shots=2", "training.max_steps=8",
        "training.batch_size=2", "training.save_every=2", "training.lora_r=4", "training.watch_every=4",
        "evaluation.max_new_tokens=8", "evaluation.elicit_items=4", f"evaluation.dev_suite={suites[1]}", "threads=1",
    )  # fmt: skip
    return [
        "run", "--base-dir", base, "--model", tiny, "--suite", suites[0], "--count", "24", "--select", "critic",
        "--train-anyway", *(word for setting in settings for word in ("--set", setting)), *more,
    ]  # fmt: skip


def pairs_sha256(base: Path) -> str:
    return hashlib.sha256((base / "data/stage1/preference_pairs.jsonl").read_bytes()).hexdigest()


def marker(base: Path) -> dict[str, Any]:
    path = next((base / "checkpoints/stage1").glob("*/TRAINING_SUCCESS"))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def events(base: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((base / "logs").glob("*Z.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, suites, and an uninterrupted run, which ends at the gate (3): random weights follow little.

    It is started among the user's own modules, and with an empty entry on the path, which is the same folder.
    """

    def make(folder: Path) -> None:
        suites = make_suite(folder / "test.jsonl", "test"), make_suite(folder / "dev.jsonl", "dev")
        command = arguments(folder / "base", make_model(folder / "model"), suites)
        code, said = run(*command, cwd=plant(folder / "here"), PYTHONPATH=f":{folder / 'elsewhere'}")
        assert code == 3, said
        assert "Stage 1 FAILED" in said

    return made_once(tmp_path_factory, "whole-run", make)


@pytest.fixture(scope="module")
def tiny(made: Path) -> Path:
    return made / "model"


@pytest.fixture(scope="module")
def tiny_suites(made: Path) -> Suites:
    return made / "test.jsonl", made / "dev.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Path:
    """This process's copy of the uninterrupted run."""
    return shutil.copytree(made / "base", tmp_path_factory.mktemp("whole") / "base")


def test_no_process_of_a_run_executes_what_lies_in_the_current_directory(made: Path) -> None:
    """Nor does it end the run: `made` has come to the gate."""
    assert executed(made / "here") == []


def test_the_plain_path_makes_the_same_data_and_reaches_the_same_loss_and_verdict(
    tmp_path: Path, tiny: Path, tiny_suites: Suites, whole: Path
) -> None:
    base = tmp_path / "base"
    code, said = run(*arguments(base, tiny, tiny_suites, "--set", "fast=false"))
    assert code == 3, said
    assert pairs_sha256(base) == pairs_sha256(whole)
    assert marker(base)["final_loss"] == pytest.approx(marker(whole)["final_loss"], rel=1e-4)
    assert run_json(base)["message"] == run_json(whole)["message"]


def test_c5_killed_in_generation_and_in_training_it_ends_as_if_it_had_not_been(
    tmp_path: Path, tiny: Path, tiny_suites: Suites, whole: Path
) -> None:
    """SIGKILL of the parent during generation, SIGKILL of the step during training; then to the end."""
    base = tmp_path / "base"
    command = arguments(base, tiny, tiny_suites)
    parent = start(*command)
    wait_for(lambda: lines(base / "data/stage1/responses.jsonl") > 0, seconds=200, what="the first responses")
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    wait_for(lambda: processes_of(base) == [], seconds=5, what="the end of every process of the run")
    assert not (base / "data/stage1/preference_pairs.jsonl").exists()

    parent = start(*command)  # at once
    complete = wait_for(
        lambda: [*base.glob("checkpoints/stage1/*/work/*/checkpoint-*/COMPLETE")] or parent.poll() is not None,
        seconds=200, what="a checkpoint",
    )  # fmt: skip
    assert complete is not True, parent.communicate()[0]
    for pid in [pid for pid in processes_of(base) if pid != parent.pid]:
        os.kill(pid, signal.SIGKILL)
    said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "the step 'train' ended with code 137" in said
    assert not list(base.rglob("TRAINING_SUCCESS"))

    code, said = run(*command)
    assert code == 3, said
    assert pairs_sha256(base) == pairs_sha256(whole)
    assert marker(base)["final_loss"] == pytest.approx(marker(whole)["final_loss"], rel=1e-4)
    steps = run_json(base)["steps"]
    assert [steps[name]["skipped"] for name in ("prepare", "baseline", "generate", "train")] == [
        True,
        True,
        True,
        False,
    ]
    resumed = [e["message"] for e in events(base) if e["event"] == "notice" and "going on from step" in e["message"]]
    assert len(resumed) == 1
    assert run_json(base)["message"] == run_json(whole)["message"]


def test_c5_a_finished_run_is_skipped_step_by_step_and_gives_the_same_verdict(
    tiny: Path, tiny_suites: Suites, whole: Path, cai: Cai
) -> None:
    before = run_json(whole)
    results = whole / "results" / before["results_file"]
    content = results.read_bytes()
    code, said = run(*arguments(whole, tiny, tiny_suites))
    assert code == 3
    assert all(step["skipped"] for step in run_json(whole)["steps"].values()), said
    assert (run_json(whole)["verdict"], run_json(whole)["message"]) == (before["verdict"], before["message"])
    assert results.read_bytes() == content
    assert cai("gate", results, "--suite", tiny_suites[0])[0] == 3


def test_show_it_2_the_gate_on_a_runs_own_results(tmp_path: Path, tiny_suites: Suites, whole: Path, cai: Cai) -> None:
    """As they are; one rate lowered by hand; one raised; the file truncated."""
    text = (whole / "results" / run_json(whole)["results_file"]).read_text()
    rate = json.loads(text)["models"]["trained"]["success_rate"]
    for name, content, expected in (
        ("as_it_is", text, 3),
        ("lowered", json.dumps(_with_rate(text, rate - 0.05)), 4),
        ("raised", json.dumps(_with_rate(text, 0.99)), 4),
        ("truncated", text[: len(text) // 2], 4),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(content)
        assert cai("gate", path, "--suite", tiny_suites[0])[0] == expected, name


def _with_rate(text: str, rate: float) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(text)
    results["models"]["trained"]["success_rate"] = rate
    return results


def test_a_changed_adapter_is_refused_and_removing_it_trains_again(
    tmp_path: Path, tiny: Path, tiny_suites: Suites, whole: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(whole, base)
    adapter = next(base.glob("checkpoints/stage1/*/adapter_model.safetensors"))
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    code, said = run(*arguments(base, tiny, tiny_suites))
    assert code == 4
    assert "adapter_model.safetensors was changed after training ended; remove that folder and train again" in said
    shutil.rmtree(adapter.parent)
    code, said = run(*arguments(base, tiny, tiny_suites))
    assert code == 3
    assert run_json(base)["steps"]["train"]["skipped"] is False
    weights = "adapter_model.safetensors"
    assert marker(base)["files"][weights] == marker(whole)["files"][weights]


def test_interrupted_terminated_timed_out_and_locked_then_finished(
    tmp_path: Path, tiny: Path, tiny_suites: Suites, whole: Path
) -> None:
    """One base directory through all of it: what was finished is kept each time, and the pairs come out the same."""
    base = tmp_path / "base"
    command = arguments(base, tiny, tiny_suites)
    responses = base / "data/stage1/responses.jsonl"

    parent = start(*command)
    wait_for(lambda: lines(responses) > 0, seconds=200, what="the first responses")
    code, said = run(*command)
    assert code == 75
    assert f"process {parent.pid}" in said
    os.kill(parent.pid, signal.SIGINT)
    said, _ = parent.communicate(timeout=100)
    assert parent.returncode == 130, said
    kept = responses.read_bytes()
    assert kept.endswith(b"\n")

    parent = start(*command)
    pids = wait_for(lambda: [p for p in processes_of(base) if p != parent.pid], what="a step")
    os.kill(parent.pid, signal.SIGTERM)
    parent.communicate(timeout=100)
    assert parent.returncode == 143
    assert not any(alive(pid) for pid in pids)

    code, said = run(*command, "--timeout", "generate=1")
    assert code == 124
    assert "the step 'generate' was ended at its time limit of 1 s" in said
    assert responses.read_bytes().startswith(kept)

    code, said = run(*command, "--set", "timeouts.generate=600")
    assert code == 3, said
    assert pairs_sha256(base) == pairs_sha256(whole)


def test_a_base_that_ships_a_chat_template_is_a_base_and_the_template_is_told_and_recorded(
    tmp_path: Path, tiny_suites: Suites
) -> None:
    instruct = make_model(tmp_path / "instruct", chat_template=True)
    for flags, expected in (((), True), (("--allow-instruct",), False)):
        base = tmp_path / f"base{expected}"
        code, said = run(
            "baseline",
            *arguments(base, instruct, tiny_suites, "--set", "evaluation.elicit=false", "--set", "fast=false", *flags)[
                1:
            ],
        )
        assert code == 0, said
        assert "looks chat-tuned" not in said
        assert ("ships a chat template, which is not used; " in said) is expected
        recorded = json.loads((base / "results/baseline_assessment.json").read_text())
        check = recorded["run"]["base_model_check"]
        assert (check["looks_tuned"], check["has_chat_template"]) == (False, True)


def test_a_later_round_asks_its_own_number_of_fresh_instructions(
    tmp_path: Path, tiny: Path, tiny_suites: Suites
) -> None:
    base = tmp_path / "base"
    more = [word for setting in ("training.rounds=2", "training.min_gain=0", "generation.later_count=16",
                                 "generation.samples=2", "fast=false") for word in ("--set", setting)]  # fmt: skip
    code, said = run(*arguments(base, tiny, tiny_suites, *more, "--select", "critic+constraint+agreement"))
    assert code == 3, said
    data = base / "data/stage1"
    first, second = (
        {json.loads(line)["instruction"] for line in (folder / "instructions.jsonl").open()}
        for folder in (data, data / "round-2")
    )
    assert (len(first), len(second)) == (24, 16)
    assert not first & second
    summary = json.loads((data / "round-2/generation_summary.json").read_text())
    assert sum(n["asked"] for n in summary["by_skill"].values()) == summary["produced"] == 16
    pairs = [json.loads(line) for line in (data / "round-2/preference_pairs.jsonl").open()]
    assert all(pair["label_source"] in {"constraint", "agreement", "critic"} for pair in pairs)
