"""`cai instructions`."""

import json
from pathlib import Path

from click.testing import CliRunner

from cai_bootstrap.cli.instructions import instructions
from cai_bootstrap.files import read_jsonl
from cai_bootstrap.records import Instruction


def test_the_file_holds_exactly_the_asked_count_and_the_json_says_so(tmp_path: Path) -> None:
    out = tmp_path / "made" / "instructions.jsonl"
    result = CliRunner().invoke(instructions, ["--count", "37", "--out", str(out), "--seed", "5", "--json"])
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert len(list(read_jsonl(out, Instruction))) == figures["requested"] == 37
    assert figures["by_type"] == {"question": 10, "completion": 9, "generation": 9, "transformation": 9}
    assert figures["diversity"]["exact_unique"] == 37


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        result = CliRunner().invoke(instructions, ["--count", "50", "--out", str(tmp_path / name)])
        assert result.exit_code == 0
        assert "by_type" not in result.stdout
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_table_names_counts_and_diversity(tmp_path: Path) -> None:
    result = CliRunner().invoke(instructions, ["--count", "8", "--out", str(tmp_path / "a")])
    assert "transformation" in result.stdout
    assert "effective_unique" in result.stdout
