"""Controls on the shipped suite: models whose score is known before they are measured."""

import random
from collections import defaultdict
from collections.abc import Callable

import pytest
from measured import ADAPTER, conditions_for, measured

from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.suite import Suite, load_suite, references
from cai_bootstrap.measuring.results import Output, build_results
from cai_bootstrap.records import EvalItem

LONG = (
    "This is a very interesting question that many people have asked over the years, and there are several ways to "
    "look at it. First of all, it is important to understand the context in which the matter arises. In general, "
    "experts agree that careful thought leads to better results. On the other hand, some prefer a quick reply. "
    "In conclusion, each reader should weigh these points and decide what seems most useful in practice."
)


@pytest.fixture(scope="module", params=["stage1", "stage1-dev"])
def suite(request: pytest.FixtureRequest) -> Suite:
    return load_suite(request.param)


def rate(suite: Suite, model: Callable[[EvalItem], str], *, first_line: bool = False) -> float:
    answers = [judge(item, model(item), True) for item in suite.items]
    return sum(a.first_line_success if first_line else a.success for a in answers) / len(answers)


def oracle(item: EvalItem) -> str:
    """Answers from the gold, or with the suite's own reference where an item has none."""
    return item.gold[0] if item.gold else references()[item.id]


def topic(item: EvalItem) -> str:
    return item.instruction.strip(" .?!:").split()[-1]


def test_an_oracle_follows_every_instruction(suite: Suite) -> None:
    failed = [(item.id, judge(item, oracle(item), True).reason) for item in suite.items]
    assert [pair for pair in failed if pair[1] != "ok"] == []


def test_every_accepted_answer_is_accepted(suite: Suite) -> None:
    failed = [
        (item.id, answer) for item in suite.items for answer in item.gold if not judge(item, answer, True).success
    ]
    assert failed == []


def test_with_shuffled_gold_the_oracle_falls_to_chance(suite: Suite) -> None:
    """Chance is the share of items of the same skill that accept each other's answers: yes, no and small sets."""
    shuffled = random.Random(7)
    golds: defaultdict[str, list[EvalItem]] = defaultdict(list)
    for item in suite.items:
        golds[item.type].append(item)
    answers = {}
    for group in golds.values():
        donors = group[:]
        shuffled.shuffle(donors)
        answers |= {item.id: oracle(donor) for item, donor in zip(group, donors, strict=True)}
    assert rate(suite, lambda item: answers[item.id]) <= 0.10


@pytest.mark.parametrize("first_line", [False, True], ids=["whole output", "first line"])
def test_a_model_that_always_answers_at_length_scores_at_most_2_percent(suite: Suite, first_line: bool) -> None:
    assert rate(suite, lambda item: LONG, first_line=first_line) <= 0.02  # noqa: ARG005
    assert rate(suite, lambda item: f"{topic(item)}. {LONG} {topic(item)}.", first_line=first_line) <= 0.02


@pytest.mark.parametrize("first_line", [False, True], ids=["whole output", "first line"])
def test_a_model_that_echoes_scores_at_most_2_percent(suite: Suite, first_line: bool) -> None:
    assert rate(suite, lambda item: item.instruction, first_line=first_line) <= 0.02
    assert rate(suite, lambda item: item.instruction + "\n" + item.instruction, first_line=first_line) <= 0.02


@pytest.mark.parametrize("between", ["", " ", "\n", ", ", "\n\n"])
def test_doubling_every_right_output_scores_nothing_on_exact_and_count_scorers(suite: Suite, between: str) -> None:
    counted = {"words", "sentences", "lines", "list"}
    for item in suite.items:
        counts = item.scorer == "checks" and any(check["check"] in counted for check in item.args["checks"])
        if item.scorer == "exact" or counts:
            assert not judge(item, oracle(item) + between + oracle(item), True).success, item.id


def test_base_against_base_has_no_discordant_pair_and_misses_the_gate(suite: Suite) -> None:
    outputs = {item.id: Output(oracle(item) if at % 3 else "No.", True) for at, item in enumerate(suite.items)}
    results = build_results(
        suite=suite,
        conditions=conditions_for(suite),
        base=measured(outputs),
        trained=measured(outputs, ADAPTER),
        enforced=True,
    )
    for test in (results.statistics.comparison, results.statistics.first_line):
        assert test is not None
        assert (test.discordant, test.mcnemar_p, test.template_flip_p) == (0, 1.0, 1.0)
        assert test.lift.low == test.lift.high == 0.0
    assert results.gate.passed is False
