"""The checks that an instruction's own words decide: form, length, keywords, order. One function a check name.

A check takes the output and its arguments and says whether it holds. An unknown name or a missing argument is an
error, never a pass.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cai_bootstrap.errors import DataError
from cai_bootstrap.evaluation.scorers.text import (
    Words,
    find_phrase,
    folded_words,
    lines_of,
    longest_shared_run,
    sentences_of,
    unquote,
    words_of,
)

MAX_LIST_ITEM_WORDS = 6
_CLOSERS = " \t\n\"'”’)]»*_"
_NUMBERED = re.compile(r"^(\d{1,2})[.)]\s+")
_BULLET = re.compile(r"^[-*•]\s+")
_ABBREVIATED = frozenset(["etc", "and so on", "and more", "others"])

Check = Callable[[str, str, Mapping[str, Any]], bool]


def holds(name: str, instruction: str, text: str, args: Mapping[str, Any]) -> bool:
    """Whether one check holds for an output. Raises DataError for a check that does not exist or lacks an argument."""
    try:
        return CHECKS[name](instruction, text, args)
    except KeyError as error:
        if name in CHECKS:
            raise DataError(f"check {name!r} lacks its argument {error}") from error
        raise DataError(f"unknown check {name!r}; one of {', '.join(sorted(CHECKS))}") from error


def _within(count: int, args: Mapping[str, Any]) -> bool:
    low, high = args.get("min"), args.get("max")
    if low is None and high is None:
        raise KeyError("min or max")
    return (low is None or count >= low) and (high is None or count <= high)


def _words(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return _within(len(words_of(text)), args)


def _sentences(_: str, text: str, args: Mapping[str, Any]) -> bool:
    """A demand for sentences is filled by whole ones only; a maximum counts fragments too."""
    found = sentences_of(text)
    demanded = args.get("min", 0)
    whole = sum(_is_whole(sentence, alone=demanded == 1) for sentence in found)
    return _within(len(found), args) and whole >= demanded


def _is_whole(sentence: str, *, alone: bool) -> bool:
    """Whether words are a sentence: a capital at the start or a mark at the end, and two words, not "A gorilla.".

    One word will do where one sentence is asked for, as the end of a begun one ("home."); keywords alone are echoes.
    """
    closed = sentence.rstrip(_CLOSERS).endswith((".", "!", "?", "…"))
    words = folded_words(sentence)
    if len(words) == 1:
        return alone and closed
    if len(words) == 2 and words[0] in ("a", "an", "the"):
        return False
    first = next((letter for letter in sentence if letter.isalnum()), "")
    return closed or first.isupper() or first.isdigit()


def _lines(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return _within(len(lines_of(text)), args)


def _alternatives(word: str) -> list[Words]:
    """A keyword may offer spellings: "colour|color"."""
    return [folded_words(spelling) for spelling in word.split("|")]


def _plain(text: str) -> Words:
    """Folded words without the possessive: "the dog's bowl" uses the word "dog"."""
    return tuple(word.removesuffix("'s") for word in folded_words(text))


def _used(word: str, words: Words, start: int = 0) -> int:
    """Where a keyword ends in the words, from `start` on; -1 if it is not used."""
    ends = [at + len(p) for p in _alternatives(word) if (at := find_phrase(words, p, start)) >= 0]
    return min(ends, default=-1)


def _contains(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return all(_used(word, folded_words(text)) >= 0 or _used(word, _plain(text)) >= 0 for word in args["words"])


def _order(_: str, text: str, args: Mapping[str, Any]) -> bool:
    words, at = _plain(text), 0
    for word in args["words"]:
        at = _used(word, words, at)
        if at < 0:
            return False
    return True


def _forbids(_: str, text: str, args: Mapping[str, Any]) -> bool:
    """Parts of a hyphenated word count as a use: "rain-soaked" uses "rain"."""
    parts = tuple(part for word in _plain(text) for part in word.split("-"))
    return all(
        _used(w, folded_words(text)) < 0 and _used(w, _plain(text)) < 0 and _used(w, parts) < 0 for w in args["words"]
    )


def _starts_with(_: str, text: str, args: Mapping[str, Any]) -> bool:
    wanted, given = args["text"].strip(), text.lstrip().lstrip("\"'“‘")
    if not given.casefold().startswith(wanted.casefold()):
        return False
    return not (wanted[-1].isalnum() and given[len(wanted) : len(wanted) + 1].isalnum())


def _ends_with(_: str, text: str, args: Mapping[str, Any]) -> bool:
    wanted = args["text"].strip().casefold()
    given = text.rstrip(_CLOSERS).casefold()
    if wanted[-1].isalnum():
        given = given.rstrip(".!?" + _CLOSERS)
    if not given.endswith(wanted):
        return False
    return not (wanted[0].isalnum() and given[: -len(wanted)][-1:].isalnum())


def _first_word(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return folded_words(text)[:1] == folded_words(args["word"])


def _last_word(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return folded_words(text)[-1:] == folded_words(args["word"])


def _question(_: str, text: str, __: Mapping[str, Any]) -> bool:
    return text.rstrip(_CLOSERS).endswith("?") and len(words_of(text)) >= 2


def _list(_: str, text: str, args: Mapping[str, Any]) -> bool:
    items = _list_items(text.strip(), args["separator"])
    if items is None or len(items) != args["items"]:
        return False
    spoken = [folded_words(item) for item in items]
    return len(set(spoken)) == len(spoken) and all(_is_list_item(i, w) for i, w in zip(items, spoken, strict=True))


def _list_items(text: str, separator: str) -> list[str] | None:
    """The items of a list in the wanted form; None if the text has another form."""
    lines = lines_of(text)
    match separator:
        case "comma":
            if len(lines) != 1:
                return None
            items = [item.strip() for item in lines[0].removesuffix(".").split(",")]
            if any(_BULLET.match(item) or _NUMBERED.match(item) for item in items):
                return None  # "1. toy, 2. toy" has another form, and no two items
            return [re.sub(r"^and\s+", "", item) if at else item for at, item in enumerate(items)]
        case "newline":
            return None if any(_BULLET.match(line) or _NUMBERED.match(line) for line in lines) else lines
        case "bullets":
            return [_BULLET.sub("", line) for line in lines] if all(_BULLET.match(line) for line in lines) else None
        case "numbered":
            marks = [_NUMBERED.match(line) for line in lines]
            in_order = all(mark and mark[1] == str(at) for at, mark in enumerate(marks, 1))
            return [_NUMBERED.sub("", line, count=1) for line in lines] if in_order else None
    raise DataError(f"unknown list separator {separator!r}; one of comma, newline, numbered, bullets")


def _is_list_item(item: str, words: Words) -> bool:
    if not words or len(words) > MAX_LIST_ITEM_WORDS or " ".join(words) in _ABBREVIATED:
        return False
    return ":" not in item and "?" not in item and " and " not in f" {item} " and len(sentences_of(item)) == 1


def _json(_: str, text: str, args: Mapping[str, Any]) -> bool:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        found = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or set(found) != set(args["keys"]):
        return False
    return all(str(found.get(key)).strip() == str(value) for key, value in (args.get("values") or {}).items())


def _case(_: str, text: str, args: Mapping[str, Any]) -> bool:
    if not any(letter.isalpha() for letter in text):
        return False
    match args["case"]:
        case "upper":
            return text == text.upper()
        case "lower":
            return text == text.lower()
        case "title":
            return all(word[0].isupper() for word in words_of(text) if word[0].isalpha())
    raise DataError(f"unknown case {args['case']!r}; one of upper, lower, title")


def _continues(instruction: str, text: str, _: Mapping[str, Any]) -> bool:
    asked, given = folded_words(instruction), folded_words(text)
    if not given or (len(asked) >= 3 and given[:3] == asked[:3]):
        return False
    return longest_shared_run(given, asked) < max(4, 0.5 * len(asked))


def _one_of(_: str, text: str, args: Mapping[str, Any]) -> bool:
    given = folded_words(unquote(text))
    return len(lines_of(text)) == 1 and "?" not in text and any(given == folded_words(word) for word in args["words"])


CHECKS: dict[str, Check] = {
    "words": _words,
    "sentences": _sentences,
    "lines": _lines,
    "contains": _contains,
    "order": _order,
    "forbids": _forbids,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "first_word": _first_word,
    "last_word": _last_word,
    "question": _question,
    "list": _list,
    "json": _json,
    "case": _case,
    "continues": _continues,
    "one_of": _one_of,
}
