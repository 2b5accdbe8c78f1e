"""CONTRACT C1: the commands and scripts that users know."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stubs import Cai, results_for, rows_of

from cai_bootstrap.judging.suite import load_suite

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "run_stage1_pipeline.py": "run",
    "baseline_assessment.py": "baseline",
    "generate_stage1_data.py": "generate",
    "train_stage1_dpo.py": "train",
    "evaluate_stage1.py": "evaluate",
}
SHARED = (
    "--preset", "--config", "--base-dir", "--data-dir", "--checkpoint-dir", "--results-dir", "--model", "--adapter",
    "--constitution", "--count", "--seed", "--precision", "--engine", "--timeout", "--json",
)  # fmt: skip


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_c1_scripts_run_from_any_directory_name_the_base_directory_and_create_nothing(
    tmp_path: Path, script: str
) -> None:
    base = tmp_path / "test"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--help"],
        cwd=tmp_path, env={**os.environ, "CAI_BASE_DIR": str(base), "COLUMNS": "200"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Base directory: {base}" in done.stdout
    assert all(flag in done.stdout for flag in SHARED)
    assert list(tmp_path.iterdir()) == []


def test_c1_scripts_are_a_few_lines() -> None:
    assert {path.name for path in (ROOT / "scripts").glob("*.py")} >= set(SCRIPTS)
    assert all(len((ROOT / "scripts" / name).read_text().splitlines()) <= 15 for name in SCRIPTS)


@pytest.mark.parametrize("command", SCRIPTS.values())
def test_c1_commands_share_the_flags_and_name_the_base_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cai: Cai, command: str
) -> None:
    monkeypatch.setenv("CAI_BASE_DIR", str(tmp_path / "b"))
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = cai(command, "--help")
    assert code == 0
    assert all(flag in out for flag in SHARED)
    assert str(tmp_path / "b") in out
    assert not (tmp_path / "b").exists()


def test_c1_the_base_directory_in_help_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cai: Cai) -> None:
    (tmp_path / "b").write_text("not a folder")
    monkeypatch.setenv("CAI_BASE_DIR", str(tmp_path / "b"))
    assert cai("run", "--help")[0] == 0


def test_c1_every_command_has_help_without_importing_torch() -> None:
    code = (
        "import sys\nfrom cai_bootstrap.cli import COMMANDS, HIDDEN, run_command\n"
        "for name in COMMANDS:\n    assert run_command([name, '--help']) == 0, name\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'scipy', 'statsmodels'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_c1_unknown_command_suggests_the_nearest(cai: Cai) -> None:
    code, _, err = cai("evalute")
    assert code == 2
    assert "Did you mean 'evaluate'?" in err


def test_c1_gate_fails_after_lowering_the_numbers_by_hand(tmp_path: Path, cai: Cai) -> None:
    path = tmp_path / "stage1_evaluation_20261122T000000Z.json"
    results = results_for(load_suite("quick"), 0)
    path.write_text(json.dumps(results))
    assert cai("gate", path)[0] == 0
    results["models"]["trained"]["success_rate"] = 0.5
    path.write_text(json.dumps(results))
    code, _, err = cai("gate", path)
    assert code == 4
    assert "models.trained.success_rate is 0.5, the responses give 1.0" in err


def test_c1_gate_prints_json(tmp_path: Path, cai: Cai) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(results_for(load_suite("quick"), 3)))
    code, out, _ = cai("gate", path, "--json")
    assert code == 3
    assert (json.loads(out)["passed"], json.loads(out)["successes"], json.loads(out)["total"]) == (False, 21, 24)


def test_c1_instructions_writes_n_rows_of_the_format(tmp_path: Path, cai: Cai) -> None:
    code, _, _ = cai("instructions", "--count", 10, "--out", tmp_path / "i.jsonl")
    assert code == 0
    rows = rows_of(tmp_path / "i.jsonl")
    assert len(rows) == 10
    assert all({"id", "type", "template", "instruction", "source"} <= set(row) for row in rows)


@pytest.mark.parametrize(
    ("kind", "ending"), [("respond", "Response:"), ("critique", "Critique:"), ("revise", "Better answer:")]
)
def test_c1_prompts_show_prints_the_exact_prompt(cai: Cai, kind: str, ending: str) -> None:
    code, out, _ = cai(
        "prompts", "show", kind, "--instruction", "Name a fruit.", "--response", "Pear", "--critique", "Fine."
    )
    assert code == 0
    assert out.endswith(f"{ending}\n")
    last = out.rsplit("\n\n", 1)[-1]
    assert "Instruction: Name a fruit." in last
    assert ("Answer: Pear" in last) is (kind != "respond")
    assert ("Critique: Fine." in last) is (kind == "revise")
    assert "<|" not in out


def test_c1_prompts_show_takes_the_constitution_and_the_principle(tmp_path: Path, cai: Cai) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("principles:\n  - {id: a, text: Be brief., category: s}\n  - {id: b, text: Be kind., category: s}\n")
    code, out, _ = cai("prompts", "show", "critique", "--instruction", "X?", "--constitution", own, "--principle", "b")
    assert code == 0
    assert out.rsplit("\n\n", 1)[-1].startswith("Principle: Be kind.\n")
    code, _, err = cai("prompts", "show", "critique", "--instruction", "X?", "--constitution", own, "--principle", "c")
    assert code == 2
    assert "no principle 'c'; known: a, b" in err
