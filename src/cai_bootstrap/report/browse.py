"""The records that the page's two browsers show: held-out items with every side's output, pairs with their making."""

from collections.abc import Sequence
from typing import Any

from cai_bootstrap.errors import CaiError, DataError
from cai_bootstrap.events import Rows
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.records import EvalItem
from cai_bootstrap.report.files import RunFiles
from cai_bootstrap.report.safe import clip

_FLIPS = {
    ("base", False, True): "gained against raw base",
    ("base", True, False): "lost against raw base",
    ("rival", False, True): "gained against best prompted base",
    ("rival", True, False): "lost against best prompted base",
}
_ORDER = (
    "lost against raw base",
    "lost against best prompted base",
    "gained against best prompted base",
    "gained against raw base",
    "lost",
    "gained",
)


def item_records(
    rows_of_items: Sequence[dict[str, Any]], items: dict[str, EvalItem], sides: Sequence[str], limit: int
) -> Rows:
    """One record for each held-out item, flips first (losses before gains). Texts are cut at `limit` characters.

    `f` holds the filters' values, `s` the sides' [text, followed, reason, first line followed, its reason, finished].
    """
    made = []
    for row in rows_of_items:
        item = items.get(row["id"])
        answers = {side: row[side] for side in sides if row.get(side) is not None}
        flips = _flips(answers)
        last = answers[list(answers)[-1]] if answers else None
        made.append(
            {
                "id": row["id"],
                "title": clip(row["instruction"], limit),
                "wanted": clip(_wanted(item), 400) if item else "",
                "f": {
                    "type": [row["type"]],
                    "difficulty": [item.difficulty if item else "unknown"],
                    "skill": [(item.skill if item else "") or "none"],
                    "reason": [last["reason"]] if last else [],
                    "flip": flips,
                },
                "s": [
                    [clip(a["response"], limit), a["success"], a["reason"], a["first_line_success"],
                     a["first_line_reason"], a["finished"]]
                    for a in answers.values()
                ],
            }
        )  # fmt: skip
    return sorted(made, key=lambda record: _rank(record["f"]["flip"]))


def compared_records(
    before: dict[str, Any], after: dict[str, Any], side_a: str, side_b: str, items: dict[str, EvalItem], limit: int
) -> Rows:
    """The records of two runs side by side: `a` is a side of one file, `b` of the other."""
    others = {row["id"]: row for row in after["items"]}
    joined = [{**row, "a": row[side_a], "b": others[row["id"]][side_b]} for row in before["items"]]
    return item_records(joined, items, ("a", "b"), limit)


