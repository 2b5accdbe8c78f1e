"""What a skill is, and the decorators that register one. Everything about a skill stands at its one function:

    @skill("last_word", "transformation", hard=True)
    def _last_word(random: Random) -> Fill:
        return _word_at(random, -1)

Its templates stand under the same name in `data/templates/<type>.yaml`, for each of its types.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from cai_bootstrap.instructions.fill import OPEN_SIZE, Fill, Supply, drawn, listed
from cai_bootstrap.instructions.pool import handwritten
from cai_bootstrap.records import TaskType

FillMaker = Callable[[Random], Fill]
FactLister = Callable[[], list[Fill]]
WorkedFill = tuple[Fill, str]  # a fill and a right answer to it
Exemplars = Callable[[Random, list[Any]], list[WorkedFill]]


@dataclass(frozen=True, eq=False)
class Skill:
    """One skill of the training pool.

    `hard`: a small model errs often in it, so each instruction gets twice as many candidate answers. Of 133
    instructions each, sorting gave 10 pairs, copying 127; other skills are hard because after a first round of training
    under half of their instructions had a right answer among nine. `rare`: a hard skill whose answers pass least
    often; it is asked twice as often. `two_answers`: every answer is one of two, so exemplars must repeat them.
    `exemplars` works out the hand-written `rows` of `handwritten.yaml` (by default `exemplars: <name>`); without it,
    exemplars are fills that have an `answer`.
    """

    name: str
    types: tuple[TaskType, ...]
    make_supply: Callable[[], Supply]
    hard: bool = False
    rare: bool = False
    two_answers: bool = False
    exemplars: Exemplars | None = None
    rows: str | None = None

    @cached_property
    def supply(self) -> Supply:
        """The fills of the skill, made when they are first needed."""
        return self.make_supply()

    def written_exemplars(self, random: Random) -> list[WorkedFill]:
        """Every hand-written exemplar with its answer, names and numbers drawn; empty where there are none."""
        if self.exemplars is None:
            return []
        rows = handwritten()[self.rows] if self.rows else handwritten()["exemplars"].get(self.name, [])
        return self.exemplars(random, rows)


SKILLS: dict[str, Skill] = {}


def skill(
    name: str,
    type: TaskType,
    *more_types: TaskType,
    size: int = OPEN_SIZE,
    hard: bool = False,
    rare: bool = False,
    two_answers: bool = False,
    exemplars: Exemplars | None = None,
    rows: str | None = None,
) -> Callable[[FillMaker], FillMaker]:
    """Register a skill with `size` open fills; the decorated function makes one from a seeded generator."""

    def register(make: FillMaker) -> FillMaker:
        types = (type, *more_types)
        _add(Skill(name, types, lambda: drawn(name, make, size), hard, rare, two_answers, exemplars, rows))
        return make

    return register


def fact_skill(
    name: str, type: TaskType, *more_types: TaskType, hard: bool = False, rare: bool = False
) -> Callable[[FactLister], FactLister]:
    """Register a skill with a finite list of fills; the decorated function makes them all."""

    def register(make: FactLister) -> FactLister:
        _add(Skill(name, (type, *more_types), lambda: listed(make()), hard, rare))
        return make

    return register


def _add(new: Skill) -> None:
    if new.name in SKILLS:
        raise ValueError(f"two functions register the skill '{new.name}'; rename one of them")
    SKILLS[new.name] = new
