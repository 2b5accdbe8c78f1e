"""From proposals to preference pairs: the critic's say, the filters, and a summary in which everything adds up."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.generation import filters
from cai_bootstrap.generation.candidates import Candidate
from cai_bootstrap.generation.select import RULES, Proposal
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.records import Instruction, PreferencePair, Record, RejectedPair

# Reasons for which an instruction gave no pair although one of its answers was right.
ANSWERED = frozenset({"none_failed", "too_similar", "balanced_out"})


class Judgement(Record):
    """The critic's opinion of one proposed pair; `consistent` tells whether it survived swapping the answers."""

    instruction_id: str
    chosen_id: str
    rejected_id: str
    principle_id: str
    margin: float
    consistent: bool
    prompt_version: str


def build_pair(
    instruction: Instruction,
    proposal: Proposal | str,
    opinion: Judgement | None,
    principle_id: str,
    *,
    max_similarity: float,
) -> PreferencePair | RejectedPair:
    """Turn a proposal and the critic's opinion into a pair, or into a rejected one with its reason."""
    if isinstance(proposal, str):
        return RejectedPair(
            instruction_id=instruction.id, type=instruction.type, template=instruction.template, reason=proposal
        )
    chosen, rejected, label = proposal.chosen, proposal.rejected, proposal.decided_by
    reason: str | None = None
    if opinion is not None and opinion.consistent and (opinion.margin > 0 or not label):
        if opinion.margin < 0:
            chosen, rejected = rejected, chosen
        label = f"critic+{label}" if label else "critic"
    elif not label:
        reason = "critic_inconsistent"
    exact = proposal.decided_by in RULES
    reason = reason or filters.fault(instruction, chosen, rejected, max_similarity=max_similarity, exact=exact)
    if reason is not None:
        return RejectedPair(
            instruction_id=instruction.id,
            type=instruction.type,
            template=instruction.template,
            reason=reason,
            chosen=chosen.text,
            rejected=rejected.text,
        )
    return pair_of(instruction, chosen, rejected, principle_id=principle_id, label=label)


def pair_of(
    instruction: Instruction, chosen: Candidate, rejected: Candidate, *, principle_id: str, label: str
) -> PreferencePair:
    """The pair of two candidates as it trains; `label` names what preferred the chosen one."""
    return PreferencePair(
        id=f"{instruction.id}.pair",
        instruction_id=instruction.id,
        type=instruction.type,
        template=instruction.template,
        prompt=plain_prompt(instruction.instruction),
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_source=chosen.source,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        rejected_finished=rejected.finished,
        principle_id=principle_id,
        label_source=label,
    )


def without(pair: PreferencePair, reason: str) -> RejectedPair:
    return RejectedPair(
        instruction_id=pair.instruction_id,
        type=pair.type,
        template=pair.template,
        reason=reason,
        chosen=pair.chosen,
        rejected=pair.rejected,
    )


def _skill(pair: PreferencePair | RejectedPair) -> str:
    """Type and skill of a pair by its template's name; `self` where the model wrote the instruction."""
    parts = pair.template.split(".")
    return f"{pair.type}.{parts[2] if len(parts) > 2 else parts[0]}"


def summarise(
    kept: Iterable[PreferencePair],
    dropped: Iterable[RejectedPair],
    opinions: Iterable[Judgement],
    principles: dict[str, Principle],
    constitution: Constitution,
) -> dict[str, Any]:
    """Counts of a finished generation: by principle and source (zero included), what was dropped and why.

    `by_skill` tells of how many instructions some answer was right, and of how many all were (`settled`), so that they
    gave no pair. Reads each of the three once, one record at a time.
    """
    counts = _PairCounts(constitution, principles.values())
    effective = filters.effective_unique(counts.counting(kept))
    reasons: Counter[str] = Counter()
    instructions, answered, settled = counts.skills.copy(), counts.skills.copy(), Counter[str]()
    for lost in dropped:
        reasons[lost.reason] += 1
        instructions[_skill(lost)] += 1
        answered[_skill(lost)] += lost.reason in ANSWERED
        settled[_skill(lost)] += lost.reason == "none_failed"
    return {
        "pairs": effective["rows"],
        "pairs_by_type": dict(sorted(counts.types.items())),
        "pairs_by_skill": dict(sorted(counts.skills.items())),
        "by_principle": counts.principles,
        "by_chosen_source": counts.sources,
        "by_label_source": dict(sorted(counts.labels.items())),
        "by_skill": {
            name: {"asked": count, "answered": answered[name], "settled": settled[name]}
            for name, count in sorted(instructions.items())
        },
        "dropped": dict(sorted(reasons.items())),
        "effective": effective,
        "rejected_finished": counts.rejected_finished,
        "critic": _critic_counts(opinions),
    }


class _PairCounts:
    """What the pairs add up to, counted while they pass by once."""

    def __init__(self, constitution: Constitution, assigned: Iterable[Principle]) -> None:
        self.sources = {"revision": 0, "response": 0}
        self.types: Counter[str] = Counter()
        self.skills: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.rejected_finished = 0
        self.principles = {p.id: {"assigned": 0, "pairs": 0, "revisions_chosen": 0} for p in constitution.principles}
        for principle in assigned:
            self.principles[principle.id]["assigned"] += 1

    def counting(self, pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
        """The same pairs, each counted as it is taken."""
        for pair in pairs:
            self.sources[pair.chosen_source] += 1
            self.types[pair.type] += 1
            self.skills[_skill(pair)] += 1
            self.labels[pair.label_source] += 1
            self.rejected_finished += pair.rejected_finished
            self.principles[pair.principle_id]["pairs"] += 1
            self.principles[pair.principle_id]["revisions_chosen"] += pair.chosen_source == "revision"
            yield pair


def _critic_counts(opinions: Iterable[Judgement]) -> dict[str, int]:
    counts = {"asked": 0, "consistent": 0, "agrees_with_label": 0}
    for opinion in opinions:
        counts["asked"] += 1
        counts["consistent"] += opinion.consistent
        counts["agrees_with_label"] += opinion.consistent and opinion.margin > 0
    return counts
