"""Which proposed pairs may train: nothing empty, cut off, echoed, run on, or (nearly) the same on both sides."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import mean

from rapidfuzz import fuzz

from cai_bootstrap.generation.candidates import Candidate, normalise
from cai_bootstrap.records import Instruction, PreferencePair

SHORT = 40
MIN_PER_SKILL = 8


def similar(first: str, second: str, *, limit: float, exact: bool = False) -> bool:
    """More than `limit` percent identical after normalising; below 40 characters only when equal.

    `exact`: a rule tells the two apart, so case and punctuation count ("FERN" and "fern" where capitals are asked).
    """
    a, b = (" ".join(text.split()) if exact else normalise(text) for text in (first, second))
    if a == b:
        return True
    return max(len(a), len(b)) >= SHORT and fuzz.ratio(a, b) > limit


def fault(
    instruction: Instruction, chosen: Candidate, rejected: Candidate, *, max_similarity: float, exact: bool = False
) -> str | None:
    """The reason why a pair must not train, or None. `exact` as in `similar`.

    A rejected text that is the chosen one and then runs on is kept: stopping is what such a pair teaches.
    """
    if not chosen.text.strip():
        return "empty_chosen"
    if not rejected.text.strip():
        return "empty_rejected"
    if not chosen.finished:
        return "truncated_chosen"
    if "\n\n" in chosen.text or "Instruction:" in chosen.text or "Response:" in chosen.text:
        return "run_on_chosen"
    if len(normalise(instruction.instruction)) >= 20 and normalise(instruction.instruction) in normalise(chosen.text):
        return "echoing_chosen"
    if similar(chosen.text, rejected.text, limit=max_similarity, exact=exact):
        return "too_similar"
    return None


def over_represented(pairs: Iterable[PreferencePair], skills: dict[str, str]) -> set[str]:
    """Ids of pairs to leave out so that neither the easy skills of a type nor the easy types fill the data.

    Filtering keeps what the model can already do: of 133 instructions each, copying kept 127 and sorting 10. A skill
    may have twice the mean of its type's harder half (a median would be that of skills which hardly differ), a type
    twice the mean of the harder types. Instructions without a known skill, which the model wrote itself, are many
    skills; they count for their type and are never a skill that has too many.
    """
    by_skill: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        by_skill[pair.type][skills[pair.instruction_id]].append(pair.id)
    kept = {kind: _even(found) for kind, found in by_skill.items()}
    allowed = _allowed([sum(map(len, found.values())) for found in kept.values()], least=0)
    dropped: set[str] = set()
    for kind, found in by_skill.items():
        level = _level([len(ids) for ids in kept[kind].values()], allowed)
        for skill, ids in found.items():
            dropped.update(ids[min(level, len(kept[kind][skill])) :])
    return dropped


def _even(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """The pairs of a type's skills, each skill cut to what it may have."""
    counts = [len(ids) for skill, ids in found.items() if skill]
    allowed = _allowed(counts, least=MIN_PER_SKILL) if counts else 0
    return {skill: ids[:allowed] if skill else ids for skill, ids in found.items()}


def _allowed(counts: list[int], *, least: int) -> int:
    """Twice the mean of the lower half of some counts."""
    lower = sorted(counts)[: -(-len(counts) // 2)]
    return max(least, int(2 * mean(lower))) if lower else least


def _level(counts: list[int], total: int) -> int:
    """The highest number to which all counts can be cut with a sum of at most `total`."""
    level = max(counts, default=0)
    while level > MIN_PER_SKILL and sum(min(count, level) for count in counts) > total:
        level -= 1
    return level


def effective_unique(pairs: Iterable[PreferencePair]) -> dict[str, int]:
    """Rows against what is really different in them: prompts, and chosen texts."""
    prompts: set[bytes] = set()
    chosen: Counter[bytes] = Counter()
    rows = 0
    for pair in pairs:
        rows += 1
        prompts.add(_digest(pair.prompt))
        chosen[_digest(pair.chosen)] += 1
    return {
        "rows": rows,
        "unique_prompts": len(prompts),
        "unique_chosen": len(chosen),
        "largest_repetition": max(chosen.values(), default=0),
    }


def _digest(text: str) -> bytes:
    return hashlib.blake2b(normalise(text).encode(), digest_size=12).digest()
