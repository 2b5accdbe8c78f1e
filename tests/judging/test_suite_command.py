"""`cai suite`: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest

from cai_bootstrap.cli import run_command
from cai_bootstrap.errors import EXIT_OK, EXIT_UNTRUSTED, EXIT_USAGE
from cai_bootstrap.judging.suite import canonical_line, load_suite
from cai_bootstrap.measuring.ledger import open_test


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))


def test_verify_says_that_the_shipped_suite_is_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["suite", "verify", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == []
    assert found["sha256"] == load_suite("stage1").sha256


def test_verify_refuses_a_users_suite_whose_gold_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = next(item for item in load_suite("stage1").items if item.skill == "end_with")
    path = tmp_path / "mine.jsonl"
    path.write_text(canonical_line(item.model_copy(update={"gold": ["It ends otherwise."]})), encoding="utf-8")
    assert run_command(["suite", "verify", "--suite", str(path)]) == EXIT_UNTRUSTED
    assert item.id in capsys.readouterr().err


def test_show_filters_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["suite", "show", "stage1-dev", "--type", "completion", "--skill", "plural", "--limit", "2", "--json"]
    assert run_command(arguments) == EXIT_OK
    shown = json.loads(capsys.readouterr().out)
    assert [(item["type"], item["skill"]) for item in shown] == [("completion", "plural")] * 2


def test_show_prints_instruction_and_what_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["suite", "show", "quick", "--limit", "1"]) == EXIT_OK
    item = load_suite("quick").items[0]
    printed = capsys.readouterr().out
    assert item.instruction in printed
    assert "1 of 24 items" in printed


def test_stats_count_every_item(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["suite", "stats", "stage1", "--json"]) == EXIT_OK
    counted = json.loads(capsys.readouterr().out)
    for key in ("split", "type", "skill", "difficulty", "tier", "scorer"):
        assert sum(counted[key].values()) == counted["n"] == 520
    assert sum(counted["templates"].values()) == 260


def test_ledger_lists_openings(capsys: pytest.CaptureFixture[str]) -> None:
    open_test(load_suite("stage1"), "base and trained")
    assert run_command(["suite", "ledger"]) == EXIT_OK
    assert "base and trained" in capsys.readouterr().out


def test_an_unknown_suite_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["suite", "stats", "stage9"]) == EXIT_USAGE
    assert "stage1-dev" in capsys.readouterr().err


def test_stats_part_the_facts_by_what_prompting_brings_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["suite", "stats", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert sum(found["facts"].values()) == found["tier"]["gold"] == 98
    assert found["facts"]["elicitable"] > 0
    assert run_command(["suite", "stats"]) == EXIT_OK
    assert "elicitable" in capsys.readouterr().out
