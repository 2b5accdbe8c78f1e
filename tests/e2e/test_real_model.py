"""`cai run --quick-test` on the embedded real model, then again: every step is skipped and the verdict is the same."""

import json
import os
from pathlib import Path

import pytest
from processes import run, run_json
from stubs import Cai, rows_of

REAL_CACHE = Path(os.environ.get("CAI_CACHE_DIR") or Path.home() / ".cache" / "cai-bootstrap")


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
    base = tmp_path / "base"
    monkeypatch.delenv("OMP_NUM_THREADS")
    code, said = run("run", "--quick-test", "--base-dir", base, CAI_CACHE_DIR=str(cache))
    assert code == 0, said
    first = run_json(base)
    print({name: step["seconds"] for name, step in first["steps"].items()})
    assert first["verdict"] in {"not_enforced", "nothing_to_teach"}
    assert "passed" not in said
    assert first["verdict"] == "not_enforced", said
    assert len(rows_of(base / "data/stage1/instructions.jsonl")) == 16
    results_file = base / "results" / first["results_file"]
    results = json.loads(results_file.read_text())
    assert (results["suite"]["name"], results["suite"]["n"]) == ("quick", 24)
    assert results["gate"]["enforced"] is False
    code, again = run("run", "--quick-test", "--base-dir", base, CAI_CACHE_DIR=str(cache))
    second = run_json(base)
    assert code == 0, again
    assert all(step["skipped"] for step in second["steps"].values())
    assert (second["verdict"], second["message"]) == (first["verdict"], first["message"])
    assert sum(step["seconds"] for step in second["steps"].values()) < 60
    passed = results["models"]["trained"]["successes"] * 100 >= 95 * 24
    assert cai("gate", results_file)[0] == (0 if passed else 3)
    results["models"]["trained"]["success_rate"] = 0.0123
    results_file.write_text(json.dumps(results))
    assert cai("gate", results_file)[0] == 4
