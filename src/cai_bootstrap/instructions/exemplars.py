"""Same-skill exemplars: worked examples to show before an instruction, from training templates and entities only."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.fill import Fill
from cai_bootstrap.instructions.pool import Template
from cai_bootstrap.instructions.registry import Skill, WorkedFill
from cai_bootstrap.instructions.skills import lookup, skills, wordings
from cai_bootstrap.instructions.text import without_possessives, word_list
from cai_bootstrap.records import TaskType

_TRIES = 400


@dataclass(frozen=True)
class Exemplar:
    """One worked example: an instruction and a right answer of one line. `template` is a training template's id."""

    skill: str
    type: TaskType
    template: str
    instruction: str
    answer: str


def draw(
    skill: str, type: TaskType, count: int, *, seed: int, exclude: str, wording: Template | None = None, alike: int = 0
) -> list[Exemplar]:
    """`count` exemplars of a skill in a seeded order, their wordings and answers as varied as the skill allows.

    `exclude` is the instruction to be answered: no exemplar equals it or is about the same thing. The last `alike` of
    them are shown in `wording`, the training template of that instruction. The same arguments give the same
    exemplars. Raises UsageError for a skill that the pool does not teach (the held-out ones are never
    shown), or when it has fewer than `count` fitting exemplars.
    """
    random = Random(f"{seed}:{type}:{skill}:{exclude}")
    texts = list(wordings(skill, type))
    random.shuffle(texts)
    avoided = f" {' '.join(without_possessives(word_list(exclude)))} "
    usual = -(-count // 2) if lookup(skill).two_answers else 1
    answers: Counter[str] = Counter()
    contents: set[tuple[str, ...]] = set()
    examples: list[WorkedFill] = []
    spare: list[WorkedFill] = []
    for fill, answer in _worked(lookup(skill), random):
        if len(examples) == count:
            break
        if fill.content in contents or _mentions(avoided, fill):
            continue
        contents.add(fill.content)
        (examples if answers[answer] < usual else spare).append((fill, answer))
        answers[answer] += 1
    examples += spare[: count - len(examples)]
    if len(examples) < count:
        raise UsageError(f"skill '{skill}' has only {len(examples)} fitting exemplars; ask for at most that many")
    templates = list(itertools.islice(itertools.cycle(texts), count))
    if wording is not None and alike:
        templates[-alike:] = [wording] * len(templates[-alike:])
    pairs = zip(examples, templates, strict=True)
    return [Exemplar(skill, type, text.id, text.render(fill.slots), answer) for (fill, answer), text in pairs]


def draw_mixed(type: TaskType, count: int, *, seed: int, exclude: str) -> list[Exemplar]:
    """`count` exemplars of different skills of a type, for an instruction whose own skill has none."""
    names = list(skills(type))
    Random(f"mixed:{seed}:{type}:{exclude}").shuffle(names)
    turns = itertools.islice(itertools.cycle(names), count)
    return [draw(name, type, 1, seed=seed + n, exclude=exclude)[0] for n, name in enumerate(turns)]


def _worked(skill: Skill, random: Random) -> Iterator[WorkedFill]:
    """Fills with their answers, in a random order: those written by hand, or those whose answer follows."""
    exemplars = skill.written_exemplars(random)
    if exemplars:
        random.shuffle(exemplars)
        yield from exemplars
        return
    fills = skill.supply
    for number in random.sample(range(fills.size), min(fills.size, _TRIES)):
        fill = fills.at(number)
        if fill.answer is not None:
            yield fill, fill.answer


def _mentions(avoided: str, fill: Fill) -> bool:
    return any(f" {words} " in avoided for content in fill.content for words in [_plain(content)])


@lru_cache(maxsize=50_000)
def _plain(content: str) -> str:
    return " ".join(word_list(content))
