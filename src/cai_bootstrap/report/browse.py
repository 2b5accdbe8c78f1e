"""The records that the page's two browsers show: held-out items with every side's output, pairs with their making."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from cai_bootstrap.errors import CaiError, DataError
from cai_bootstrap.judging.own.names import own_name, plain
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.measuring.declared import ItemRow, Results
from cai_bootstrap.records import (
    Answer,
    Critique,
    EvalItem,
    Instruction,
    PreferencePair,
    RejectedPair,
    Response,
    Revision,
)
from cai_bootstrap.report.files import RunData, RunFiles
from cai_bootstrap.report.safe import clip
from cai_bootstrap.run.counts import PrincipleCounts

_FLIPS = {
    ("base", False, True): ["gained against raw base"],
    ("base", True, False): ["lost against raw base"],
    ("rival", False, True): ["gained against best prompted base"],
    ("rival", True, False): ["lost against best prompted base"],
}
_ORDER = (
    "lost against raw base",
    "lost against best prompted base",
    "gained against best prompted base",
    "gained against raw base",
    "lost",
    "gained",
)


class ItemRecord(TypedDict):
    """One held-out item: `f` holds the filters' values.

    `s` holds the sides' [text, followed, reason, first line followed, its reason, finished].
    """

    id: str
    title: str
    wanted: str
    f: dict[str, list[str]]
    s: list[list[str | bool]]


class PairRecord(TypedDict):
    """One pair, or an instruction that gave none: `f` holds the filters' values, `t` the texts with their names."""

    id: str
    title: str
    kept: bool
    principle: list[str]
    label: str
    source: str
    f: dict[str, list[str]]
    t: list[list[str]]


class PairCounts(TypedDict):
    """How many pairs, and instructions that gave none, there are in the files."""

    pairs: int
    dropped: int


def item_records(
    rows: Sequence[ItemRow], items: Mapping[str, EvalItem], sides: Sequence[str], limit: int
) -> list[ItemRecord]:
    """One record for each held-out item, flips first (losses before gains). Texts are cut at `limit` characters."""
    answers = ((row, row.answers()) for row in rows)
    return _in_order(_item_record(row, {side: own[side] for side in sides}, items, limit) for row, own in answers)


def compared_records(
    before: Results, after: Results, side_a: str, side_b: str, items: Mapping[str, EvalItem], limit: int
) -> list[ItemRecord]:
    """The records of two runs side by side: `a` is a side of one file, `b` of the other."""
    was, now = before.answers(side_a), after.answers(side_b)
    return _in_order(_item_record(row, {"a": was[row.id], "b": now[row.id]}, items, limit) for row in before.items)


def _in_order(records: Iterable[ItemRecord]) -> list[ItemRecord]:
    return sorted(records, key=lambda record: _rank(record["f"]["flip"]))


def _item_record(row: ItemRow, answers: dict[str, Answer], items: Mapping[str, EvalItem], limit: int) -> ItemRecord:
    item = items.get(row.id)
    return {
        "id": row.id,
        "title": clip(row.instruction, limit),
        "wanted": clip(_wanted(item), 400) if item else "",
        "f": {
            "type": [row.type],
            "difficulty": [item.difficulty if item else "unknown"],
            "skill": [(item.skill if item else "") or "none"],
            "reason": [answer.reason for answer in list(answers.values())[-1:]],
            "flip": _flips(answers),
        },
        "s": [
            [clip(a.response, limit), a.success, a.reason, a.first_line_success, a.first_line_reason, a.finished]
            for a in answers.values()
        ],
    }


@dataclass(frozen=True)
class _Making:
    """What was written about one instruction: the revision that a pair used, or the first one, and what it revised."""

    instruction: Instruction | None = None
    answer: Response | None = None
    critique: Critique | None = None
    revision: Revision | None = None

    def effect(self) -> list[str]:
        """What the revision did to the answer, by the instruction's rule; nothing where none can tell."""
        if self.instruction is None or self.answer is None or self.revision is None or not self.instruction.scorer:
            return []
        was, now = _follows(self.instruction, self.answer), _follows(self.instruction, self.revision)
        if was is None or now is None:
            return []
        words = {(False, True): "fixed", (True, False): "broken", (True, True): "left right"}
        return [words.get((was, now), "left wrong")]


class _Makings:
    """The instructions of a run with their answers, critiques and revisions, by id."""

    def __init__(self, data: RunData) -> None:
        self._instructions = {row.id: row for _, row in data.instructions}
        self._answers = {row.id: row for _, row in data.responses}
        self._critiques = {row.id: row for _, row in data.critiques}
        self._revisions: dict[str, list[Revision]] = {}
        for _, revision in data.revisions:
            if (answer := self._answers.get(revision.response_id)) is not None:
                self._revisions.setdefault(answer.instruction_id, []).append(revision)

    def of_pair(self, row: PreferencePair | RejectedPair) -> _Making:
        """The making of a pair, or of what gave none."""
        own = self._revisions.get(row.instruction_id, [])
        used = {row.chosen_id, row.rejected_id} if isinstance(row, PreferencePair) else set()
        revision = next((revision for revision in own if revision.id in used), own[0] if own else None)
        if revision is None:
            return _Making(self._instructions.get(row.instruction_id))
        return _Making(
            self._instructions.get(row.instruction_id),
            self._answers.get(revision.response_id),
            self._critiques.get(revision.critique_id),
            revision,
        )

    def of_revision(self, revision: Revision) -> _Making:
        """The making of a revision."""
        answer = self._answers.get(revision.response_id)
        instruction = None if answer is None else self._instructions.get(answer.instruction_id)
        return _Making(instruction, answer, revision=revision)


