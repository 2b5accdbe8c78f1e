"""The gate: 95% in whole numbers, read back from disk, and no file that was touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


def edit_response_to_wrong(results: dict[str, Any]) -> None:
    results["items"][5]["trained"]["response"] = "nonsense"


def edit_verdict_up(results: dict[str, Any]) -> None:
    results["items"][0]["trained"] |= {"success": True, "reason": "ok"}


def edit_finished(results: dict[str, Any]) -> None:
    results["items"][0]["trained"]["finished"] = True


def lower_rate(results: dict[str, Any]) -> None:
    results["models"]["trained"]["success_rate"] = 0.5


def raise_rate(results: dict[str, Any]) -> None:
    results["models"]["trained"]["success_rate"] = 1.0


def raise_successes(results: dict[str, Any]) -> None:
    results["models"]["trained"]["successes"] += 1


def raise_base_rate(results: dict[str, Any]) -> None:
    results["models"]["base"]["success_rate"] += 0.01


def edit_by_type(results: dict[str, Any]) -> None:
    results["models"]["trained"]["by_type"]["question"]["successes"] -= 1


def drop_a_type(results: dict[str, Any]) -> None:
    del results["models"]["trained"]["by_type"]["question"]


def edit_p_value(results: dict[str, Any]) -> None:
    results["statistics"]["comparison"]["mcnemar_p"] = 0.001


def edit_small_p_value(results: dict[str, Any]) -> None:
    results["statistics"]["comparison"]["mcnemar_p"] *= 1.001


def edit_bound(results: dict[str, Any]) -> None:
    results["statistics"]["rates"]["trained"]["shown_95"] = True


def edit_flips(results: dict[str, Any]) -> None:
    results["statistics"]["comparison"]["gained"].pop()


def drop_item(results: dict[str, Any]) -> None:
    results["items"].pop()


def double_item(results: dict[str, Any]) -> None:
    results["items"].append(dict(results["items"][3]))


def replace_item(results: dict[str, Any]) -> None:
    results["items"][-1] = {**results["items"][-1], "id": "made-up"}


def swap_items(results: dict[str, Any]) -> None:
    items = results["items"]
    items[0], items[1] = items[1], items[0]


def edit_instruction(results: dict[str, Any]) -> None:
    results["items"][2]["instruction"] += " Or do not."


def edit_suite_hash(results: dict[str, Any]) -> None:
    results["suite"]["sha256"] = "0" * 64


def edit_scorer_version(results: dict[str, Any]) -> None:
    results["conditions"]["scorer_version"] = "0"


def edit_schema(results: dict[str, Any]) -> None:
    results["schema_version"] = 99


def drop_conditions(results: dict[str, Any]) -> None:
    del results["conditions"]


def drop_a_response(results: dict[str, Any]) -> None:
    results["items"][7]["trained"] = None


def edit_reason(results: dict[str, Any]) -> None:
    results["items"][0]["trained"]["reason"] = "hedged"
    reasons = results["models"]["trained"]["reasons"]
    reasons["unfinished"] -= 1
    reasons["hedged"] = 1


def drop_a_summary(results: dict[str, Any]) -> None:
    results["models"]["base"] = None


def drop_both_sides(results: dict[str, Any]) -> None:
    results["models"] = {"base": None, "trained": None}
    for row in results["items"]:
        row |= {"base": None, "trained": None}


def add_a_side(results: dict[str, Any]) -> None:
    results["models"]["better"] = {"success_rate": 1.0, "successes": 40, "total": 40}


def count_for_true(results: dict[str, Any]) -> None:
    results["items"][20]["trained"]["success"] = 1


def add_a_figure(results: dict[str, Any]) -> None:
    results["models"]["trained"]["adjusted_rate"] = 0.99


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (edit_response_to_wrong, "its response scores failed"),
        (edit_verdict_up, r"items\[question-0\]\.trained: the file says followed"),
        (edit_finished, r"items\[question-0\]\.trained"),
        (lower_rate, r"models\.trained\.success_rate is 0\.5, the responses give 0\.9"),
        (raise_rate, r"models\.trained\.success_rate is 1\.0"),
        (raise_successes, r"models\.trained\.successes is 37"),
        (raise_base_rate, r"models\.base\.success_rate"),
        (edit_by_type, r"models\.trained\.by_type\.question\.successes"),
        (drop_a_type, r"models\.trained\.by_type\.question is missing"),
        (edit_p_value, r"statistics\.comparison\.mcnemar_p"),
        (edit_small_p_value, r"statistics\.comparison\.mcnemar_p"),
        (edit_bound, r"statistics\.rates\.trained\.shown_95"),
        (edit_flips, r"statistics\.comparison\.gained has"),
        (drop_item, "1 items of small are missing, first transformation-9"),
        (double_item, "1 items of small are twice or more, first transformation-0"),
        (replace_item, "1 items of small are missing"),
        (swap_items, r"items\[completion-0\]\.id is not the suite's"),
        (edit_instruction, r"instruction is not the suite's"),
        (edit_suite_hash, r"suite\.sha256"),
        (edit_scorer_version, r"conditions\.scorer_version is '0'"),
        (edit_schema, "schema_version is 99"),
        (drop_conditions, "conditions: Field required"),
        (drop_a_response, "1 of 40 items hold no trained response"),
        (edit_reason, r"items\[question-0\]\.trained: the file says failed \(hedged\)"),
        (drop_a_summary, r"models\.base and the items' base responses are not both there"),
        (drop_both_sides, "it holds no responses"),
        (add_a_side, r"models\.better is no side"),
        (count_for_true, r"items\.20\.trained\.success: Input should be a valid boolean"),
        (add_a_figure, r"models\.trained\.adjusted_rate is not part of a results file"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_gate_refuses_a_file_whose_parts_disagree(
    small_suite: Suite, write: Write, edit: Callable[[dict[str, Any]], None], named: str
) -> None:
    results = results_with(small_suite, trained_failures=4)
    edit(results)
    with pytest.raises(UntrustedResultError, match=named):
        judge_file(write(results), suite=small_suite)


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
