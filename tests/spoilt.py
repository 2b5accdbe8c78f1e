"""One list of ways to spoil a results file, so that its parts disagree; the gate refuses each."""

from collections.abc import Callable
from typing import Any


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


def raise_rate_and_successes(results: dict[str, Any]) -> None:
    trained = results["models"]["trained"]
    trained |= {"success_rate": 1.0, "successes": trained["total"]}


def raise_a_verdict_alone(results: dict[str, Any]) -> None:
    results["items"][0]["trained"]["success"] = True


def lower_a_verdict(results: dict[str, Any]) -> None:
    results["items"][-1]["trained"]["success"] = False


def empty_a_response(results: dict[str, Any]) -> None:
    results["items"][-1]["trained"]["response"] = ""


def raise_a_type(results: dict[str, Any]) -> None:
    next(iter(results["models"]["trained"]["by_type"].values()))["success_rate"] = 1.0


def drop_an_item_between(results: dict[str, Any]) -> None:
    del results["items"][3]


def double_an_item_in_anothers_place(results: dict[str, Any]) -> None:
    results["items"][3] = dict(results["items"][4])


def put_no_number(results: dict[str, Any]) -> None:
    results["models"]["trained"]["success_rate"] = float("nan")


def drop_the_trained_summary(results: dict[str, Any]) -> None:
    results["models"]["trained"] = None


def rename_the_suite(results: dict[str, Any]) -> None:
    results["suite"]["name"] = "stage1"


# What is done to a file of which the first four items failed, and what the refusal names, whatever the suite.
SPOILT: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (edit_response_to_wrong, "its response scores failed"),
    (edit_verdict_up, r"items\[.*\]\.trained: the file says followed"),
    (edit_finished, r"items\[.*\]\.trained"),
    (lower_rate, r"models\.trained\.success_rate is 0\.5, the responses give 0\."),
    (raise_rate, r"models\.trained\.success_rate is 1\.0"),
    (raise_successes, r"models\.trained\.successes is"),
    (raise_rate_and_successes, r"models\.trained\.success"),
    (raise_base_rate, r"models\.base\.success_rate"),
    (edit_by_type, r"models\.trained\.by_type\.question\.successes"),
    (raise_a_type, "by_type"),
    (drop_a_type, r"models\.trained\.by_type\.question is missing"),
    (edit_p_value, r"statistics\.comparison\.mcnemar_p"),
    (edit_small_p_value, r"statistics\.comparison\.mcnemar_p"),
    (edit_bound, r"statistics\.rates\.trained\.shown_95"),
    (edit_flips, r"statistics\.comparison\.gained has"),
    (raise_a_verdict_alone, "trained"),
    (lower_a_verdict, "trained"),
    (empty_a_response, "trained"),
    (drop_item, "1 items of .* are missing"),
    (drop_an_item_between, "1 items of .* are missing"),
    (double_item, "1 items of .* are twice or more"),
    (double_an_item_in_anothers_place, "twice"),
    (replace_item, "1 items of .* are missing"),
    (swap_items, r"items\[.*\]\.id is not the suite's"),
    (edit_instruction, r"instruction is not the suite's"),
    (edit_suite_hash, r"suite\.sha256"),
    (rename_the_suite, "suite"),
    (edit_scorer_version, r"conditions\.scorer_version is '0'"),
    (edit_schema, "schema_version is 99"),
    (put_no_number, "NaN"),
    (drop_conditions, "conditions: Field required"),
    (drop_a_response, r"1 of \d+ items hold no trained response"),
    (edit_reason, r"items\[.*\]\.trained: the file says failed \(hedged\)"),
    (drop_a_summary, r"models\.base and the items' base responses are not both there"),
    (drop_the_trained_summary, "trained"),
    (drop_both_sides, "it holds no responses"),
    (add_a_side, r"models\.better is no side"),
    (count_for_true, r"items\.20\.trained\.success: Input should be a valid boolean"),
    (add_a_figure, r"models\.trained\.adjusted_rate is not part of a results file"),
]
IDS = [edit.__name__ for edit, _ in SPOILT]
