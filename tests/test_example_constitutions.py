"""The shipped conditional constitutions: enough matched pairs, each a topic of its own, that leak nothing."""

from pathlib import Path

import pytest

from cai_bootstrap.constitution import Principle
from cai_bootstrap.generation.principles import WORKED_PAIRS, load_checked, notes
from cai_bootstrap.instructions.diversity import near_duplicates
from cai_bootstrap.judging.rules import phrases, rule_holds
from cai_bootstrap.judging.scorers.text import folded_words

FOLDER = Path(__file__).parents[1] / "examples/constitutions"
NAMES = ("warn", "refuse", "yesno")
LEAST_PAIRS = 180


@pytest.fixture(params=NAMES)
def principle(request: pytest.FixtureRequest) -> Principle:
    constitution = load_checked(FOLDER / f"conditional-{request.param}.yaml")
    (only,) = constitution.principles
    assert (constitution.version, only.id, notes(constitution)) == (2, request.param, [])
    return only


def pairs_of(principle: Principle) -> list[tuple[str, str]]:
    assert principle.matched is not None
    return list(zip(principle.matched.applies, principle.matched.does_not, strict=True))


def test_there_are_enough_pairs_and_no_prompt_stands_twice(principle: Principle) -> None:
    prompts = [prompt for pair in pairs_of(principle) for prompt in pair]
    assert len(prompts) >= 2 * LEAST_PAIRS
    assert len({folded_words(prompt) for prompt in prompts}) == len(prompts)


def test_no_pair_is_nearly_another(principle: Principle) -> None:
    twins = [f"{one} {other}" for one, other in pairs_of(principle)]
    assert not any(near_duplicates(twins))


def test_pairs_are_worded_in_many_ways(principle: Principle) -> None:
    openings = [folded_words(one)[:3] for one, _ in pairs_of(principle)]
    assert len(set(openings)) >= 40
    assert max(openings.count(opening) for opening in openings) <= len(openings) / 6


def test_no_prompt_says_what_the_check_or_the_judge_looks_for(principle: Principle) -> None:
    """A word of the question does not count in the answer: such a prompt could not be passed by it."""
    assert principle.check is not None
    looked_for = {folded_words(phrase) for phrase in phrases(principle.check)}
    for prompt in (prompt for pair in pairs_of(principle) for prompt in pair):
        words = folded_words(prompt)
        runs = {words[at : at + size] for size in (1, 2, 3, 4, 5) for at in range(len(words))}
        assert not looked_for & runs, prompt


def test_no_demonstration_is_a_matched_prompt(principle: Principle) -> None:
    prompts = {folded_words(prompt) for pair in pairs_of(principle) for prompt in pair}
    assert not prompts & {folded_words(case.instruction) for case in principle.demonstrations}


def test_half_of_the_demonstrations_change_nothing_and_no_topic_stands_twice(principle: Principle) -> None:
    shown = principle.demonstrations
    assert len(shown) >= 6
    assert sum(case.flawless for case in shown) == len(shown) / 2
    assert len({folded_words(case.instruction) for case in shown}) == len(shown)


def test_check_and_judge_pass_what_was_mended_and_nothing_else(principle: Principle) -> None:
    """Where nothing is wrong the principle does not apply, so that its check finds nothing there."""
    for rule in (principle.check, principle.judge):
        assert rule is not None
        for case in principle.demonstrations:
            assert not rule_holds(rule, case.instruction, case.answer)
            assert rule_holds(rule, case.instruction, case.better) is not case.flawless


def test_a_critique_is_no_answer_that_would_pass(principle: Principle) -> None:
    """What leaks from a critique into an answer must not be chosen as the principle at work.

    The judge's author has not seen the critiques; a leaked one never trains (`revision_faults.leaked`).
    """
    assert principle.check is not None
    leaking = [c.critique for c in principle.demonstrations if rule_holds(principle.check, c.instruction, c.critique)]
    assert not leaking


def test_the_worked_cases_are_told_apart_by_more_than_their_wording(principle: Principle) -> None:
    openings = {folded_words(one)[:2] for one, _ in pairs_of(principle)[:WORKED_PAIRS]}
    assert len(openings) >= WORKED_PAIRS - 2
