"""From the turns of all principles to preference pairs of the constitution stage, and what is counted about them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from cai_bootstrap.constitution import Constitution
from cai_bootstrap.generation.filters import effective_unique, similar
from cai_bootstrap.generation.revision_faults import answer_fault
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.records import (
    PreferencePair,
    Prompt,
    PromptKind,
    RedrawnRevision,
    RejectedPair,
    Response,
    TaskType,
)
from cai_bootstrap.run.counts import SteeringSummary, TurnCounts

# A pair's type is one of Stage 1's; a prompt's kind is told apart more finely.
TYPES: dict[PromptKind, TaskType] = {
    "question": "question",
    "yes_no": "question",
    "request": "generation",
    "statement": "generation",
    "long": "generation",
}


@dataclass
class Chain:
    """What became of one prompt's answer, principle by principle.

    `applies` says for each principle whether it applies; None: undecided, and then no pair is made. `counter` is a
    revision by a principle that does not apply: the text to be rejected.
    """

    prompt: Prompt
    first: Response
    applies: Mapping[str, bool | None]
    text: str = ""
    last_id: str = ""
    fault: str | None = None
    revisions: dict[str, RedrawnRevision] = field(default_factory=dict)
    counter: RedrawnRevision | None = None

    def __post_init__(self) -> None:
        self.text, self.last_id = self.first.text, self.first.id
        if None in self.applies.values():
            self.fault = "undecided"
        elif fault := answer_fault(self.prompt, self.first.text, finished=self.first.finished):
            self.fault = f"first_answer_{fault}"

    @property
    def forced_by(self) -> str | None:
        """The principle whose revision of this answer is to be rejected: the prompt's own one, else the first one
        where none applies; None where the first answer is what is rejected."""
        own = self.prompt.principle
        if own and self.applies.get(own) is False:
            return own
        if True in self.applies.values():
            return None
        return next(iter(self.applies), None)

    def takes(self, principle_id: str) -> Literal["revised", "forced"] | None:
        """What a principle does at its turn: revise the answer, write a text to be rejected, or nothing."""
        if self.fault is not None:
            return None
        if self.applies[principle_id]:
            return "revised"
        return "forced" if self.forced_by == principle_id else None

    def add(self, principle_id: str, revision: RedrawnRevision) -> None:
        """Take a principle's revision; a faulty one ends the chain."""
        if revision.forced:
            self.counter = revision
        else:
            self.revisions[principle_id] = revision
            self.text, self.last_id = revision.text, revision.id
        if revision.fault is not None:
            self.fault = revision.fault if not revision.forced else f"counter_{revision.fault}"


def build_pairs(
    chains: Iterable[Chain], *, max_similarity: float, seed: int, label: str
) -> tuple[list[PreferencePair], list[RejectedPair]]:
    """One pair, or the reason why there is none, for each chain, in their order.

    A conditional principle's pairs are cut so that it applies to as many as not, drawn by `seed`. `label`
    says what had a say in the choice: the constitution, a rule that decided which revisions were kept, twins.
    """
    pairs: dict[str, PreferencePair] = {}
    rejected: dict[str, RejectedPair] = {}
    chains = list(chains)
    for chain in chains:
        pair = _pair(chain, label)
        reason = chain.fault or _pair_fault(chain, pair, max_similarity)
        if reason is None:
            pairs[chain.prompt.id] = pair
        else:
            rejected[chain.prompt.id] = _without(pair, reason)
    for id in _surplus(chains, pairs, seed):
        rejected[id] = _without(pairs.pop(id), "balanced_out")
    return list(pairs.values()), [rejected[c.prompt.id] for c in chains if c.prompt.id in rejected]


