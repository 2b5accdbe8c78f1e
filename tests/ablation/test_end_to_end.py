"""`cai ablate` with a tiny model on the CPU: processes, training, evaluation on dev, table, plot, JSON, and again."""

import json
from pathlib import Path

import pytest
from stubs import Cai

SET = Path(__file__).parent / "small.yaml"


@pytest.mark.slow
def test_a_small_set_runs_reports_its_failure_and_is_finished_the_second_time(
    tiny: Path, tiny_suites: tuple[Path, Path], tmp_path: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CAI_FAST", "false")  # no process waits for steps that end before it is there
    small = {
        "evaluation.dev_suite": tiny_suites[1], "evaluation.max_new_tokens": 8, "generation.max_new_tokens": 8,
        "generation.critique_tokens": 8, "generation.chunk": 8, "generation.batch_size": 8, "generation.shots": 2,
        "generation.candidates": 2, "training.batch_size": 2, "training.lora_r": 4, "training.watch_every": 0,
    }  # fmt: skip
    command = ["ablate", "--base-dir", tmp_path, "--model", tiny, "--set-file", SET, "--count", 48,
               "--select", "critic", "--only", "constitution,sft,broken"]  # fmt: skip
    for key, value in small.items():
        command += ["--set", f"{key}={value}"]
    code, _, said = cai(*command)
    content = json.loads((tmp_path / "results" / "ablation.json").read_text())
    found = {entry["name"]: entry for entry in content["variations"]}
    assert code == 1
    assert "not finished: broken" in said
    assert {name: entry["status"] for name, entry in found.items()} == {
        "shared": "done", "constitution": "done", "sft": "done", "broken": "failed",
    }  # fmt: skip
    assert "100000 are needed to train" in found["broken"]["message"]
    rows = {row["row"]: row for row in found["sft"]["rows"]}
    assert rows["strict"]["total"] == 8
    assert rows["strict"]["wilson"][0] <= rows["strict"]["rate"] <= rows["strict"]["wilson"][1]
    assert (tmp_path / "results" / "ablation.svg").exists()
    again = ["constitution" if part == "constitution,sft,broken" else part for part in command]
    code, shown, _ = cai(*again, "--json")
    assert code == 0
    assert {entry["name"]: entry["seconds"] for entry in json.loads(shown)["variations"]}["constitution"] == (
        found["constitution"]["seconds"]
    )
