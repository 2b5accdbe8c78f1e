"""Only equal conditions are compared; the declared factors may differ; the ledger counts every look."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from measured import ADAPTER, conditions_for, measured, outputs_with, results_with
from pydantic import ValidationError

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.measure import compare, gate, power
from cai_bootstrap.errors import DataError, GateError, UntrustedResultError
from cai_bootstrap.judging.suite import Suite, canonical_line
from cai_bootstrap.measuring.assess import plain_factors
from cai_bootstrap.measuring.comparison import Comparison, compare_files
from cai_bootstrap.measuring.conditions import Conditions, Difference, differences
from cai_bootstrap.measuring.declared import Factors, Results
from cai_bootstrap.measuring.ledger import ledger_path, note_opening, open_test, openings
from cai_bootstrap.measuring.results import build_results

Write = Callable[..., Path]


def test_equal_conditions_have_no_difference(small_suite: Suite) -> None:
    assert differences(conditions_for(small_suite), conditions_for(small_suite)) == []


@pytest.mark.parametrize("field", sorted(Conditions.model_fields))
def test_every_condition_counts(small_suite: Suite, field: str) -> None:
    same = conditions_for(small_suite)
    value = getattr(same, field)
    other: Any = {**value, "more": "x"} if isinstance(value, dict) else 7 if isinstance(value, int) else "other"
    found = differences(same, conditions_for(small_suite, **{field: other}))
    assert [difference.field.partition(".")[0] for difference in found] == [field]


def test_a_library_missing_on_one_side_is_named(small_suite: Suite) -> None:
    a = conditions_for(small_suite)
    b = conditions_for(small_suite, versions={"torch": "2.11.0"})
    assert differences(a, b) == [
        Difference("versions.torch", "2.13.0", "2.11.0"),
        Difference("versions.transformers", "5.23.0", None),
    ]


def test_compare_pairs_two_runs_and_names_their_factors(small_suite: Suite, write: Write) -> None:
    a = write(results_with(small_suite, trained_failures=None), "baseline.json")
    b = write(results_with(small_suite, trained_failures=1), "trained.json")
    found = compare_files(a, b, suite=small_suite)
    assert (found.side_a, found.side_b) == ("base", "trained")
    assert isinstance(found, Comparison)
    assert found.strict.lift.estimate == pytest.approx(29 / 40)
    assert len(found.strict.gained) == 29
    assert found.factors == [Difference("adapter", None, ADAPTER)]


def test_base_against_base_has_no_discordant_pair_and_p_1(small_suite: Suite, write: Write) -> None:
    a = write(results_with(small_suite, trained_failures=None, base_failures=17), "a.json")
    found = compare_files(a, a, suite=small_suite)
    assert isinstance(found, Comparison)
    assert found.strict.discordant == 0
    assert found.strict.mcnemar_p == found.strict.template_flip_p == 1.0
    assert found.strict.lift.as_dict() == {"estimate": 0.0, "low": 0.0, "high": 0.0, "samples": 10_000}


def test_compare_checks_both_files_in_full_first(small_suite: Suite, write: Write) -> None:
    good = write(results_with(small_suite, trained_failures=1), "good.json")
    edited = results_with(small_suite, trained_failures=1)
    edited["models"]["trained"]["successes"] = 40
    with pytest.raises(UntrustedResultError, match=r"models\.trained\.successes is 40"):
        compare_files(good, write(edited, "edited.json"), suite=small_suite)


def test_compare_command_refuses_other_conditions_with_a_table_and_exit_4(small_suite: Suite, write: Write) -> None:
    a = write(results_with(small_suite, trained_failures=1), "a.json")
    b = write(results_with(small_suite, trained_failures=1, precision="bf16", batch_size=64), "b.json")
    suite_file = a.with_name("small.jsonl")
    suite_file.write_text("".join(map(canonical_line, small_suite.items)))
    result = CliRunner().invoke(compare, [str(a), str(b), "--suite", str(suite_file)])
    assert result.exit_code == 4
    for word in ("precision", "fp32", "bf16", "batch_size", "2 conditions differ"):
        assert word in result.output
    as_json = CliRunner().invoke(compare, [str(a), str(b), "--suite", str(suite_file), "--json"])
    assert as_json.exit_code == 4
    assert [row["field"] for row in json.loads(as_json.stdout)["differences"]] == ["precision", "batch_size"]


def test_compare_command_prints_both_ways_of_flipping(small_suite: Suite, write: Write) -> None:
    a = write(results_with(small_suite, trained_failures=3), "a.json")
    b = write(results_with(small_suite, trained_failures=1), "b.json")
    suite_file = a.with_name("small.jsonl")
    suite_file.write_text("".join(map(canonical_line, small_suite.items)))
    result = CliRunner().invoke(compare, [str(a), str(b), "--suite", str(suite_file)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "2 / 0" in result.output
    assert "≥ 95% not shown" in result.output


def test_gate_command_judges_a_file_alone(small_suite: Suite, write: Write) -> None:
    path = write(results_with(small_suite, trained_failures=1))
    suite_file = path.with_name("small.jsonl")
    suite_file.write_text("".join(map(canonical_line, small_suite.items)))
    passed = CliRunner().invoke(gate, [str(path), "--suite", str(suite_file)])
    assert passed.exit_code == 0
    assert passed.output.startswith("threshold reached on the user's suite 'small': 97.5% of 40")
    assert "Stage 1 passed" not in passed.output
    low = write(results_with(small_suite, trained_failures=8, enforced=False), "low.json")
    failed = CliRunner().invoke(gate, [str(low), "--suite", str(suite_file)])
    assert isinstance(failed.exception, GateError)
    assert "passed" not in failed.output
    as_json = CliRunner().invoke(gate, [str(low), "--suite", str(suite_file), "--json"])
    assert as_json.exit_code == 3
    assert json.loads(as_json.stdout)["passed"] is False


def test_power_command_names_the_failures_that_are_allowed() -> None:
    result = CliRunner().invoke(power, ["--n", "500", "--rate", "0.97"])
    assert result.exit_code == 0
    assert "at most 25 failures" in result.output
    assert "at most 16 failures" in result.output
    assert (
        json.loads(CliRunner().invoke(power, ["--n", "40", "--rate", "1", "--json"]).stdout)["allowed_when_shown"] == -1
    )
    assert CliRunner().invoke(power, ["--n", "0", "--rate", "0.9"]).exit_code == 2


def test_results_are_not_built_from_parts_that_do_not_belong_together(small_suite: Suite) -> None:
    outputs = outputs_with(small_suite, 0)
    first_missing = dict(list(outputs.items())[1:])
    good: dict[str, Any] = {
        "suite": small_suite,
        "conditions": conditions_for(small_suite),
        "base": None,
        "trained": measured(outputs, ADAPTER),
        "enforced": True,
    }
    for change, named in (
        ({"trained": measured(first_missing, ADAPTER)}, "differ in 1 items, first question-0"),
        ({"trained": None}, "nothing to judge"),
        ({"conditions": conditions_for(small_suite, suite_sha256="0" * 64)}, r"conditions\.suite_sha256"),
        ({"conditions": conditions_for(small_suite, item_order="0" * 64)}, r"conditions\.item_order"),
        ({"extra": {"gate": {}}}, "would replace"),
    ):
        with pytest.raises(DataError, match=named):
            build_results(**{**good, **change})
    with pytest.raises(ValidationError, match="precision"):
        Factors.model_validate({**plain_factors("tiny", ADAPTER).model_dump(), "precision": "bf16"})


def test_ledger_numbers_every_opening_of_a_suite(
    small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    assert openings(small_suite.sha256) == []
    assert open_test(small_suite, "baseline", run="r1") == 1
    assert open_test(small_suite, "evaluation") == 2
    first, second = openings(small_suite.sha256)
    assert (first.what, first.as_json()["run"], second.number) == ("baseline", "r1", 2)
    assert ledger_path(small_suite.sha256).is_relative_to(tmp_path / "cache")


def test_ledger_gives_each_of_many_openers_its_own_number(
    small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: open_test(small_suite, f"row {n}"), range(24)))
    assert sorted(numbers) == list(range(1, 25))


def test_ledger_survives_a_torn_line_and_refuses_a_broken_one(
    small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    open_test(small_suite, "one")
    path = ledger_path(small_suite.sha256)
    with path.open("a") as ledger:
        ledger.write('{"number": 2, "wh')
    assert len(openings(small_suite.sha256)) == 1
    assert open_test(small_suite, "two") == 2
    assert [entry.what for entry in openings(small_suite.sha256)] == ["one", "two"]
    path.write_text("nonsense\n")
    with pytest.raises(DataError, match="line 1 is not a ledger entry"):
        openings(small_suite.sha256)


def test_an_opening_on_another_machine_is_noted_once_and_an_own_one_is_known(
    small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    open_test(small_suite, "baseline", model="tiny")
    assert open_test(small_suite, "evaluation", model="tiny", adapter="a" * 64) == 2
    results = results_with(small_suite, trained_failures=5)
    run = {"ledger_opening": 2, "fingerprint": "f1", "adapter": {"sha256": "a" * 64}}
    assert note_opening(Results.model_validate({**results, "run": run})) is None
    there = {**run, "adapter": {"sha256": "b" * 64}, "fingerprint": "f2"}
    assert note_opening(Results.model_validate({**results, "run": there})) == 3
    assert note_opening(Results.model_validate({**results, "run": there})) is None
    assert note_opening(Results.model_validate({**results, "run": {}})) is None
    last = openings(small_suite.sha256)[-1]
    assert (last.what, last.adapter, last.number) == ("evaluation", "b" * 64, 3)
    assert last.as_json()["elsewhere"] == {"number": 2, "fingerprint": "f2"}


def test_the_ledger_command_notes_a_results_file_and_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    measured = Path(__file__).parents[2] / "docs" / "measured"
    files = [arg for name in ("gemma-270m-gpu", "gemma-270m-gpu-gold") for arg in ("--note", f"{measured / name}.json")]
    for _ in range(2):
        assert run_command(["suite", "ledger", *files]) == 0
    said = capsys.readouterr().out
    assert "evaluation (measured on another machine, there opening 4; noted then)" in said
    assert "stage1: opened 2 times" in said
