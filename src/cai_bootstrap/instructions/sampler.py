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
from functools import lru_cache
from random import Random

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.fill import Fill
from cai_bootstrap.instructions.pool import Template
from cai_bootstrap.instructions.skills import lookup, skills, supply, wordings
from cai_bootstrap.instructions.text import normalised, word_list, words_similarity
from cai_bootstrap.records import TASK_TYPES, Instruction, TaskType

NEAR_DUPLICATE = 0.85
TURNS = 10
# As `count_pool` counts them; a test holds them to it.
POOL_SIZES: dict[TaskType, int] = {
    "question": 96577, "completion": 82753, "generation": 46851, "transformation": 68390,
}  # fmt: skip


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

    Only the order depends on `random`: an open fill has its one wording by its number, and of two wordings that ask one
    fact in nearly the same words, the later template gives the near-duplicate. So the pool is the same for every seed.
    """
    fills, texts = supply(skill), wordings(skill, type)
    turns = list(range(len(texts)))
    random.shuffle(turns)
    if fills.reused:
        order = random.sample(range(fills.size), fills.size)
        worded = lru_cache(maxsize=None)(lambda number, chosen: word_list(texts[chosen].render(fills.at(number).slots)))
        for turn in turns:
            for place, number in enumerate(order):
                chosen = turns[(place + turn) % len(texts)]
                said = worded(number, chosen)
                repeats = any(_alike(said, worded(number, earlier)) for earlier in range(chosen))
                yield make_instruction(texts[chosen], fills.at(number)), repeats
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

    def admits(self, made: Instruction, repeats: bool) -> bool:
        plain = normalised(made.instruction)
        if plain in self._seen:
            self.dropped["duplicate"] += 1
        elif repeats:
            self.dropped["near_duplicate"] += 1
        elif leak := self._leaks(made):
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
        own = {name: weights.get(f"{type}.{name}", 1.0) for name in names}
        turns = _turns({name: weight for name, weight in own.items() if weight > 0})
    streams = {name: _stream(type, name, Random(f"{random.random()}")) for name in names}
    kept: list[Instruction] = []
    while streams and len(kept) < count:
        if not streams.keys() & set(turns):
            turns = list(streams)
        for name in turns:
            if len(kept) == count:
                break
            if name not in streams:
                continue
            found = next((made for made, repeats in streams[name] if admit.admits(made, repeats)), None)
            if found is None:
                del streams[name]
            else:
                kept.append(found)
    return kept


def _turns(weights: Mapping[str, float]) -> list[str]:
    """Skills in the order of their turns, spread evenly: ten for the heaviest, one at least for each."""
    most = max(weights.values(), default=1.0)
    taken = {name: max(1, round(TURNS * weight / most)) for name, weight in weights.items()}
    places = [((turn + 0.5) / count, name) for name, count in taken.items() for turn in range(count)]
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
    drawn: list[Instruction] = []
    admit = _Filter(leaks)
    for kind, wanted in type_counts(count).items():
        part = [] if wanted > POOL_SIZES[kind] else _draw(kind, wanted, Random(f"{seed}:{kind}"), admit, weights)
        if len(part) < wanted:
            held_out = sum(n for reason, n in admit.dropped.items() if reason.startswith("leak:"))
            raise UsageError(
                f"--count {count}: the pool holds {pool_size()} instructions and cannot give {wanted} of type {kind} "
                f"({held_out} were held out as leaks); ask for fewer"
            )
        drawn += part
    Random(f"{seed}:order").shuffle(drawn)
    report = SampleReport(
        requested=count,
        by_type={kind: sum(made.type == kind for made in drawn) for kind in TASK_TYPES},
        by_skill=dict(sorted(Counter(f"{made.type}.{made.skill}" for made in drawn).items())),
        dropped=dict(sorted(admit.dropped.items())),
    )
    return drawn, report


def sample(count: int, *, seed: int, leaks: Callable[[Instruction], str | None] = no_leaks) -> list[Instruction]:
    """Exactly `count` different instructions; see `sample_with_report`."""
    return sample_with_report(count, seed=seed, leaks=leaks)[0]


def count_pool() -> dict[TaskType, int]:
    """How many different instructions the pool holds, by type, counted by drawing them all (15 s)."""
    admit = _Filter(no_leaks)
    return {kind: len(_draw(kind, 10**9, Random(f"0:{kind}"), admit)) for kind in TASK_TYPES}


def pool_size() -> int:
    """The largest count that `sample` can give: the types stay balanced, so the smallest type decides."""
    count = 4 * min(POOL_SIZES.values())
    while all(wanted <= POOL_SIZES[kind] for kind, wanted in type_counts(count + 1).items()):
        count += 1
    return count