def pair_records(found: RunFiles, limit: int, most: int) -> tuple[Rows, dict[str, int]]:
    """One record for each pair and each instruction that gave none, and how many there are in the files.

    Of more than `most`, pairs come first, up to two thirds of the places if there are enough others.
    """
    kept, dropped = found.data_rows("preference_pairs.jsonl"), found.data_rows("rejected_pairs.jsonl")
    instructions, responses, critiques = (
        {row.get("id"): row for row in found.data_rows(f"{name}.jsonl")}
        for name in ("instructions", "responses", "critiques")
    )
    revised: dict[Any, list[dict[str, Any]]] = {}
    for revision in found.data_rows("revisions.jsonl"):
        response = responses.get(revision.get("response_id"), {})
        revised.setdefault(response.get("instruction_id"), []).append(revision)
    texts = _principle_texts(found)
    made = []
    places = max(most * 2 // 3, most - len(dropped))
    for row in [*kept[:places], *dropped[: max(0, most - min(len(kept), places))]]:
        instruction = instructions.get(row.get("instruction_id"), {})
        own = revised.get(row.get("instruction_id"), [])
        used = {row.get("chosen_id"), row.get("rejected_id")}
        tried: dict[str, Any] = next((r for r in own if r.get("id") in used), own[0] if own else {})
        critique = critiques.get(tried.get("critique_id"), {})
        answer = responses.get(tried.get("response_id"), {})
        principle = str(row.get("principle_id") or tried.get("principle_id") or "")
        made.append(
            {
                "id": str(row.get("id") or row.get("instruction_id")),
                "title": clip(str(row.get("prompt") or instruction.get("instruction") or "").rstrip("\n"), limit),
                "kept": "id" in row,
                "principle": [principle, texts.get(principle, "")],
                "label": str(row.get("label_source") or ""),
                "source": str(row.get("chosen_source") or ""),
                "f": {
                    "outcome": ["pair" if "id" in row else str(row.get("reason"))],
                    "type": [str(row.get("type"))],
                    "label": [str(row.get("label_source") or "none")],
                    "source": [str(row.get("chosen_source") or "none")],
                    "principle": [principle or "none"],
                    "round": [f"round {row['round']}"],
                    "revision": _effect(instruction, answer, tried),
                },
                "t": [
                    [name, clip(str(text), limit)]
                    for name, text in (
                        ("Chosen", row.get("chosen")),
                        ("Rejected", row.get("rejected")),
                        ("First answer", answer.get("text")),
                        ("Critique", critique.get("text")),
                        ("Revision", tried.get("text")),
                    )
                    if text is not None
                ],
            }
        )
    return made, {"pairs": len(kept), "dropped": len(dropped)}


def principle_rows(found: RunFiles) -> list[list[Any]]:
    """How often each principle was assigned, led to a pair or a chosen revision, and fixed or broke an answer.

    Fixed and broken are counted where the instruction has a rule: the rule judges the answer before and after.
    """
    used = (found.summary or {}).get("by_principle") or {}
    instructions = {row.get("id"): row for row in found.data_rows("instructions.jsonl")}
    responses = {row.get("id"): row for row in found.data_rows("responses.jsonl")}
    effects: dict[str, dict[str, int]] = {}
    for revision in found.data_rows("revisions.jsonl"):
        answer = responses.get(revision.get("response_id"), {})
        for effect in _effect(instructions.get(answer.get("instruction_id"), {}), answer, revision):
            counted = effects.setdefault(str(revision.get("principle_id")), {})
            counted[effect] = counted.get(effect, 0) + 1
    texts = _principle_texts(found)
    return [
        [
            name,
            texts.get(name, ""),
            *(used.get(name, {}).get(key, 0) for key in ("assigned", "pairs", "revisions_chosen")),
            *(effects.get(name, {}).get(effect, 0) for effect in ("fixed", "broken", "left right", "left wrong")),
        ]
        for name in dict.fromkeys([*used, *effects])
    ]


def _effect(instruction: dict[str, Any], answer: dict[str, Any], revision: dict[str, Any]) -> list[str]:
    if not instruction.get("scorer") or "text" not in answer or "text" not in revision:
        return []
    was, now = _follows(instruction, answer), _follows(instruction, revision)
    if was is None or now is None:
        return []
    return [{(False, True): "fixed", (True, False): "broken", (True, True): "left right"}.get((was, now), "left wrong")]


def _follows(instruction: dict[str, Any], text: dict[str, Any]) -> bool | None:
    try:
        judged = check(
            str(instruction["instruction"]), instruction["scorer"], instruction.get("args") or {},
            instruction.get("gold") or [], str(text["text"]),
        )  # fmt: skip
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return judged.success and bool(text.get("finished", True))


def _flips(answers: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    if "a" in answers and "b" in answers:
        was, now = answers["a"]["success"], answers["b"]["success"]
        found += [] if was == now else ["gained" if now else "lost"]
    trained = answers.get("trained")
    for side, key in (("base", "success"), ("rival", "first_line_success")):
        if trained is not None and side in answers:
            flip = _FLIPS.get((side, answers[side][key], trained[key]))
            found += [flip] if flip else []
    passed = [a["first_line_success" if side == "rival" else "success"] for side, a in answers.items()]
    found += ["followed by all"] if all(passed) else [] if any(passed) else ["followed by none"]
    return found


def _rank(flips: list[str]) -> int:
    return min((_ORDER.index(flip) for flip in flips if flip in _ORDER), default=len(_ORDER))


def _wanted(item: EvalItem) -> str:
    if item.scorer != "checks":
        return f"accepted: {' | '.join(item.gold)}"
    said = []
    for entry in item.args.get("checks", []):
        details = ", ".join(f"{key} {_plain(value)}" for key, value in entry.items() if key != "check")
        said.append(f"{entry['check']} ({details})" if details else str(entry["check"]))
    return f"checks: {'; '.join(said)}"


def _plain(value: Any) -> str:
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


def _principle_texts(found: RunFiles) -> dict[str, str]:
    """The principles' texts, if the constitution is still the one that the data were made with."""
    from pathlib import Path

    from cai_bootstrap.constitution import load_constitution

    path = found.config("constitution")
    if not isinstance(path, str):
        return {}
    try:
        loaded = load_constitution(Path(path))
    except CaiError:
        return {}
    if loaded.sha256 != (found.summary or {}).get("constitution_sha256"):
        return {}
    return {principle.id: principle.text for principle in loaded.principles}
