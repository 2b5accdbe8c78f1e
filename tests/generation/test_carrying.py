"""The worked cases of a principle's turn carry what earlier principles added."""

from random import Random

from cai_bootstrap.constitution import Demonstration, Principle
from cai_bootstrap.generation.carrying import Addition, addition_of, carried, turn_cases

THANKS = Principle("thanks", "Begin with thanks.", "helpful", (
    Demonstration("What is rope?", "Rope is string.", "No thanks.", "Thank you. Rope is string."),
    Demonstration("What is ink?", "Ink is wet.", "No thanks.", "Ink was asked about by you, thanks."),
    Demonstration("What is tea?", "Thanks! Tea is hot.", "It is there.", "Thanks! Tea is hot."),
))  # fmt: skip
CAREFUL = Principle("careful", "Remind to be careful.", "helpful", (
    Demonstration("What is a kite?", "A kite is a toy.", "No care.", "A kite is a toy. Mind the string."),
    Demonstration("What is fire?", "Fire is hot.", "No care.", "Careful, fire is a danger."),
))  # fmt: skip


def test_an_addition_is_what_stands_around_the_answer() -> None:
    added, rewritten, flawless = (addition_of(d) for d in THANKS.demonstrations)
    assert added == Addition(before="Thank you.")
    assert rewritten is None
    assert flawless is None
    assert addition_of(CAREFUL.demonstrations[0]) == Addition(after="Mind the string.")


def test_answer_and_better_answer_carry_what_earlier_principles_added() -> None:
    added, rewritten = carried(CAREFUL.demonstrations, [THANKS], Random(0))
    assert added.answer == "Thank you. A kite is a toy."
    assert added.better == "Thank you. A kite is a toy. Mind the string."
    assert rewritten.answer == "Thank you. Fire is hot."
    assert rewritten.better == "Thank you. Careful, fire is a danger."


def test_nothing_is_carried_from_nobody_or_from_a_principle_that_rewrites() -> None:
    rewriter = Principle("short", "Be short.", "helpful", (Demonstration("Why?", "It is so.", "Long.", "So."),) * 2)
    for earlier in ([], [rewriter]):
        assert carried(CAREFUL.demonstrations, earlier, Random(0)) == list(CAREFUL.demonstrations)


def test_flawless_demonstrations_are_shown_unless_they_are_left_out() -> None:
    assert len(turn_cases(THANKS, (), seed=0, use="x", exclude="")) == 3
    shown = turn_cases(THANKS, (), seed=0, use="x", exclude="", show_flawless=False)
    assert len(shown) == 2
    assert not [d for d in shown if d.flawless]
