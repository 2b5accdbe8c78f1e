"""Pairs that a person brought, sorted into those that may train and those that may not, each with its reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cai_bootstrap.generation import filters
from cai_bootstrap.generation.candidates import Candidate
from cai_bootstrap.generation.pairs import without
from cai_bootstrap.generation.steering_pairs import TYPES
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.instructions.pair_rows import Columns, PairRow, read_pair
from cai_bootstrap.instructions.prompt_clean import LONGEST
from cai_bootstrap.instructions.prompt_kind import kind_of
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.records import Instruction, PreferencePair, RejectedPair
from cai_bootstrap.run.counts import IMPORTED_LABEL, GenerationSummary, ImportedPairs

LONGEST_ANSWER = 10_000  # characters; the tokens that train are counted by the preflight


@dataclass(frozen=True)
class SortedPairs:
    """The rows of a source: `pairs` may train, `rejected` may not. `instructions` are those of either, where known.

    `places` names the line or row of each instruction, `forms` counts the forms of the rows that could be read.
    """

    instructions: list[Instruction] = field(default_factory=list)
    pairs: list[PreferencePair] = field(default_factory=list)
    rejected: list[RejectedPair] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    places: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows were read: each is a pair or a rejected one."""
        return len(self.pairs) + len(self.rejected)

    @property
    def dropped(self) -> dict[str, int]:
        """How many rows were dropped for each reason, the most frequent first."""
        return dict(Counter(lost.reason for lost in self.rejected).most_common())

    @property
    def first_places(self) -> dict[str, int]:
        """For each reason the line or row of the first one dropped for it."""
        firsts: dict[str, int] = {}
        for lost in self.rejected:
            place = self.places[lost.instruction_id]
            firsts[lost.reason] = min(place, firsts.get(lost.reason, place))
        return firsts

    def without(self, faults: Mapping[str, str]) -> "SortedPairs":
        """The same after a look at the pairs that found these faults, by the pairs' ids."""
        lost = [without(pair, faults[pair.id]) for pair in self.pairs if pair.id in faults]
        kept = [pair for pair in self.pairs if pair.id not in faults]
        return replace(self, pairs=kept, rejected=[*self.rejected, *lost])

    def summary(self, imported: ImportedPairs) -> GenerationSummary:
        """The counts as `generation_summary.json` holds them; they add up to the rows."""
        rows: list[PreferencePair | RejectedPair] = [*self.pairs, *self.rejected]
        labels = {IMPORTED_LABEL: len(self.pairs)} if self.pairs else {}
        return GenerationSummary(
            requested=self.rows,
            produced=self.rows,
            by_type=dict(sorted(Counter(row.type for row in rows).items())),
            pairs=len(self.pairs),
            pairs_by_type=dict(sorted(Counter(pair.type for pair in self.pairs).items())),
            by_chosen_source=labels,
            by_label_source=labels,
            dropped=dict(sorted(self.dropped.items())),
            effective=filters.effective_unique(self.pairs),
            rejected_finished=len(self.pairs),
            imported=imported,
        )


def sort_pairs(
    rows: Iterable[tuple[int, Mapping[str, object]]],
    columns: Columns,
    *,
    max_similarity: float,
    held_back: frozenset[str],
) -> SortedPairs:
    """The pairs of rows with their places, looked at one by one; nothing is lost without a reason.

    Reasons: the faults of `pair_rows.read_pair`; `empty_prompt`, `empty_chosen`, `empty_rejected`; `too_long` (a prompt
    of more than 2,000 characters, an answer of more than 10,000); `same_texts`; `duplicate`; `held_back` (an
    instruction that training is watched on); and those of `filters.fault`. `max_similarity` is in percent. A pair's
    id is its place: `i17.pair` stood in line or row 17.
    """
    found = SortedPairs()
    seen: set[tuple[str, str, str]] = set()
    for place, cells in rows:
        row = read_pair(cells, columns)
        instruction = _instruction(place, row)
        found.places[instruction.id] = place
        if row.form is not None:
            found.forms[row.form] += 1
        if row.instruction:
            found.instructions.append(instruction)
        key = (" ".join(row.instruction.split()), " ".join(row.chosen.split()), " ".join(row.rejected.split()))
        reason = row.fault or _length_fault(row)
        reason = reason or ("same_texts" if row.chosen == row.rejected else None)
        reason = reason or ("duplicate" if key in seen else None)
        reason = reason or ("held_back" if row.instruction in held_back else None)
        reason = reason or filters.fault(
            instruction, _candidate(row.chosen), _candidate(row.rejected), max_similarity=max_similarity
        )
        seen.add(key)
        pair = _pair(instruction, row)
        if reason is None:
            found.pairs.append(pair)
        else:
            found.rejected.append(without(pair, reason))
    return found


def _length_fault(row: PairRow) -> str | None:
    if not word_list(row.instruction):
        return "empty_prompt"
    if not row.chosen:
        return "empty_chosen"
    if not row.rejected:
        return "empty_rejected"
    too_long = len(row.instruction) > LONGEST or max(len(row.chosen), len(row.rejected)) > LONGEST_ANSWER
    return "too_long" if too_long else None


def _instruction(place: int, row: PairRow) -> Instruction:
    """The row's prompt; its type is told by its words, as for a user's own prompts."""
    kind = kind_of(row.instruction[:LONGEST])
    return Instruction(
        id=f"i{place}", type=TYPES[kind], template=IMPORTED_LABEL, instruction=row.instruction, source="imported"
    )


def _candidate(text: str) -> Candidate:
    return Candidate(id="", text=text, finished=True, source="response", plain=True)


def _pair(instruction: Instruction, row: PairRow) -> PreferencePair:
    return PreferencePair(
        id=f"{instruction.id}.pair",
        instruction_id=instruction.id,
        type=instruction.type,
        template=IMPORTED_LABEL,
        prompt=plain_prompt(instruction.instruction),
        chosen=row.chosen,
        rejected=row.rejected,
        chosen_source="imported",
        chosen_id=f"{instruction.id}.chosen",
        rejected_id=f"{instruction.id}.rejected",
        rejected_finished=True,
        principle_id="",
        label_source=IMPORTED_LABEL,
    )