def pair_records(run: RunFiles, limit: int, most: int) -> tuple[list[PairRecord], PairCounts]:
    """One record for each pair and each instruction that gave none, and how many there are in the files.

    Of more than `most`, pairs come first, up to two thirds of the places if there are enough others.
    """
    kept, dropped = run.data.pairs, run.data.rejected
    places = max(most * 2 // 3, most - len(dropped))
    makings, texts = _Makings(run.data), _principle_texts(run)
    rows: list[tuple[int, PreferencePair | RejectedPair]] = [*kept[:places]]
    rows += dropped[: max(0, most - min(len(kept), places))]
    records = [_pair_record(row, number, makings.of_pair(row), texts, limit) for number, row in rows]
    return records, {"pairs": len(kept), "dropped": len(dropped)}


def _pair_record(
    row: PreferencePair | RejectedPair, number: int, making: _Making, texts: Mapping[str, str], limit: int
) -> PairRecord:
    pair = row if isinstance(row, PreferencePair) else None
    revision, answer = making.revision, making.answer
    instruction = making.instruction.instruction if making.instruction else ""
    principle = (pair and pair.principle_id) or (revision and revision.principle_id) or ""
    label, source = (pair.label_source, pair.chosen_source) if pair else ("", "")
    written = (
        ("Chosen", row.chosen),
        ("Rejected", row.rejected),
        ("First answer", answer.text if answer else None),
        ("Critique", making.critique.text if making.critique else None),
        ("Revision", revision.text if revision else None),
    )
    return {
        "id": pair.id if pair else row.instruction_id,
        "title": clip(((pair and pair.prompt) or instruction).rstrip("\n"), limit),
        "kept": pair is not None,
        "principle": [principle, texts.get(principle, "")],
        "label": label,
        "source": source,
        "f": {
            "outcome": ["pair" if isinstance(row, PreferencePair) else row.reason],
            "type": [row.type],
            "label": [label or "none"],
            "source": [source or "none"],
            "principle": [principle or "none"],
            "round": [f"round {number}"],
            "revision": making.effect(),
        },
        "t": [[name, clip(text, limit)] for name, text in written if text is not None],
    }


def principle_rows(run: RunFiles) -> list[list[str | int]]:
    """How often each principle was assigned, led to a pair or a chosen revision, and fixed or broke an answer.

    Fixed and broken are counted where the instruction has a rule: the rule judges the answer before and after.
    """
    used = run.summary.by_principle if run.summary is not None else {}
    makings = _Makings(run.data)
    effects: dict[str, Counter[str]] = {}
    for _, revision in run.data.revisions:
        if effect := makings.of_revision(revision).effect():
            effects.setdefault(revision.principle_id, Counter()).update(effect)
    texts = _principle_texts(run)
    rows: list[list[str | int]] = []
    for name in dict.fromkeys([*used, *effects]):
        counts, seen = used.get(name, PrincipleCounts()), effects.get(name, Counter())
        ends = [seen[effect] for effect in ("fixed", "broken", "left right", "left wrong")]
        rows.append([name, texts.get(name, ""), counts.assigned, counts.pairs, counts.revisions_chosen, *ends])
    return rows


def _follows(instruction: Instruction, text: Response | Revision) -> bool | None:
    """Whether a text follows its instruction; None where its rule, whose arguments are free in form, cannot tell."""
    try:
        judged = check(instruction.instruction, instruction.scorer or "", instruction.args, instruction.gold, text.text)
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return judged.success and text.finished


def _flips(answers: Mapping[str, Answer]) -> list[str]:
    flips = []
    if "a" in answers and "b" in answers:
        was, now = answers["a"].success, answers["b"].success
        flips += [] if was == now else ["gained" if now else "lost"]
    trained = answers.get("trained")
    if trained is not None and "base" in answers:
        flips += _FLIPS.get(("base", answers["base"].success, trained.success), [])
    if trained is not None and "rival" in answers:
        flips += _FLIPS.get(("rival", answers["rival"].first_line_success, trained.first_line_success), [])
    followed = [a.first_line_success if side == "rival" else a.success for side, a in answers.items()]
    flips += ["followed by all"] if all(followed) else [] if any(followed) else ["followed by none"]
    return flips


def _rank(flips: list[str]) -> int:
    return min((_ORDER.index(flip) for flip in flips if flip in _ORDER), default=len(_ORDER))


def _wanted(item: EvalItem) -> str:
    if item.scorer != "checks":
        return f"{plain(item.scorer)}; " * bool(own_name(item.scorer)) + f"accepted: {' | '.join(item.gold)}"
    checks = []
    for entry in item.args.get("checks", []):
        details = ", ".join(f"{key} {_plain(value)}" for key, value in entry.items() if key != "check")
        name = plain(str(entry["check"]))
        checks.append(f"{name} ({details})" if details else name)
    return f"checks: {'; '.join(checks)}"


def _plain(value: object) -> str:
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


def _principle_texts(run: RunFiles) -> dict[str, str]:
    """The principles' texts, if the constitution is still the one that the data were made with."""
    from cai_bootstrap.constitution import load_constitution

    path = run.config("constitution")
    if not isinstance(path, str):
        return {}
    try:
        loaded = load_constitution(Path(path))
    except CaiError:
        return {}
    if loaded.sha256 != (run.summary and run.summary.constitution_sha256):
        return {}
    return {principle.id: principle.text for principle in loaded.principles}
