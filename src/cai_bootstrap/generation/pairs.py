"""From proposals to preference pairs: the critic's say, the filters, and a summary in which everything adds up."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.generation import filters
from cai_bootstrap.generation.candidates import Candidate
from cai_bootstrap.generation.select import RULES, Proposal
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.records import Instruction, PreferencePair, Record, RejectedPair
from cai_bootstrap.run.counts import GenerationSummary, PrincipleCounts, SkillCounts

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


def summarise(
    kept: Iterable[PreferencePair],
    dropped: Iterable[RejectedPair],
    opinions: Iterable[Judgement],
    principles: dict[str, Principle],
    constitution: Constitution,
    skills: Mapping[str, str],
) -> GenerationSummary:
    """Counts of a finished generation: by principle and source (zero included), what was dropped and why.

    `by_skill` tells of how many instructions some answer was right, and of how many all were (`settled`), so that they
    gave no pair. `skills` holds the skill of each instruction by its id; one that the model wrote has none, and counts
    as `self`. Reads each of the first three once, one record at a time.
    """

    def skill_of(pair: PreferencePair | RejectedPair) -> str:
        return f"{pair.type}.{skills.get(pair.instruction_id) or pair.template}"

    counts = _PairCounts(constitution, principles.values(), skill_of)
    effective = filters.effective_unique(counts.counting(kept))
    reasons: Counter[str] = Counter()
    instructions, answered, settled = counts.skills.copy(), counts.skills.copy(), Counter[str]()
    for lost in dropped:
        reasons[lost.reason] += 1
        instructions[skill_of(lost)] += 1
        answered[skill_of(lost)] += lost.reason in ANSWERED
        settled[skill_of(lost)] += lost.reason == "none_failed"
    by_skill = {
        name: SkillCounts(asked=count, answered=answered[name], settled=settled[name])
        for name, count in sorted(instructions.items())
    }
    return GenerationSummary(
        pairs=effective["rows"],
        pairs_by_type=dict(sorted(counts.types.items())),
        pairs_by_skill=dict(sorted(counts.skills.items())),
        by_principle={name: PrincipleCounts(**used) for name, used in counts.principles.items()},
        by_chosen_source=counts.sources,
        by_label_source=dict(sorted(counts.labels.items())),
        by_skill=by_skill,
        dropped=dict(sorted(reasons.items())),
        effective=effective,
        rejected_finished=counts.rejected_finished,
        critic=_critic_counts(opinions),
    )


class _PairCounts:
    """What the pairs add up to, counted while they pass by once."""

    def __init__(
        self, constitution: Constitution, assigned: Iterable[Principle], skill_of: Callable[[PreferencePair], str]
    ) -> None:
        self._skill_of = skill_of
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
            self.skills[self._skill_of(pair)] += 1
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
