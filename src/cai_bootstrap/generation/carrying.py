"""The worked cases of a principle's turn: its demonstrations, which carry what earlier principles added.

Those without a fault are shown too, except those of a conditional principle, whose turn comes only where it is decided
already that it applies. Measured with eight demonstrations, two of them flawless: with these 155 of 595 answers changed
("be careful"), without 70; but of a conditional principle's 80 answers 13 changed with its four, 50 without (where it
applies had been decided anew between the two).

They carry what earlier principles added, so that a later revision does not lose it. Where no demonstration's answer
begins with thanks, the model drops the thanks of an earlier turn while it adds its own. So each demonstration is shown
as it would stand in the chain: answer and better answer with what a demonstration of each earlier principle added.

    answer: "A kite is a toy."                     better: "A kite is a toy. Mind the string."
    answer: "Thank you for asking. A kite is a toy."  better: "Thank you for asking. A kite is a toy. Mind the string."
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from cai_bootstrap.constitution import Demonstration, Principle
from cai_bootstrap.generation.prompts import own_cases


@dataclass(frozen=True)
class Addition:
    """What a better answer has before and after the answer that it improves; both empty for one that rewrites it."""

    before: str = ""
    after: str = ""

    def around(self, text: str) -> str:
        """The text with the addition around it."""
        return " ".join(part for part in (self.before, text, self.after) if part)


def turn_cases(
    principle: Principle,
    earlier: Sequence[Principle],
    *,
    seed: int,
    use: str,
    exclude: str,
    show_flawless: bool = True,
    most: int = 0,
) -> list[Demonstration]:
    """A principle's own worked cases at its turn, after those of `earlier`, in an order that seed and `use` decide.

    Empty if it has no demonstrations; `most` is how many are shown, 0 all. A demonstration of the instruction at hand
    (`exclude`) is left out.
    """
    own = own_cases(principle, seed=seed, use=use, exclude=exclude)
    if not show_flawless:
        own = [d for d in own if not d.flawless] or own
    return carried(own[: most or None], earlier, Random(f"carried:{seed}:{use}"))


def addition_of(demonstration: Demonstration) -> Addition | None:
    """What the demonstration adds around its answer; None if its better answer rewrites the answer or adds nothing."""
    answer, better = demonstration.answer, demonstration.better
    place = better.casefold().find(answer.casefold())
    if demonstration.flawless or place < 0 or len(answer) == len(better):
        return None
    return Addition(better[:place].strip(), better[place + len(answer) :].strip())


def carried(
    demonstrations: Sequence[Demonstration], earlier: Sequence[Principle], random: Random
) -> list[Demonstration]:
    """The demonstrations as they stand after the earlier principles' turns, each with additions drawn anew.

    A principle whose demonstrations rewrite instead of adding carries nothing: what it demands has no place of its own.
    """
    sources = [[a for d in principle.demonstrations if (a := addition_of(d)) is not None] for principle in earlier]
    return [_carried(d, [random.choice(additions) for additions in sources if additions]) for d in demonstrations]


def _carried(demonstration: Demonstration, additions: Sequence[Addition]) -> Demonstration:
    own = addition_of(demonstration)
    answer = demonstration.answer
    for addition in additions:
        answer = addition.around(answer)
    if own is not None:
        return replace(demonstration, answer=answer, better=own.around(answer))
    better = demonstration.better
    for addition in additions:
        better = addition.around(better)
    return replace(demonstration, answer=answer, better=better)
