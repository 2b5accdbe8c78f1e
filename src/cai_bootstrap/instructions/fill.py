"""A fill: the values of a template's slots together with what follows from them (checks, gold answer, fact)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

OPEN_SIZE = 3000


@dataclass(frozen=True)
class Fill:
    """Slot values and their consequences.

    `answer` is a perfect answer where one follows from the slots; `content` are the words that another text must not
    mention if it is to be about something else; `topic` is what the diversity report counts.
    """

    slots: dict[str, str]
    scorer: str
    args: dict[str, Any]
    gold: list[str] = field(default_factory=list)
    fact_key: str | None = None
    answer: str | None = None
    content: tuple[str, ...] = ()
    topic: str = ""


@dataclass(frozen=True)
class Supply:
    """The fills of one skill, by number: finite facts, or an open space cut off at `size`.

    `reused` says whether one fill is shown in several wordings (facts) or in one only (open spaces).
    """

    size: int
    at: Callable[[int], Fill]
    reused: bool


def listed(fills: Sequence[Fill]) -> Supply:
    """A finite supply: each fill may be asked in every wording."""
    return Supply(len(fills), fills.__getitem__, reused=True)


def drawn(name: str, make: Callable[[Random], Fill], size: int = OPEN_SIZE) -> Supply:
    """An open supply: fill number i is made by a generator seeded with the skill's name and i, and used once."""
    return Supply(size, lambda index: make(Random(f"{name}:{index}")), reused=False)


def gold_answer(
    slots: dict[str, str], answers: list[str], *, content: tuple[str, ...], fact_key: str | None = None, **args: Any
) -> Fill:
    """A fill whose scorer is `answer`; the first accepted answer is the exemplar's."""
    return Fill(slots, "answer", args, answers, fact_key, answers[0], content, content[0])


def checked(slots: dict[str, str], checks: list[dict[str, Any]], *, topic: str, answer: str | None = None) -> Fill:
    """A fill whose scorer is `checks`: all of them must hold."""
    return Fill(slots, "checks", {"checks": checks}, answer=answer, content=(topic,), topic=topic)


def exact(slots: dict[str, str], outputs: list[str], *, content: tuple[str, ...]) -> Fill:
    """A fill with one right output (or a few spellings of it); the first is the exemplar's."""
    return Fill(slots, "exact", {}, outputs, answer=outputs[0], content=content, topic=content[0])