def _pair(chain: Chain, label: str) -> PreferencePair:
    prompt, counter = chain.prompt, chain.counter
    by = "+".join(chain.revisions) or chain.forced_by or ""
    return PreferencePair(
        id=f"{prompt.id}.pair",
        instruction_id=prompt.id,
        type=TYPES[prompt.kind],
        template=prompt.wording or prompt.cluster or prompt.pair or prompt.kind,
        prompt=plain_prompt(prompt.text),
        chosen=chain.text,
        rejected=chain.first.text if counter is None else counter.text,
        chosen_source="revision" if chain.revisions else "response",
        chosen_id=chain.last_id,
        rejected_id=chain.first.id if counter is None else counter.id,
        rejected_finished=chain.first.finished if counter is None else counter.finished,
        principle_id=by,
        label_source=label,
    )


def _pair_fault(chain: Chain, pair: PreferencePair, max_similarity: float) -> str | None:
    if not chain.revisions and chain.counter is None:
        return "no_principle"
    if similar(pair.chosen, pair.rejected, limit=max_similarity):
        return "unchanged"
    return None


def _without(pair: PreferencePair, reason: str) -> RejectedPair:
    return RejectedPair(
        instruction_id=pair.instruction_id,
        type=pair.type,
        template=pair.template,
        reason=reason,
        chosen=pair.chosen or None,
        rejected=pair.rejected or None,
    )


def _surplus(chains: Sequence[Chain], pairs: Mapping[str, PreferencePair], seed: int) -> list[str]:
    """Prompts to leave out so that each conditional principle applies to as many of its own as not."""
    surplus: list[str] = []
    own: dict[str, tuple[list[str], list[str]]] = {}
    for chain in chains:
        name = chain.prompt.principle
        if name and chain.prompt.id in pairs:
            own.setdefault(name, ([], []))[bool(chain.applies.get(name))].append(chain.prompt.id)
    for name, (outside, inside) in own.items():
        more, fewer = sorted((outside, inside), key=len, reverse=True)
        surplus += Random(f"balance:{seed}:{name}").sample(more, len(more) - len(fewer))
    return surplus


def summarise_turns(
    chains: Sequence[Chain],
    pairs: Sequence[PreferencePair],
    rejected: Sequence[RejectedPair],
    constitution: Constitution,
    rule_selected: Iterable[str],
    auc: Mapping[str, float],
) -> SteeringSummary:
    """Everything that is counted about the data; zero counts are there too."""
    kept = {pair.instruction_id: pair for pair in pairs}
    return SteeringSummary(
        produced=len(chains),
        constitution_sha256=constitution.sha256,
        pairs=len(pairs),
        kept_answers=sum(pair.chosen_source == "response" for pair in pairs),
        by_principle={p.id: _turn_counts(p.id, chains, kept, auc.get(p.id)) for p in constitution.principles},
        rule_selected=sorted(rule_selected),
        dropped=dict(sorted(Counter(pair.reason for pair in rejected).items())),
        effective=effective_unique(pairs),
    )


def _turn_counts(
    principle_id: str, chains: Sequence[Chain], kept: Mapping[str, PreferencePair], auc: float | None
) -> TurnCounts:
    names = {True: "yes", False: "no", None: "undecided"}
    applies = dict.fromkeys(names.values(), 0) | Counter(names[chain.applies[principle_id]] for chain in chains)
    own = [chain.revisions[principle_id] for chain in chains if principle_id in chain.revisions]
    forced = [chain.counter for chain in chains if chain.counter is not None and chain.forced_by == principle_id]
    rows = [*own, *forced]
    return TurnCounts(
        asked=len(own),
        forced=len(forced),
        changed=sum(chain.revisions[principle_id].text != chain.first.text for chain in chains
                    if principle_id in chain.revisions),
        redrawn=sum(row.draws > 1 for row in rows),
        faults=dict(sorted(Counter(row.fault for row in rows if row.fault).items())),
        pairs=sum(principle_id in pair.principle_id.split("+") for pair in kept.values()),
        applies=applies,
        auc=auc,
    )  # fmt: skip
