"""The records that the page's two browsers show: held-out prompts with every arm's answer, pairs with their making."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from cai_bootstrap.measuring.principles.declared import (
    DescribedPrinciple,
    JudgedAnswer,
    PrincipleItem,
    PrincipleResults,
)
from cai_bootstrap.records import Critique, PreferencePair, Prompt, RedrawnRevision, RejectedPair, Response
from cai_bootstrap.report.browse import PairCounts, PairRecord
from cai_bootstrap.report.principles.files import SteeringData
from cai_bootstrap.report.safe import clip


class AnswerRecord(TypedDict):
    """One arm's answer: `h` and `s` say by principle whether its first line, and the whole of it, obeys."""

    text: str
    finished: bool
    h: dict[str, bool]
    s: dict[str, bool]


class PromptRecord(TypedDict):
    """One held-out prompt: `f` holds the filters' values, `applies` whether each principle applies, `a` the answers."""

    id: str
    title: str
    f: dict[str, list[str]]
    applies: dict[str, bool]
    a: list[AnswerRecord]


def prompt_records(results: PrincipleResults, limit: int) -> list[PromptRecord]:
    """One record for each held-out prompt: what the trained model lost against the raw base first, then what it gained.

    Texts are cut at `limit` characters.
    """
    principles = {principle.id: principle for principle in results.constitution.principles}
    records = [_prompt_record(item, principles, limit) for item in results.items]
    return sorted(records, key=lambda record: _rank(record["f"]["change"]))


def _prompt_record(item: PrincipleItem, principles: Mapping[str, DescribedPrinciple], limit: int) -> PromptRecord:
    judged = [id for id in principles if id in item.base.holds]
    applies = {id: _applies(principles[id], item) for id in judged}
    return {
        "id": item.id,
        "title": clip(item.text, limit),
        "f": {
            "principle": judged,
            "kind": [item.kind],
            "split": [_split(item)],
            "change": _changes(item, judged),
        },
        "applies": applies,
        "a": [_answer(answer, limit) for answer in item.answers().values()],
    }


def _answer(answer: JudgedAnswer, limit: int) -> AnswerRecord:
    return {"text": clip(answer.response, limit), "finished": answer.finished, "h": answer.holds, "s": answer.strict}


def _applies(principle: DescribedPrinciple, item: PrincipleItem) -> bool:
    if principle.conditional:
        return bool(item.applies)
    return not principle.applies_to or item.kind in principle.applies_to


def _split(item: PrincipleItem) -> str:
    if item.principle:
        return f"matched: {item.principle} {'applies' if item.applies else 'does not apply'}"
    return "unseen kind" if item.split == "unseen" else "trained kind"


def _changes(item: PrincipleItem, judged: Sequence[str]) -> list[str]:
    """What training changed, by first line: an answer obeys now, or no longer."""
    if item.trained is None:
        return []
    was, now = item.base.holds, item.trained.holds
    changed = [id for id in judged if id in now and was[id] != now[id]]
    return list(dict.fromkeys("now obeys" if now[id] else "no longer obeys" for id in changed)) or ["unchanged"]


def _rank(changes: list[str]) -> int:
    order = ("no longer obeys", "now obeys", "unchanged")
    return min((order.index(change) for change in changes), default=len(order))


class _Makings:
    """What was written about each prompt, by the prompt's id."""

    def __init__(self, data: SteeringData) -> None:
        self.prompts: dict[str, Prompt] = {row.id: row for row in data.prompts}
        self.answers: dict[str, Response] = {row.instruction_id: row for row in data.responses}
        prompt_of = {row.id: row.instruction_id for row in data.responses}
        self.turns: dict[str, list[tuple[Critique | None, RedrawnRevision]]] = {}
        for critiques, revisions in zip(data.critiques, data.revisions, strict=True):
            by_id = {row.id: row for row in critiques}
            for revision in revisions:
                prompt = prompt_of.get(revision.response_id)
                if prompt is not None:
                    prompt_of[revision.id] = prompt  # what the next principle is given
                    self.turns.setdefault(prompt, []).append((by_id.get(revision.critique_id), revision))


def pair_records(data: SteeringData, limit: int, most: int) -> tuple[list[PairRecord], PairCounts]:
    """One record for each pair and each prompt that gave none, and how many there are in the files.

    Of more than `most`, pairs come first, up to two thirds of the places if there are enough others.
    """
    kept, dropped = data.pairs, data.rejected
    places = max(most * 2 // 3, most - len(dropped))
    rows: list[PreferencePair | RejectedPair] = [*kept[:places]]
    rows += dropped[: max(0, most - min(len(kept), places))]
    makings = _Makings(data)
    return [_pair_record(row, makings, limit) for row in rows], {"pairs": len(kept), "dropped": len(dropped)}


def _pair_record(row: PreferencePair | RejectedPair, makings: _Makings, limit: int) -> PairRecord:
    pair = row if isinstance(row, PreferencePair) else None
    prompt = makings.prompts.get(row.instruction_id)
    answer, turns = makings.answers.get(row.instruction_id), makings.turns.get(row.instruction_id, [])
    principles = pair.principle_id.split("+") if pair is not None else [revision.principle_id for _, revision in turns]
    source, label = (pair.chosen_source, pair.label_source) if pair is not None else ("", "")
    written = [("Chosen", row.chosen), ("Rejected", row.rejected), ("First answer", answer.text if answer else None)]
    for critique, revision in turns:
        written.append((f"Critique: {revision.principle_id}", critique.text if critique is not None else None))
        written.append((_revision_name(revision), revision.text))
    title = pair.prompt if pair is not None else prompt.text if prompt is not None else row.instruction_id
    return {
        "id": pair.id if pair is not None else row.instruction_id,
        "title": clip(title.rstrip("\n"), limit),
        "kept": pair is not None,
        "principle": [", ".join(principles), ""],
        "label": label,
        "source": source,
        "f": {
            "outcome": [row.reason if isinstance(row, RejectedPair) else "pair"],
            "principle": principles or ["none"],
            "kind": [prompt.kind if prompt is not None else row.type],
            "source": [{"response": "first answer"}.get(source, source or "none")],
            "revision": sorted({_turn(revision) for _, revision in turns}),
        },
        "t": [[name, clip(text, limit)] for name, text in written if text is not None],
    }


def _turn(revision: RedrawnRevision) -> str:
    if revision.fault is not None:
        return "faulty"
    return "drawn again" if revision.draws > 1 else "taken at once"


def _revision_name(revision: RedrawnRevision) -> str:
    said = [f"Revision: {revision.principle_id}"]
    if revision.forced:
        said.append("to be rejected")
    if revision.draws > 1:
        said.append(f"draw {revision.draws}")
    if revision.fault is not None:
        said.append(f"fault: {revision.fault.replace('_', ' ')}")
    return ", ".join(said)
