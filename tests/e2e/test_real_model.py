"""`cai run --quick-test` on the embedded real model; again, with every step skipped; and its model in hand."""

import json
import os
import shutil
from pathlib import Path

import pytest
from processes import run, run_json
from stubs import Cai, rows_of

from cai_bootstrap.inference.models import prepare

REAL_CACHE = Path(os.environ.get("CAI_CACHE_DIR") or Path.home() / ".cache" / "cai-bootstrap")
# CI has just made such a run with `make run` and names its base directory: a copy of it is gone on with.
MADE = os.environ.get("QUICK_TEST_RUN")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of the test's own that shares the converted model with the user's."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("models", "sources"):
        (REAL_CACHE / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(REAL_CACHE / name)
    return folder


@pytest.mark.slow
def test_quick_test_on_the_real_model_and_again(
    tmp_path: Path, cache: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, command = tmp_path / "base", ["run", "--quick-test", "--base-dir", tmp_path / "base"]
    if MADE:
        shutil.copytree(MADE, base)
        command += ["--precision", "auto", "--set", "pairs.min_pairs=4"]  # as `make run` made it
    else:  # two items choose the rival, which may well follow both
        command += ["--train-anyway", "--set", "evaluation.elicit_items=2"]
        code, said = run(*command, CAI_CACHE_DIR=str(cache))
        assert code == 0, said
        assert "passed" not in said
        assert "looks chat-tuned" not in said
    first = run_json(base)
    print({name: step["seconds"] for name, step in first["steps"].items()})
    baseline = json.loads((base / "results/baseline_assessment.json").read_text())
    checked = baseline["run"]["base_model_check"]
    assert (checked["has_chat_template"], checked["looks_tuned"]) == (False, False)
    assert first["verdict"] == "not_enforced"
    assert len(rows_of(base / "data/stage1/instructions.jsonl")) == 16
    results_file = base / "results" / first["results_file"]
    results = json.loads(results_file.read_text())
    assert (results["suite"]["name"], results["suite"]["n"]) == ("quick", 24)
    assert results["gate"]["enforced"] is False
    code, again = run(*command, CAI_CACHE_DIR=str(cache))
    second = run_json(base)
    assert code == 0, again
    assert "passed" not in again
    assert all(step["skipped"] for step in second["steps"].values())
    assert (second["verdict"], second["message"]) == (first["verdict"], first["message"])
    assert sum(step["seconds"] for step in second["steps"].values()) < 60
    passed = results["models"]["trained"]["successes"] * 100 >= 95 * 24
    assert cai("gate", results_file)[0] == (0 if passed else 3)
    _the_model_in_hand(base, tmp_path / "out", cai, monkeypatch, cache)
    results["models"]["trained"]["success_rate"] = 0.0123
    results_file.write_text(json.dumps(results))
    assert cai("gate", results_file)[0] == 4


def _the_model_in_hand(base: Path, out: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """With the base directory alone: what `cai ask` says, transformers and PEFT say with the export."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("CAI_CACHE_DIR", str(cache))
    question = "What is the capital of France?"
    code, said, error = cai("ask", "--json", "--base-dir", base, question)
    assert code == 0, error
    (asked,) = json.loads(said)
    assert set(asked["answers"]) == {"base", "prompted", "trained"}
    code, said, error = cai("export", "--base-dir", base, "--to", out)
    assert code == 0, error
    assert run_json(base)["results_file"] in said
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    conditions = json.loads((base / "results" / run_json(base)["results_file"]).read_text())["conditions"]
    weights = {"fp32": torch.float32, "bf16": torch.bfloat16}[conditions["precision"]]
    untrained = AutoModelForCausalLM.from_pretrained(prepare("gemma-3-270m").path, dtype=weights)
    model = PeftModel.from_pretrained(untrained, out / "model")
    inputs = tokenizer(f"{question}\n", return_tensors="pt")
    output = model.eval().generate(**inputs, do_sample=False, max_new_tokens=conditions["max_new_tokens"])
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == asked["answers"]["trained"]["text"]
