"""What a suite item must look like to be scored: known scorer, known checks, and the arguments that each needs."""

from collections.abc import Callable, Sequence
from typing import Any

from cai_bootstrap.records import EvalItem

SCORERS = ("answer", "yes_no", "exact", "checks")
SEPARATORS = ("comma", "newline", "numbered", "bullets")
CASES = ("upper", "lower", "title")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


Needs = dict[str, tuple[Callable[[Any], bool], str]]
_WORDS: Needs = {"words": (_texts, "a list of words")}
_WORD: Needs = {"word": (_text, "a word")}
_TEXT: Needs = {"text": (_text, "a text")}
CHECK_NEEDS: dict[str, Needs] = {
    "words": {},
    "sentences": {},
    "lines": {},
    "contains": _WORDS,
    "order": _WORDS,
    "forbids": _WORDS,
    "one_of": _WORDS,
    "starts_with": _TEXT,
    "ends_with": _TEXT,
    "first_word": _WORD,
    "last_word": _WORD,
    "question": {},
    "continues": {},
    "list": {
        "items": (_count, "a number"),
        "separator": (lambda value: value in SEPARATORS, f"one of {', '.join(SEPARATORS)}"),
    },
    "json": {"keys": (_texts, "a list of keys")},
    "case": {"case": (lambda value: value in CASES, f"one of {', '.join(CASES)}")},
}


def item_fault(item: EvalItem, known_sets: Sequence[str]) -> str | None:
    """What keeps an item from being scored, or None. `known_sets` are the names of the closed sets."""
    if not item.id or not item.template:
        return "'id' and 'template' must not be empty"
    if not item.instruction.strip() or item.instruction != item.instruction.rstrip("\n"):
        return "'instruction' must be text without a newline at its end"
    if item.scorer not in SCORERS:
        return f"unknown scorer {item.scorer!r}; one of {', '.join(SCORERS)}"
    if item.scorer == "checks":
        return _checks_fault(item.args.get("checks"))
    if not item.gold or not all(answer.strip() for answer in item.gold):
        return f"scorer {item.scorer!r} needs at least one accepted answer in 'gold'"
    if item.scorer == "yes_no" and item.gold not in (["yes"], ["no"]):
        return "scorer 'yes_no' needs 'gold' to be [\"yes\"] or [\"no\"]"
    named = item.args.get("closed_set")
    if named is not None and named not in known_sets:
        return f"unknown closed set {named!r}; one of {', '.join(known_sets)}"
    rivals = item.args.get("rivals")
    if rivals is not None and not (rivals == [] or _texts(rivals)):
        return "'rivals' must be a list of wrong answers"
    both = {answer.casefold() for answer in item.gold} & {rival.casefold() for rival in rivals or []}
    return f"{min(both)!r} stands both in 'gold' and among the rivals" if both else None


def _checks_fault(checks: Any) -> str | None:
    if not isinstance(checks, list) or not checks or not all(isinstance(check, dict) for check in checks):
        return "scorer 'checks' needs args.checks, a list of objects that each name a 'check'"
    return next((fault for check in checks if (fault := _check_fault(check))), None)


def _check_fault(check: dict[str, Any]) -> str | None:
    name = check.get("check")
    if name not in CHECK_NEEDS:
        return f"unknown check {name!r}; one of {', '.join(CHECK_NEEDS)}"
    if name in ("words", "sentences", "lines"):
        bounds = [check[key] for key in ("min", "max") if check.get(key) is not None]
        return None if bounds and all(map(_count, bounds)) else f"check {name!r} needs 'min' or 'max', a number"
    for key, (holds, wanted) in CHECK_NEEDS[name].items():
        if not holds(check.get(key)):
            return f"check {name!r} needs {key!r}, {wanted}"
    return None
