"""What is said after "yes" or "no": held against the question, for every comparison of the shipped suite."""

import re

import pytest

from cai_bootstrap.judging.scorers import check
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import EvalItem

MORE = ("greater than", "more than", "larger than", "bigger than", "higher than", "above", "indeed more than", "over")
LESS = ("less than", "smaller than", "lower than", "below", "indeed less than", "clearly smaller than")
COMPARISONS = [
    item
    for name in ("stage1", "stage1-dev")
    for item in load_suite(name).items
    if item.scorer == "yes_no" and "team" not in item.instruction
]


def statements(item: EvalItem) -> tuple[list[str], list[str]]:
    """True and false statements about the two numbers of an item, each after the right one of yes and no."""
    left, right = re.findall(r"-?\d+(?:\.\d+)?", item.instruction)[:2]
    low, high = sorted((left, right), key=float)
    true = [f"{high} is {more} {low}." for more in MORE] + [f"{low} is {less} {high}." for less in LESS]
    false = [f"{low} is {more} {high}." for more in MORE] + [f"{high} is {less} {low}." for less in LESS]
    false += [f"{low} exceeds {high}.", f"{low} is equal to {high}.", f"{high} is the smallest.", f"{low} is greater."]
    word = item.gold[0].title()
    return [f"{word}, {text}" for text in true], [f"{word}, {text}" for text in false]


@pytest.mark.parametrize("item", COMPARISONS, ids=lambda item: item.id)
def test_a_true_statement_after_the_right_word_passes_and_a_false_one_fails(item: EvalItem) -> None:
    true, false = statements(item)
    verdicts = {text: check(item.instruction, "yes_no", item.args, item.gold, text) for text in (*true, *false)}
    assert [text for text in true if not verdicts[text].success] == []
    assert [text for text in false if verdicts[text].success] == []


@pytest.mark.parametrize(
    ("question", "answer", "passing", "failing"),
    [
        ("Is Anna older than Ben?", "yes", ["Ben is younger than Anna"], ["Anna is younger", "Ben is older"]),
        ("Is Anna older than Ben?", "no", ["Ben is older", "Anna is younger"], ["Anna is older", "Ben is younger"]),
        ("Is iron heavier than wood?", "yes", ["iron is heavier"], ["iron is lighter than wood", "wood is heavier"]),
        ("Does May come before June?", "yes", ["June comes after May"], ["May comes after June"]),
        ("Is 7 even?", "no", ["7 is odd"], ["7 is even", "7 is not odd", "it is even"]),
        ("Is fire hot?", "yes", ["fire is hot", "it is hot"], ["fire is cold", "it is cold"]),
        ("Are 2/4 and 1/2 the same?", "yes", ["they are equal"], ["they are different"]),
        ("Is a bat a bird?", "no", ["it is not", "a bat is a mammal"], ["it is", "it is a bird", "that is true"]),
    ],
)  # fmt: skip
def test_a_statement_contradicts_by_another_word_a_not_or_an_exchange(
    question: str, answer: str, passing: list[str], failing: list[str]
) -> None:
    word = answer.title()
    reasons = {text: check(question, "yes_no", {}, [answer], f"{word}, {text}.").reason for text in passing + failing}
    assert [text for text in passing if reasons[text] == "contradiction"] == []
    assert [text for text in failing if reasons[text] != "contradiction"] == []


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        ("Is 5 not greater than 3?", "no", "No, 5 is greater than 3."),
        ("Is Antwerp the capital of Belgium?", "no", "No, Brussels is the capital of Belgium."),
        ("When you count backwards, does 9 come before 8?", "yes", "Yes, 9 comes before 8."),
        ("Did the red team score more?", "no", "No, the blue team scored more."),
    ],
)
def test_what_cannot_be_decided_contradicts_nothing(question: str, answer: str, text: str) -> None:
    assert check(question, "yes_no", {}, [answer], text).reason != "contradiction"
