"""What steers is computed from the cells, and what was not found is told with what would have been."""

from collections.abc import Callable
from random import Random

import pytest

from cai_bootstrap.ablation.effects import SHOWN, TEXTS, Cells, Shown, Text, smallest_effect, steering_of

IDS = [f"{principle}/q-{n}" for principle in ("a", "b") for n in range(80)]
WORDINGS = {id: str(int(id.split("-")[1]) % 16) for id in IDS}


def cells_of(rate: Callable[[Text, Shown], float], seed: int = 5) -> Cells:
    draw = Random(seed)
    return {(text, shown): {id: draw.random() < rate(text, shown) for id in IDS} for text in TEXTS for shown in SHOWN}


@pytest.mark.parametrize(
    ("rate", "answer"),
    [
        (lambda _, shown: 0.96 if shown == "own" else 0.02, "demonstrations"),
        (lambda text, _: 0.9 if text == "own" else 0.1, "text"),
        (lambda text, shown: 0.05 + 0.45 * (text == "own") + 0.45 * (shown == "own"), "both"),
        # The text alone does nothing; it completes what the demonstrations begin.
        (lambda text, shown: 0.9 if (text, shown) == ("own", "own") else 0.1, "both"),
        (lambda _text, _shown: 0.02, "neither"),
        # Any demonstrations will do: the principle's own are not what steers.
        (lambda _, shown: 0.0 if shown == "neutral" else 0.9, "neither"),
    ],
)
def test_what_moves_the_rate_is_named(rate: Callable[[Text, Shown], float], answer: str) -> None:
    assert steering_of(cells_of(rate), WORDINGS).steered_by == answer


def test_a_factor_that_was_not_found_is_told_with_the_effect_that_would_have_been() -> None:
    found = steering_of(cells_of(lambda _, shown: 0.96 if shown == "own" else 0.0), WORDINGS)
    assert found.sentence.startswith("Demonstrations steer; of the text no effect of 5 points or more was found: ")
    text = next(part for part in found.sensitivity if part.factor == "text")
    assert text.independent is not None
    assert 0.05 <= text.independent < 0.2
    assert text.by_wording is None or text.by_wording > text.independent
    assert f"and {100 * text.independent:.0f} points would have been found" in found.sentence
    assert found.control.passed


def test_without_its_positive_control_the_study_says_that_it_saw_nothing_and_what_it_would_have_seen() -> None:
    found = steering_of(cells_of(lambda _text, _shown: 0.01), WORDINGS)
    assert not found.control.passed
    assert found.sentence.startswith("Nothing could be seen: ")
    assert "points would have been found" in found.sentence


def test_twelve_equal_cells_leave_room_for_an_effect() -> None:
    found = steering_of(cells_of(lambda _text, _shown: 0.0), WORDINGS)
    assert all(effect.interval[0] < 0 < effect.interval[1] for effect in found.effects)


def test_an_effect_in_one_wording_alone_is_not_found() -> None:
    cells = {place: dict.fromkeys(IDS, False) for place in cells_of(lambda _text, _shown: 0)}
    cells["own", "own"] = {id: WORDINGS[id] in {"0", "1"} for id in IDS}
    assert steering_of(cells, WORDINGS).steered_by == "neither"


def test_fewer_questions_find_only_larger_effects_and_two_wordings_find_none() -> None:
    few, many = [[str(n % 16) for n in range(count)] for count in (48, 320)]
    sizes = [smallest_effect([False] * len(w), w, list(map(str, range(len(w)))), levels=3) for w in (many, few)]
    assert None not in sizes
    assert sizes[0] < sizes[1]  # type: ignore[operator]
    two = [str(n % 2) for n in range(48)]
    assert smallest_effect([False] * 48, two, two, levels=3) is None
    assert smallest_effect([True] * 48, two, two, levels=3) is None


def test_the_same_cells_give_the_same_answer() -> None:
    cells = cells_of(lambda _, shown: 0.9 if shown == "own" else 0.1)
    assert steering_of(cells, WORDINGS, seed=3) == steering_of(cells, WORDINGS, seed=3)


def test_cells_of_different_questions_are_refused() -> None:
    cells = dict(cells_of(lambda _text, _shown: 0.5))
    cells["none", "own"] = {"a/q-0": True}
    with pytest.raises(ValueError, match="none text and own demonstrations"):
        steering_of(cells, WORDINGS)
