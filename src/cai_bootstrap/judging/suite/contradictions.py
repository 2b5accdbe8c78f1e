"""What makes a list of checks one that no output can pass: bounds and demands that exclude each other.

The scorer's own checks decide what is equal and what is used, so that nothing is called sound here that it fails.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from cai_bootstrap.judging.scorers.checks import holds, is_symbol
from cai_bootstrap.judging.scorers.registry import CHECKS
from cai_bootstrap.judging.scorers.text import composed, folded_words, words_of

_LIST_LINES = ("newline", "numbered", "bullets")

CheckArgs = dict[str, Any]


def contradiction(instruction: str, checks: Sequence[CheckArgs]) -> str | None:
    """Why no output can pass all of these checks, or None if no reason is seen. Each check alone is in order."""
    for fault in (_bounds, _counts, _doubles, _forbidden, _ends, _forms):
        if problem := fault(checks):
            return problem
    return _choices(instruction, checks)


def _named(checks: Sequence[CheckArgs], *names: str) -> list[CheckArgs]:
    return [check for check in checks if check["check"] in names]


def _range(checks: Sequence[CheckArgs], name: str) -> tuple[int, float]:
    """The bounds that all checks of this name leave together."""
    low = max((check.get("min") or 0 for check in _named(checks, name)), default=0)
    tops = [check["max"] for check in _named(checks, name) if check.get("max") is not None]
    return low, min(tops, default=float("inf"))


def _bounds(checks: Sequence[CheckArgs]) -> str | None:
    for name in (rule.name for rule in CHECKS.values() if rule.counted):
        low, high = _range(checks, name)
        if low > high:
            return f"check {name!r} demands at least {low} and at most {high:.0f}; no output has both"
    return None


def _counts(checks: Sequence[CheckArgs]) -> str | None:
    """A maximum below what other checks demand: more keywords than words, more items than lines."""
    keywords = {
        word
        for check in _named(checks, "contains", "order")
        for keyword in check["words"]
        if "|" not in keyword and not is_symbol(keyword)
        for word in folded_words(keyword)
    }
    items = max((check["items"] for check in _named(checks, "list")), default=0)
    in_lines = max((check["items"] for check in _named(checks, "list") if check["separator"] in _LIST_LINES), default=0)
    fewest = {
        "words": max(len(keywords), items, _range(checks, "sentences")[0]),
        "sentences": in_lines,
        "lines": in_lines,
    }
    for name, least in fewest.items():
        high = _range(checks, name)[1]
        if high < least:
            return f"check {name!r} allows at most {high:.0f}, and the other checks demand {least} at least"
    lists = _named(checks, "list")
    if lists and _range(checks, "lines")[0] > max(in_lines, 1):
        return f"check 'lines' demands more lines than the list of {items} has"
    return None


def _doubles(checks: Sequence[CheckArgs]) -> str | None:
    for one, other in combinations(checks, 2):
        if one["check"] != other["check"]:
            continue
        name = one["check"]
        if CHECKS[name].once and _folded(one) != _folded(other):
            return f"two checks {name!r} that differ: no output passes both"
        if name == "case" and {one["case"], other["case"]} in ({"upper", "lower"}, {"title", "lower"}):
            return f"the checks 'case' {one['case']} and {other['case']}: no output passes both"
    return None


def _folded(check: CheckArgs) -> CheckArgs:
    return check | {"word": folded_words(check["word"])} if "word" in check else check


def _demanded(checks: Sequence[CheckArgs]) -> Iterator[tuple[str, list[str]]]:
    """What an output must hold, by check: for each demand its spellings."""
    for check in checks:
        name = check["check"]
        if name in ("contains", "order"):
            yield from ((name, keyword.split("|") if keyword.strip("| ") else [keyword]) for keyword in check["words"])
        elif name in ("starts_with", "ends_with"):
            yield name, [check["text"]]
        elif name in ("first_word", "last_word"):
            yield name, [check["word"]]
        elif name == "question":
            yield name, ["?"]
        elif name == "json":
            texts = [*check["keys"], *(v for v in (check.get("values") or {}).values() if isinstance(v, str) and v)]
            yield from ((name, [text]) for text in texts)
            yield from ((name, [mark]) for mark in ("{", "}", '"', ":", *([","] if len(check["keys"]) > 1 else [])))
        elif name == "list" and check["separator"] == "comma" and check["items"] > 1:
            yield name, [","]


def _forbidden(checks: Sequence[CheckArgs]) -> str | None:
    for forbidding in _named(checks, "forbids"):
        for name, spellings in _demanded(checks):
            if not any(holds("forbids", "", text, forbidding) for text in spellings):
                return f"check 'forbids' forbids {spellings[0]!r}, which the check {name!r} demands"
    return None


def _ends(checks: Sequence[CheckArgs]) -> str | None:
    """Demands on the beginning or the end that no text meets together."""
    for names in (("starts_with", "first_word"), ("ends_with", "last_word", "question")):
        for one, other in combinations(_named(checks, *names), 2):
            left, right = (str(check.get("text", check.get("word", "?"))).strip() for check in (one, other))
            texts = [left, right, left + right, right + left, f"{left} {right}", f"{right} {left}"]
            texts = [f"It is {text}" for text in texts] if "ends_with" in names else texts
            if not any(all(holds(check["check"], "", text, check) for check in (one, other)) for text in texts):
                return f"the checks {one['check']!r} {left!r} and {other['check']!r} {right!r}: no output passes both"
    return None


def _forms(checks: Sequence[CheckArgs]) -> str | None:
    """A JSON object beside a demand for another form of the whole output."""
    if not (objects := _named(checks, "json")):
        return None
    for check in _named(checks, "list", "question", "first_word"):
        # A first word may be the first key.
        if check["check"] != "first_word" or folded_words(check["word"])[0] not in _key_words(objects):
            return f"the checks 'json' and {check['check']!r}: no output passes both"
    for check in _named(checks, "starts_with", "ends_with"):
        text, at_start = composed(check["text"]).strip(), check["check"] == "starts_with"
        if not (text.startswith("{") if at_start else text.endswith("}")):
            return f"the checks 'json' and {check['check']!r} {check['text']!r}: no output passes both"
    for check in _named(checks, "case"):
        if not all(holds("case", "", key, check) for key in objects[0]["keys"] if key.upper() != key.lower()):
            return f"check 'case' {check['case']}, and a key of the check 'json' is written otherwise"
    return None


def _key_words(objects: Sequence[CheckArgs]) -> set[str]:
    return {word for check in objects for key in check["keys"] for word in folded_words(key)[:1]}


def _choices(instruction: str, checks: Sequence[CheckArgs]) -> str | None:
    """`one_of`: one of its words, as the whole output, must pass every other check."""
    for check in _named(checks, "one_of"):
        if not any(
            all(holds(other["check"], instruction, text, other) for other in checks if other is not check)
            for word in check["words"]
            for text in (word, word + ".", word.upper(), word.lower(), word.title())
            if words_of(text)
        ):
            return "check 'one_of': none of its words passes the other checks"
    return None
