"""Choosing the better and the worse answer, by the judges that the user named.

Each judge decides what it can, in this order: `gold` (known answers), `constraint` (rules that follow from the
instruction alone), `agreement` (facts: the model's own answers over different exemplars agree, else abstain), and
`critic` (the model's A/B judgement against a principle) where no other judge can tell. Where another judge decided, the
critic's opinion is recorded in the label and in the summary, and does not overrule it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cai_bootstrap.generation.candidates import Candidate, normalise, passes, repeats_question, says
from cai_bootstrap.generation.filters import similar
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.records import Instruction, Record

LABEL_VERSION = "3"  # of the rules below; data of another one are not mixed with these
RULES = frozenset({"constraint", "gold"})  # judges that tell two answers apart by a rule, to the letter where it asks
MIN_AGREEMENT_ANSWERS = 4


@dataclass(frozen=True)
class Proposal:
    """A chosen and a rejected candidate; `decided_by` is empty where only the critic can tell which is better."""

    chosen: Candidate
    rejected: Candidate
    decided_by: str


class ProposedPair(Record):
    """A line of `proposals.jsonl`: what the judges propose for an instruction, or for which `reason` nothing."""

    instruction_id: str
    proposal: Proposal | None = None
    reason: str = ""

    @property
    def outcome(self) -> Proposal | str:
        """The proposal, or the reason why there is none."""
        return self.proposal or self.reason


class Sides(NamedTuple):
    """The answers that a judge holds to be right, those that it holds to be wrong, and its name (none: the critic)."""

    right: Sequence[Candidate]
    wrong: Sequence[Candidate]
    judge: str


def can_label(instruction: Instruction, judges: frozenset[str], *, later_round: bool) -> bool:
    """Whether a judge could tell which answers are better; in a later round nobody votes on a fact."""
    return not (later_round and label_tier(instruction) == "gold" and "agreement" in judges and "gold" not in judges)


def propose(
    instruction: Instruction,
    candidates: Sequence[Candidate],
    judges: frozenset[str],
    *,
    agreement: float,
    max_similarity: float = 95.0,
) -> Proposal | str:
    """Propose a pair, or give the reason why there is none (for example `none_passed` or `abstained`).

    Of the worse answers one that is at most `max_similarity` percent the chosen one is taken, if there is any.
    """
    found = _sides(instruction, candidates, judges, agreement)
    return found if isinstance(found, str) else _pair(found, max_similarity)


def _sides(
    instruction: Instruction, candidates: Sequence[Candidate], judges: frozenset[str], agreement: float
) -> Sides | str:
    able = [c for c in candidates if c.finished]
    if not able:
        return "no_candidate"
    tier = label_tier(instruction)
    if tier == "constraint" and "constraint" in judges:
        return _by_rule(instruction, candidates, "constraint")
    if tier == "gold" and "gold" in judges:
        return _by_rule(instruction, candidates, "gold")
    if tier == "gold" and "agreement" in judges:
        return _by_agreement(instruction, candidates, agreement)
    if "critic" in judges:
        return _for_critic(candidates)
    return "no_judge"


def _by_rule(instruction: Instruction, candidates: Sequence[Candidate], judge: str) -> Sides | str:
    right = [
        c for c in candidates if c.finished and not (c.plain and c.text.count("\n")) and passes(instruction, c.text)
    ]
    if not right:
        return "none_passed"
    wrong = [c for c in candidates if c not in right and (not c.finished or not passes(instruction, c.text))]
    return Sides(right, wrong, judge)


def _by_agreement(instruction: Instruction, candidates: Sequence[Candidate], share: float) -> Sides | str:
    """Self-consistency (Wang et al., 2203.11171) over exemplar draws; a copy of the question's words wins no vote.

    Plain answers have no vote, so that a later round abstains: what a model agrees on that was taught such answers are
    its own mistakes as well (55 to 67% were right, 83% over exemplar draws: docs/RESULTS.md).
    """
    answers = [c for c in candidates if c.source == "response" and c.finished and not c.plain]
    votes: Counter[str] = Counter()
    for candidate in answers:
        votes[normalise(candidate.text)] += candidate.votes
    if sum(votes.values()) < MIN_AGREEMENT_ANSWERS:
        return "abstained"
    answer, count = votes.most_common(1)[0]
    if count < share * sum(votes.values()) or repeats_question(instruction, answer):
        return "abstained"
    right = [c for c in candidates if c.finished and normalise(c.text) == answer]
    # A whole sentence that says the agreed answer is no wrong answer to train against.
    wrong = [c for c in candidates if normalise(c.text) != answer and not says(instruction, right[0].text, c.text)]
    return Sides(right, wrong, "agreement")


def _for_critic(candidates: Sequence[Candidate]) -> Sides | str:
    # In a later round every answer is plain, and the greedy one stands first.
    later = all(c.plain for c in candidates)
    taught = [c for c in candidates if c.finished and (later or not c.plain)]
    if not taught:
        return "no_candidate"
    others = [c for c in candidates if c.text != taught[0].text]
    return Sides(taught[:1], others, "")


def _pair(sides: Sides, limit: float) -> Proposal | str:
    """A revision is chosen before a response; a finished wrong answer is rejected before one that ran on.

    What nearly is the chosen answer is rejected only where nothing else is wrong: such a pair is dropped afterwards.
    """
    if not sides.wrong:
        return "none_failed"
    chosen = min(sides.right, key=lambda c: (c.source != "revision", c.plain))
    exact = sides.judge in RULES
    apart = [c for c in sides.wrong if not similar(chosen.text, c.text, limit=limit, exact=exact)]
    rejected = min(apart or sides.wrong, key=lambda c: (not c.finished, c.plain))
    return Proposal(chosen, rejected, sides.judge)
