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

from cai_bootstrap.errors import DataError
from cai_bootstrap.instructions.fill import OPEN_SIZE, Fill, Supply, drawn, listed
from cai_bootstrap.instructions.pool import handwritten
from cai_bootstrap.records import TaskType

FillMaker = Callable[..., Fill]  # of a seeded `Random`, and the parts of a hand-written row where there are any
FactLister = Callable[[], list[Fill]]
WorkedFill = tuple[Fill, str]  # a fill and a right answer to it
Exemplars = Callable[[FillMaker, Random, list[Any]], list[WorkedFill]]


@dataclass(frozen=True, eq=False)
class Skill:
    """One skill of the training pool.

    `hard`: a small model errs often in it, so each instruction gets twice as many candidate answers. Of 133
    instructions each, sorting gave 10 pairs, copying 127; other skills are hard because after a first round of training
    under half of their instructions had a right answer among nine. `rare`: a hard skill whose answers pass least
    often; it is asked twice as often. `two_answers`: every answer is one of two, so exemplars must repeat them.
    `written_exemplars` gives every hand-written exemplar, names and numbers drawn; where there are none, exemplars are
    fills with an `answer`.
    """

    name: str
    types: tuple[TaskType, ...]
    make_supply: Callable[[], Supply]
    hard: bool = False
    rare: bool = False
    two_answers: bool = False
    written_exemplars: Callable[[Random], list[WorkedFill]] = lambda _: []

    @cached_property
    def supply(self) -> Supply:
        """The fills of the skill, made when they are first needed."""
        return self.make_supply()


SKILLS: dict[str, Skill] = {}


def by_row(make: FillMaker, random: Random, rows: list[Any]) -> list[WorkedFill]:
    """Worked fills of rows that end in the answer: `make` takes what stands before it; `{slots}` in it are filled."""
    pairs = [(make(random, *parts), answer) for *parts, answer in rows]
    return [(fill, answer.format_map(fill.slots)) for fill, answer in pairs]


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
    """Register a skill with `size` open fills; the decorated function makes one from a seeded generator.

    `exemplars` (`by_row`, mostly) makes its exemplars of the rows `rows` of `handwritten.yaml`, by default those under
    `exemplars: <name>`.
    """

    def register(make: FillMaker) -> FillMaker:
        def written(random: Random) -> list[WorkedFill]:
            return exemplars(make, random, _rows(name, rows)) if exemplars else []

        _add(Skill(name, (type, *more_types), lambda: drawn(name, make, size), hard, rare, two_answers, written))
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


def _rows(name: str, key: str | None) -> list[Any]:
    rows = handwritten().get(key) if key else handwritten()["exemplars"].get(name)
    if not rows:
        where = key or f"exemplars: {name}"
        raise DataError(
            f"skill '{name}' has exemplars, but instructions/data/handwritten.yaml has no rows '{where}'; add some"
        )
    return list(rows)


def _add(new: Skill) -> None:
    if new.name in SKILLS:
        raise ValueError(f"two functions register the skill '{new.name}'; rename one of them")
    SKILLS[new.name] = new
