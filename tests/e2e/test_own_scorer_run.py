"""A whole run that a scorer of the user's own judges: by consent, and by the recorded source alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from own_scorers import HEAD
from processes import run
from test_tiny_run import arguments
from tiny import make_suite

from cai_bootstrap.files import sha256_file
from cai_bootstrap.judging.own.sources import read_source, trust

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.usefixtures("nothing_trusted")]
SHORT = HEAD + (
    "@scorer\ndef short(instruction: str, output: str, *, most: int) -> bool:\n    return len(output.split()) <= most\n"
)


def own_suite(path: Path, split: str) -> Path:
    rows = [json.loads(line) for line in make_suite(path, split).read_text().splitlines()]
    own: dict[str, Any] = {"scorer": "short.py:short", "args": {"most": 5}, "gold": ["It is a word."]}
    path.write_text("".join(json.dumps(row | own) + "\n" for row in rows))
    return path


def test_a_run_is_judged_by_a_scorer_of_ones_own(tmp_path: Path, tiny: Path) -> None:
    module = tmp_path / "short.py"
    module.write_text(SHORT, encoding="utf-8")
    suites = own_suite(tmp_path / "test.jsonl", "test"), make_suite(tmp_path / "dev.jsonl", "dev")
    base = tmp_path / "base"
    command = arguments(base, tiny, suites)
    code, said = run(*command)
    assert code == 2, said
    assert "not trusted on this machine" in said
    assert not base.exists(), "nothing was begun"

    trust(read_source(module))
    code, said = run(*command)
    assert code in (0, 3), said
    (results,) = (base / "results").glob("stage1_evaluation_*Z.json")
    whole = json.loads(results.read_text())
    assert whole["conditions"]["own_scorers"] == {"short.py": sha256_file(module)}
    assert any(item["trained"]["first_line_reason"] in ("ok", "short.py:short") for item in whole["items"])
    assert run("gate", results, "--suite", suites[0])[0] == code
    assert run("report", "--base-dir", base)[0] == 0

    module.write_text(SHORT.replace("<=", "<"), encoding="utf-8")
    assert run("gate", results, "--suite", suites[0])[0] == 2
    trust(read_source(module))
    refused, said = run("gate", results, "--suite", suites[0])
    assert refused == 4, said
    assert "short.py has the source" in said
    code, said = run(*command)
    assert code in (0, 3), said
    assert "generate: skipped" in said, "a mended scorer asks for no other data"
    assert "train: skipped" in said
    newest = max((base / "results").glob("stage1_evaluation_*Z.json"))
    assert json.loads(newest.read_text())["conditions"]["own_scorers"] == {"short.py": sha256_file(module)}
