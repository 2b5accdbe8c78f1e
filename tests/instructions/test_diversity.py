"""Diversity figures and the near-duplicate filter."""

import pytest

from cai_bootstrap.instructions.diversity import KnownTexts, measure, near_duplicates
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.instructions.text import word_list, words_similarity

TEXTS = [
    "Write one short sentence about the old red boat.",
    "Name three fruits, separated by commas.",
    "write one short sentence about the old red boat",
    "Write one short sentence about the old green boat.",
    "What is the capital of Peru?",
    "Please write one short sentence about the old red boat.",
]


def test_a_text_with_an_earlier_near_duplicate_is_flagged() -> None:
    assert near_duplicates(TEXTS) == [False, False, True, True, False, True]


def test_the_fast_comparison_equals_comparing_every_pair() -> None:
    texts = [made.instruction for made in sample(600, seed=1)]
    rows = list(map(word_list, texts))
    slow = [any(words_similarity(row, other) >= 0.85 for other in rows[:i]) for i, row in enumerate(rows)]
    assert near_duplicates(texts) == slow


def test_minhash_finds_almost_what_comparing_every_pair_finds() -> None:
    texts = [made.instruction for made in sample(1500, seed=2)]
    exact, sketched = near_duplicates(texts), near_duplicates(texts, exhaustive=0)
    assert not any(found and not true for true, found in zip(exact, sketched, strict=True))
    assert sum(sketched) >= 0.8 * sum(exact) > 0


def test_figures_of_a_set_are_what_they_say() -> None:
    drawn = sample(400, seed=3)
    figures = measure(drawn)
    assert figures["instructions"] == figures["exact_unique"] == 400
    assert figures["effective_unique"] == 400 - sum(near_duplicates([made.instruction for made in drawn]))
    assert figures["near_duplicate_share"] == pytest.approx(1 - figures["effective_unique"] / 400)
    assert 0 < figures["distinct_1"] < figures["distinct_2"] < figures["distinct_3"] <= 1
    assert figures["templates_used"] == len({made.template for made in drawn})


def test_repetition_shows_in_every_figure() -> None:
    varied = sample(200, seed=4)
    repetitive = [varied[0].model_copy(update={"id": str(i)}) for i in range(200)]
    rich, poor = measure(varied), measure(repetitive)
    assert poor["effective_unique"] == poor["exact_unique"] == 1
    assert poor["opener_entropy"] == pytest.approx(0)
    assert all(poor[name] < rich[name] for name in ("distinct_1", "distinct_2", "compression_ratio", "topics"))


@pytest.mark.parametrize("exhaustive", [0, 3, 100])
def test_known_texts_recognise_a_near_copy_however_many_there_are(exhaustive: int) -> None:
    known = KnownTexts(map(word_list, TEXTS[:2]), exhaustive=exhaustive)
    for number in range(20):
        known.add(word_list(f"Sort these words from A to Z: kite{number} boat{number} lamp{number}"))
    assert len(known) == 22
    assert known.near(word_list("Write one short sentence about the old, red boat"))
    assert not known.near(word_list("Write two long poems about a young horse"))
