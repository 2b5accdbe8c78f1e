"""What a suite item must look like to be scored: known scorer, known checks, and the arguments that each needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cai_bootstrap.judging.scorers.answers import rivals_that_are_right
from cai_bootstrap.judging.scorers.checks import is_symbol
from cai_bootstrap.judging.scorers.text import composed, folded_words
from cai_bootstrap.judging.suite.contradictions import COUNTED, contradiction
from cai_bootstrap.records import EvalItem

SCORERS = ("answer", "yes_no", "exact", "checks")
SEPARATORS = ("comma", "newline", "numbered", "bullets")
CASES = ("upper", "lower", "title")
# Arguments of each scorer; `in_context` says that the instruction tells the answer.
SCORER_ARGS = {
    "answer": ("closed_set", "rivals", "in_context"),
    "yes_no": ("in_context",),
    "exact": ("in_context",),
    "checks": ("checks", "in_context"),
}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _several(value: Any) -> bool:
    return _count(value) and value >= 1


def _keys(value: Any) -> bool:
    return _texts(value) and len({composed(key) for key in value}) == len(value)


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
        "items": (_several, "a number, at least 1"),
        "separator": (lambda value: value in SEPARATORS, f"one of {', '.join(SEPARATORS)}"),
    },
    "json": {"keys": (_keys, "a list of keys, each once")},
    "case": {"case": (lambda value: value in CASES, f"one of {', '.join(CASES)}")},
}
CHECK_OPTIONS: dict[str, tuple[str, ...]] = dict.fromkeys(COUNTED, ("min", "max")) | {"json": ("values",)}


def item_fault(item: EvalItem, known_sets: Sequence[str]) -> str | None:
    """What keeps an item from being scored, or None. `known_sets` are the names of the closed sets."""
    if not item.id or not item.template:
        return "'id' and 'template' must not be empty"
    if not item.instruction.strip() or item.instruction != item.instruction.rstrip("\n"):
        return "'instruction' must be text without a newline at its end"
    if item.scorer not in SCORERS:
        return f"unknown scorer {item.scorer!r}; one of {', '.join(SCORERS)}"
    if fault := _gold_fault(item):
        return fault
    if fault := _unknown(item.args, SCORER_ARGS[item.scorer], f"scorer {item.scorer!r}"):
        return fault
    if not isinstance(item.args.get("in_context", False), bool):
        return "'in_context' must be true or false"
    if item.scorer == "checks":
        return _checks_fault(item)
    return _answer_fault(item, known_sets) if item.scorer == "answer" else None


def _gold_fault(item: EvalItem) -> str | None:
    if item.scorer == "checks":
        return None
    if not item.gold or not all(composed(answer).strip() for answer in item.gold):
        return f"scorer {item.scorer!r} needs at least one accepted answer in 'gold'"
    if item.scorer == "yes_no" and item.gold not in (["yes"], ["no"]):
        return "scorer 'yes_no' needs 'gold' to be [\"yes\"] or [\"no\"]"
    return None


def _unknown(args: Mapping[str, Any], names: Iterable[str], whose: str) -> str | None:
    """An argument that nothing reads, which would silently do nothing."""
    names = tuple(names)
    for key in args:
        if key not in names:
            near = get_close_matches(key, names, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            takes = f"it takes {', '.join(names)}" if names else "it takes none"
            return f"unknown argument {key!r} of {whose}: {takes}{meant}"
    return None


def _answer_fault(item: EvalItem, known_sets: Sequence[str]) -> str | None:
    """What is wrong with the accepted answers and their rivals, in the eyes of the scorer."""
    named = item.args.get("closed_set")
    if named is not None and named not in known_sets:
        return f"unknown closed set {named!r}; one of {', '.join(known_sets)}"
    rivals = item.args.get("rivals")
    if rivals is not None and not (rivals == [] or _texts(rivals)):
        return "'rivals' must be a list of wrong answers"
    for text in (*item.gold, *(rivals or [])):
        if not folded_words(text):
            return f"{text!r} holds no letter or digit, so scorer 'answer' sees no word in it; use scorer 'exact'"
    both = rivals_that_are_right(item.instruction, item.args, item.gold)
    return f"{both[0]!r} stands both in 'gold' and among the rivals, as the scorer reads them" if both else None


def _checks_fault(item: EvalItem) -> str | None:
    checks = item.args.get("checks")
    if not isinstance(checks, list) or not checks or not all(isinstance(check, dict) for check in checks):
        return "scorer 'checks' needs args.checks, a list of objects that each name a 'check'"
    faults = (fault for check in checks if (fault := _check_fault(check)))
    return next(faults, None) or contradiction(item.instruction, checks)


def _check_fault(check: dict[str, Any]) -> str | None:
    name = check.get("check")
    if not isinstance(name, str) or name not in CHECK_NEEDS:
        return f"unknown check {name!r}; one of {', '.join(CHECK_NEEDS)}"
    needs = CHECK_NEEDS[name]
    arguments = {key: value for key, value in check.items() if key != "check"}
    if fault := _unknown(arguments, (*needs, *CHECK_OPTIONS.get(name, ())), f"check {name!r}"):
        return fault
    if name in COUNTED:
        return _bounds_fault(name, check)
    for key, (holds, wanted) in needs.items():
        if not holds(check.get(key)):
            return f"check {name!r} needs {key!r}, {wanted}"
    return _values_fault(check) if name == "json" else _words_fault(name, check)


def _bounds_fault(name: str, check: Mapping[str, Any]) -> str | None:
    bounds = [check[key] for key in ("min", "max") if check.get(key) is not None]
    if not bounds or not all(map(_count, bounds)):
        return f"check {name!r} needs 'min' or 'max', a number"
    if bounds == [0] and check.get("min") == 0:
        return f"check {name!r} with 'min' 0 and no 'max' holds for every output"
    if check.get("max") == 0:
        return f"check {name!r} with 'max' 0 holds for no output: an empty one never follows"
    return None


def _values_fault(check: Mapping[str, Any]) -> str | None:
    values = check.get("values")
    if values is not None and not isinstance(values, dict):
        return "check 'json': 'values' must be an object of keys and their values"
    foreign = sorted({composed(key) for key in values or {}} - {composed(key) for key in check["keys"]})
    return f"check 'json': 'values' names {foreign[0]!r}, which is none of its 'keys'" if foreign else None


def _words_fault(name: str, check: Mapping[str, Any]) -> str | None:
    """Words in which the scorer sees none: a mark counts as characters in `contains` and `forbids` alone."""
    if name in ("first_word", "last_word"):
        words = folded_words(check["word"])
        instead = "starts_with" if name == "first_word" else "ends_with"
        one = len(words) == 1 and "|" not in check["word"]
        return None if one else f"check {name!r}: {check['word']!r} is not exactly one word; use {instead!r}"
    if name in ("starts_with", "ends_with"):
        return None if composed(check["text"]).strip() else f"check {name!r}: its 'text' holds nothing that is seen"
    for word in check.get("words", ()):
        spellings = word.split("|") if name != "one_of" and word.strip("| ") else [word]
        if not all(composed(spelling).strip() for spelling in spellings):
            return f'check {name!r}: {word!r} has an empty spelling; "colour|color" is the form'
        if name == "one_of" and "|" in word:
            return f"check 'one_of': {word!r} holds \"|\"; give each word by itself"
        if name == "one_of" and not folded_words(word):
            return f"check 'one_of': {word!r} holds no letter or digit; use scorer 'exact' with it as 'gold'"
        if name == "order" and any(is_symbol(spelling) for spelling in spellings):
            return f"check 'order': {word!r} begins or ends with a mark; give words, or use 'contains' for the mark"
    return None
