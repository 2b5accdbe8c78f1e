"""Draw instructions from templates and fills: exact counts, balanced skills, no duplicates, refilled after filtering.

What is a near-duplicate here? Instructions of one template look alike whatever they ask ("Is 17 greater than 12?", "Is
40 greater than 8?"), so a similarity rule over all of them (Self-Instruct's ROUGE-L >= 0.7) would keep one a template.
Two instructions count as near-duplicates when they ask the *same thing* (same skill, same slot values) and their words
are at least 85% alike (Indel similarity); facts are asked in several wordings, every other fill in one wording only.
How alike the sampled texts are without regard to what they ask is measured in `diversity`, not filtered here.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.fill import Fill
from cai_bootstrap.instructions.pool import Template, counted_sizes
from cai_bootstrap.instructions.registry import SKILLS, Skill
from cai_bootstrap.instructions.skills import lookup, skills, supply, wordings
from cai_bootstrap.instructions.text import normalised, word_list, words_similarity
from cai_bootstrap.records import TASK_TYPES, Instruction, TaskType

NEAR_DUPLICATE = 0.85
TURNS = 10


@dataclass
class SampleReport:
    """What was drawn and what was dropped on the way: `dropped` counts by reason, before refilling."""

    requested: int
    by_type: dict[str, int] = field(default_factory=dict)
    by_skill: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


def no_leaks(_: Instruction) -> str | None:
    """Nothing is held out."""
    return None


def type_counts(count: int) -> dict[TaskType, int]:
    """How many of each type make `count`: they differ by at most one, earlier types get the remainder."""
    share, extra = divmod(count, len(TASK_TYPES))
    return {kind: share + (place < extra) for place, kind in enumerate(TASK_TYPES)}


def make_instruction(template: Template, fill: Fill) -> Instruction:
    """The instruction of one template and one fill; its id is a hash of its type and text."""
    text = template.render(fill.slots)
    digest = hashlib.sha256(f"{template.type}\n{text}".encode()).hexdigest()[:16]
    return Instruction(
        id=f"{template.type[0]}-{digest}",
        type=template.type,
        template=template.id,
        instruction=text,
        source="template",
        skill=template.skill,
        scorer=fill.scorer,
        args=fill.args,
        gold=fill.gold,
        fact_key=fill.fact_key,
    )


def _stream(type: TaskType, skill: str, random: Random) -> Iterator[tuple[Instruction, bool]]:
    """Every instruction of a skill, and whether it is a near-duplicate; templates take turns, fills recur late.

    `random` changes only the order, never the set of instructions. Each open fill always has the same template, by its
    number. If two templates ask the same fact in almost the same words, the later one gives the near-duplicate.
    """
    fills, texts = supply(skill), wordings(skill, type)
    turns = list(range(len(texts)))
    random.shuffle(turns)
    if fills.reused:
        order = random.sample(range(fills.size), fills.size)
        words = cache(lambda number, wording: word_list(texts[wording].render(fills.at(number).slots)))
        for turn in turns:
            for place, number in enumerate(order):
                wording = turns[(place + turn) % len(texts)]
                repeats = any(_alike(words(number, wording), words(number, earlier)) for earlier in range(wording))
                yield make_instruction(texts[wording], fills.at(number)), repeats
        return
    numbers = {turn: random.sample(own := range(turn, fills.size, len(texts)), len(own)) for turn in turns}
    for place in range(-(-fills.size // len(texts))):
        for turn in turns:
            if place < len(numbers[turn]):
                yield make_instruction(texts[turn], fills.at(numbers[turn][place])), False


def _alike(a: list[str], b: list[str]) -> bool:
    """Whether the words of two texts are near-duplicates; texts of very different lengths cannot be."""
    shorter, longer = sorted((len(a), len(b)))
    if 2 * shorter < NEAR_DUPLICATE * (shorter + longer):
        return False
    return words_similarity(a, b, NEAR_DUPLICATE) >= NEAR_DUPLICATE


class _Filter:
    """Drops exact duplicates, near-duplicates and leaks, and counts them."""

    def __init__(self, leaks: Callable[[Instruction], str | None]) -> None:
        self._leaks = leaks
        self._seen: set[str] = set()
        self.dropped: Counter[str] = Counter()

    def admits(self, instruction: Instruction, repeats: bool) -> bool:
        plain = normalised(instruction.instruction)
        if plain in self._seen:
            self.dropped["duplicate"] += 1
        elif repeats:
            self.dropped["near_duplicate"] += 1
        elif leak := self._leaks(instruction):
            self.dropped[f"leak:{leak}"] += 1
        else:
            self._seen.add(plain)
            return True
        return False


def _draw(
    type: TaskType, count: int, random: Random, admit: _Filter, weights: Mapping[str, float] | None = None
) -> list[Instruction]:
    """Up to `count` instructions of a type, one skill after another, so that filtering leaves the skills balanced.

    The skills whose answers pass least often take a second turn in each round; with `weights`, each takes its own
    number of turns, and those of weight 0 only what the others cannot give.
    """
    names = list(skills(type))
    random.shuffle(names)
    turns = [*names, *(name for name in names if lookup(name).rare)]
    if weights is not None:
        by_name = {name: weights.get(f"{type}.{name}", 1.0) for name in names}
        turns = _turns({name: weight for name, weight in by_name.items() if weight > 0})
    streams = {name: _stream(type, name, Random(f"{random.random()}")) for name in names}
    instructions: list[Instruction] = []
    while streams and len(instructions) < count:
        if not streams.keys() & set(turns):
            turns = list(streams)
        for name in turns:
            if len(instructions) == count:
                break
            if name not in streams:
                continue
            instruction = next((new for new, repeats in streams[name] if admit.admits(new, repeats)), None)
            if instruction is None:
                del streams[name]
            else:
                instructions.append(instruction)
    return instructions


def _turns(weights: Mapping[str, float]) -> list[str]:
    """Skills in the order of their turns, spread evenly: ten for the heaviest, one at least for each."""
    most = max(weights.values(), default=1.0)
    counts = {name: max(1, round(TURNS * weight / most)) for name, weight in weights.items()}
    places = [((turn + 0.5) / count, name) for name, count in counts.items() for turn in range(count)]
    return [name for _, name in sorted(places)]


def sample_with_report(
    count: int,
    *,
    seed: int,
    leaks: Callable[[Instruction], str | None] = no_leaks,
    weights: Mapping[str, float] | None = None,
) -> tuple[list[Instruction], SampleReport]:
    """Exactly `count` different instructions in a seeded order, and what was dropped to get them.

    `leaks` names why an instruction must not be trained on (or None); such instructions are dropped and replaced.
    `weights` says by `type.skill` how often a skill is drawn beside the others of its type: 1 where it is not
    named; with 0 only where the others do not suffice.
    Raises UsageError if `count` is below one or more than the pool can give; the message names the pool's size.
    """
    if count < 1:
        raise UsageError(f"--count {count}: ask for at least one instruction")
    instructions: list[Instruction] = []
    admit = _Filter(leaks)
    sizes = pool_sizes()
    for kind, share in type_counts(count).items():
        part = [] if share > sizes[kind] else _draw(kind, share, Random(f"{seed}:{kind}"), admit, weights)
        if len(part) < share:
            leak_count = sum(n for reason, n in admit.dropped.items() if reason.startswith("leak:"))
            raise UsageError(
                f"--count {count}: the pool holds {pool_size()} instructions and cannot give {share} of type {kind} "
                f"({leak_count} were held out as leaks); ask for fewer"
            )
        instructions += part
    Random(f"{seed}:order").shuffle(instructions)
    report = SampleReport(
        requested=count,
        by_type={kind: sum(row.type == kind for row in instructions) for kind in TASK_TYPES},
        by_skill=dict(sorted(Counter(f"{row.type}.{row.skill}" for row in instructions).items())),
        dropped=dict(sorted(admit.dropped.items())),
    )
    return instructions, report


def sample(count: int, *, seed: int, leaks: Callable[[Instruction], str | None] = no_leaks) -> list[Instruction]:
    """Exactly `count` different instructions; see `sample_with_report`."""
    return sample_with_report(count, seed=seed, leaks=leaks)[0]


def pool_sizes() -> dict[TaskType, int]:
    """How many different instructions the pool holds, by type. A skill that nobody counted is counted here (0.2 s)."""
    counted, sizes = counted_sizes(), dict.fromkeys(TASK_TYPES, 0)
    for skill in SKILLS.values():
        for kind in skill.types:
            sizes[kind] += counted[kind].get(skill.name) or _count(kind, skill)
    return sizes


@cache
def _count(type: TaskType, skill: Skill) -> int:
    """How many different instructions a skill gives within a type, by drawing them all."""
    admit = _Filter(no_leaks)
    return sum(admit.admits(new, repeats) for new, repeats in _stream(type, skill.name, Random(0)))


def pool_size() -> int:
    """The largest count that `sample` can give: the types stay balanced, so the smallest type decides."""
    sizes = pool_sizes()
    count = len(TASK_TYPES) * min(sizes.values())
    while all(share <= sizes[kind] for kind, share in type_counts(count + 1).items()):
        count += 1
    return count
