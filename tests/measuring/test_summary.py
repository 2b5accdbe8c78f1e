"""What stands beside the rates in a results file: success against length, and every item that flipped."""

from measured import ADAPTER, conditions_for, measured, outputs_with, reference

from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.results import Output, build_results


def measured_as(suite: Suite, base: dict[str, Output], trained: dict[str, Output]) -> dict[str, object]:
    results = build_results(
        suite=suite, conditions=conditions_for(suite), base=measured(base), trained=measured(trained, ADAPTER),
        enforced=True,
    )  # fmt: skip
    found: dict[str, object] = results.statistics.as_dict()
    return found


def test_success_stands_against_length_on_each_side(small_suite: Suite) -> None:
    right = outputs_with(small_suite, 0)
    rambling = {
        item.id: Output(reference(item) if at % 2 else f"{reference(item)} and then some more of it", True)
        for at, item in enumerate(small_suite.items)
    }
    length = measured_as(small_suite, rambling, right)["length"]
    assert isinstance(length, dict)
    assert length["base"]["mean_words_failed"] > length["base"]["mean_words_followed"]
    assert length["base"]["correlation"] < 0
    assert length["trained"] == {**length["trained"], "mean_words_failed": None, "correlation": None}


def test_flips_are_listed_both_ways(small_suite: Suite) -> None:
    ids = [item.id for item in small_suite.items]
    base, trained = outputs_with(small_suite, 5), outputs_with(small_suite, 0)
    for id in ids[-2:]:
        trained[id] = Output("", True)
    comparison = measured_as(small_suite, base, trained)["comparison"]
    assert isinstance(comparison, dict)
    assert comparison["gained"] == ids[:5]
    assert comparison["lost"] == ids[-2:]
