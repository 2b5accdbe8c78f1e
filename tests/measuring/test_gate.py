"""The gate: 95% in whole numbers, read back from disk, and no file that was touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spoilt
from measured import outputs_with, results_with

from cai_bootstrap.errors import GateError, UntrustedResultError
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.gate import judge_file

Write = Callable[[dict[str, Any]], Path]


def test_gate_passes_at_exactly_95_percent(small_suite: Suite, write: Write) -> None:
    verdict = judge_file(write(results_with(small_suite, trained_failures=2)), suite=small_suite)
    assert (verdict.passed, verdict.successes, verdict.total) == (True, 38, 40)
    verdict.demand()


def test_gate_fails_one_item_below_95_percent_with_the_rate_in_the_message(small_suite: Suite, write: Write) -> None:
    verdict = judge_file(write(results_with(small_suite, trained_failures=3)), suite=small_suite)
    assert not verdict.passed
    with pytest.raises(GateError, match=r"^Stage 1 FAILED on the user's suite 'small': 92\.5% of 40 .*, 95% needed$"):
        verdict.demand()


def test_gate_ignores_the_files_own_gate_block(small_suite: Suite, write: Write) -> None:
    results = results_with(small_suite, trained_failures=20, enforced=False)
    results["gate"] = {"threshold": 0.1, "passed": True, "enforced": False, "reasons": []}
    assert not judge_file(write(results), suite=small_suite).passed


def test_shown_95_is_another_statement_than_the_verdict(small_suite: Suite, write: Write) -> None:
    verdict = judge_file(write(results_with(small_suite, trained_failures=0)), suite=small_suite)
    assert verdict.passed
    assert not verdict.shown_95
    assert verdict.shown_message.startswith("≥ 95% not shown")
    assert "shown" not in verdict.message


def test_an_unenforced_verdict_never_claims_success(small_suite: Suite, write: Write) -> None:
    verdict = judge_file(write(results_with(small_suite, trained_failures=9)), suite=small_suite, enforce=False)
    assert not verdict.passed
    assert "passed" not in verdict.message


# What the refusal says of the small suite in full.
IN_FULL = {
    spoilt.edit_verdict_up: r"items\[question-0\]\.trained: the file says followed",
    spoilt.edit_finished: r"items\[question-0\]\.trained",
    spoilt.lower_rate: r"models\.trained\.success_rate is 0\.5, the responses give 0\.9",
    spoilt.raise_successes: r"models\.trained\.successes is 37",
    spoilt.drop_item: "1 items of small are missing, first transformation-9",
    spoilt.double_item: "1 items of small are twice or more, first transformation-0",
    spoilt.replace_item: "1 items of small are missing",
    spoilt.swap_items: r"items\[completion-0\]\.id is not the suite's",
    spoilt.drop_a_response: "1 of 40 items hold no trained response",
    spoilt.edit_reason: r"items\[question-0\]\.trained: the file says failed \(hedged\)",
}


@pytest.mark.parametrize(("edit", "named"), spoilt.SPOILT, ids=spoilt.IDS)
def test_gate_refuses_a_file_whose_parts_disagree(
    small_suite: Suite, tmp_path: Path, edit: Callable[[dict[str, Any]], None], named: str
) -> None:
    results = results_with(small_suite, trained_failures=4)
    edit(results)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    with pytest.raises(UntrustedResultError, match=IN_FULL.get(edit, named)):
        judge_file(path, suite=small_suite)


def test_gate_refuses_a_missing_empty_torn_or_foreign_file(small_suite: Suite, write: Write, tmp_path: Path) -> None:
    whole = write(results_with(small_suite, trained_failures=0)).read_text()
    for name, text in {
        "empty": "",
        "torn": whole[: len(whole) // 2],
        "nan": whole.replace('"threshold": 0.95', '"threshold": NaN'),
        "infinity": whole.replace('"threshold": 0.95', '"threshold": Infinity'),
        "overflow": whole.replace('"threshold": 0.95', '"threshold": 1e999'),
        "minus": whole.replace('"threshold": 0.95', '"threshold": -1e999'),
        "list": "[]",
        "bare": "{}",
        "binary": "\x00\x01",
    }.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        with pytest.raises(UntrustedResultError, match=name):
            judge_file(path, suite=small_suite)
    with pytest.raises(UntrustedResultError, match="no such file"):
        judge_file(tmp_path / "absent.json", suite=small_suite)
    with pytest.raises(UntrustedResultError):
        judge_file(tmp_path, suite=small_suite)


def test_gate_refuses_a_baseline(small_suite: Suite, write: Write) -> None:
    results = results_with(small_suite, trained_failures=None)
    assert results["models"]["trained"] is None
    assert results["gate"]["passed"] is None
    with pytest.raises(UntrustedResultError, match="a baseline"):
        judge_file(write(results), suite=small_suite)


def test_gate_refuses_dev_items(small_suite: Suite, write: Write) -> None:
    from cai_bootstrap.judging.suite import items_sha256

    items = tuple(item.model_copy(update={"split": "dev"}) for item in small_suite.items)
    dev = Suite("small-dev", items_sha256(items), "user", items)
    with pytest.raises(UntrustedResultError, match="measured on dev items"):
        judge_file(write(results_with(dev, trained_failures=0)), suite=dev)


def test_gate_asks_for_the_file_of_a_users_own_suite(small_suite: Suite, write: Write) -> None:
    with pytest.raises(UntrustedResultError, match="name its file with --suite"):
        judge_file(write(results_with(small_suite, trained_failures=0)))


@pytest.mark.parametrize(
    "changed", [{"total": 400, "success_rate": 0.075}, {"successes": 10, "success_rate": 0.25}, None]
)
def test_a_rival_that_is_made_smaller_is_not_believed(
    small_suite: Suite, write: Write, changed: dict[str, float] | None
) -> None:
    rival = {"rendering": "six-shot", "shots": 6, "outputs": outputs_with(small_suite, 10)}
    results = results_with(small_suite, trained_failures=1, rival=rival)
    results["rival"] = None if changed is None else results["rival"] | changed
    with pytest.raises(UntrustedResultError, match=r"rival"):
        judge_file(write(results), suite=small_suite)


def test_the_rivals_rate_is_judged_from_its_responses(small_suite: Suite, write: Write) -> None:
    rival = {"rendering": "six-shot", "shots": 6, "outputs": outputs_with(small_suite, 10)}
    results = results_with(small_suite, trained_failures=1, rival=rival)
    assert results["rival"] == {"rendering": "six-shot", "shots": 6, "success_rate": 0.75, "successes": 30, "total": 40}
    assert results["statistics"]["headline"]["lift"]["estimate"] == pytest.approx(9 / 40)
    assert judge_file(write(results), suite=small_suite).passed
    results["rival"]["success_rate"] = 0.5
    with pytest.raises(UntrustedResultError, match=r"rival\.success_rate is 0\.5"):
        judge_file(write(results), suite=small_suite)


def test_results_hold_what_the_format_promises(small_suite: Suite, write: Write) -> None:
    results = json.loads(write(results_with(small_suite, trained_failures=3)).read_text())
    assert set(results) == {
        *("schema_version", "conditions", "suite", "models", "rival", "items", "statistics", "gate"),
    }
    assert results["suite"]["n"] == 40
    row = results["items"][0]
    assert {"id", "type", "template", "instruction", "base", "trained"} <= set(row)
    assert {"response", "finished", "success", "reason"} <= set(row["trained"])
    assert set(results["models"]["trained"]["by_type"]) == {"question", "completion", "generation", "transformation"}
    assert results["gate"] == {
        "threshold": 0.95,
        "passed": False,
        "enforced": True,
        "reasons": ["92.5% of 40 followed"],
    }
