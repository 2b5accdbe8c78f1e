"""Which proposed pairs may train: nothing empty, cut off, echoed, run on, or (nearly) the same on both sides."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import median

from rapidfuzz import fuzz

from cai_bootstrap.generation.candidates import Candidate, normalise
from cai_bootstrap.records import Instruction, PreferencePair

SHORT = 40
MIN_PER_SKILL = 8


def similar(first: str, second: str, *, limit: float) -> bool:
    """More than `limit` percent identical after normalising; below 40 characters only when equal."""
    a, b = normalise(first), normalise(second)
    if a == b:
        return True
    return max(len(a), len(b)) >= SHORT and fuzz.ratio(a, b) > limit


def fault(instruction: Instruction, chosen: Candidate, rejected: Candidate, *, max_similarity: float) -> str | None:
    """The reason why a pair must not train, or None.

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
    if similar(chosen.text, rejected.text, limit=max_similarity):
        return "too_similar"
    return None


def over_represented(pairs: Iterable[PreferencePair], skills: dict[str, str]) -> set[str]:
    """Ids of pairs to leave out so that no skill has more than twice the median of its type's skills.

    Filtering keeps what the model can already do; without this the easy skills would fill the data.
    """
    by_skill: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        by_skill[pair.type, skills[pair.instruction_id]].append(pair.id)
    counts: dict[str, list[int]] = defaultdict(list)
    for (kind, _), found in by_skill.items():
        counts[kind].append(len(found))
    dropped: set[str] = set()
    for (kind, _), found in by_skill.items():
        allowed = max(MIN_PER_SKILL, int(2 * median(counts[kind])))
        dropped.update(found[allowed:])
    return dropped


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
