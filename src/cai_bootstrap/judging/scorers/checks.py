"""The checks that an instruction's own words decide: form, length, keywords, order. One function a check name.

A check takes the output and its arguments and says whether it holds. An unknown name or a missing argument is an
error, never a pass.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cai_bootstrap.errors import DataError
from cai_bootstrap.judging.scorers.text import (
    BULLETS,
    END_MARKS,
    MONEY,
    Words,
    composed,
    ending,
    find_phrase,
    folded_words,
    is_one_word,
    lines_of,
    longest_shared_run,
    sentences_of,
    unquote,
    without_clitics,
    words_of,
)

MAX_LIST_ITEM_WORDS = 6
_NUMBERED = re.compile(r"^(\d{1,2})([.)])(?:\s+|(?=[^\W\d_]))")
_BULLET = re.compile(rf"^(?:[-*+–—]\s+|[{re.sub('[-*+–—]', '', BULLETS)}]\s*)")
# How an instruction shows the form of a list: "1." or "1)", and a bullet in quotation marks or by its name.
_SHOWN_NUMBER = re.compile(r"(?<![\w.])1([.)])(?=[\s,;]|$)")
_SHOWN_BULLET = re.compile(rf"[\"'“‘(`]([{BULLETS}]) ?[\"'”’)`]")
_BULLET_NAMES = {"asterisk": "*", "asterisks": "*", "dash": "-–—", "dashes": "-–—", "hyphen": "-", "hyphens": "-"}
_ABBREVIATED = frozenset(["etc", "and so on", "and more", "others"])

Check = Callable[[str, str, Mapping[str, Any]], bool]


def holds(name: str, instruction: str, text: str, args: Mapping[str, Any]) -> bool:
    """Whether one check holds for an output. Raises DataError for a check that does not exist or lacks an argument."""
    try:
        # JSON is read as it is written: a minus sign or a space of another kind is none in it.
        return CHECKS[name](composed(instruction), text if name == "json" else composed(text), args)
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
    closed = ending(sentence).endswith(END_MARKS)
    words = folded_words(sentence)
    if is_one_word(words):
        return alone and closed
    if len(words) == 2 and words[0] in ("a", "an", "the"):
        return False
    first = next((letter for letter in sentence if letter.isalnum()), "")
    return closed or first.isupper() or first.isdigit()


def _lines(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return _within(len(lines_of(text)), args)


def _alternatives(word: str) -> list[str]:
    """A keyword may offer spellings: "colour|color"."""
    return word.split("|") if word.strip("| ") else [word]


def _plain(text: str) -> Words:
    """Folded words without the possessive: "the dog's bowl" uses the word "dog"."""
    return tuple(word.removesuffix("'s") for word in folded_words(text))


def _parts(text: str) -> Words:
    """The words without possessive and sign, and those that a mark joins apart: "rain-soaked" uses "rain"."""
    return tuple(part for word in _plain(text) for part in re.split(r"[^\w'.,^]+", word) if part)


def _without_unit(words: Words) -> Words:
    """The words, numbers without their unit: "$5" and "5%" use "5", and "-5" does not."""
    return tuple(re.sub(rf"^(-?)[{MONEY}](?=\d)|(?<=\d)[%‰°][cfk]?$", r"\1", word) for word in words)


def is_symbol(keyword: str) -> bool:
    """Whether a keyword begins or ends with a mark that is no part of a word (",", "!", "snow!"): one of characters."""
    keyword = composed(keyword).strip()
    words = words_of(keyword)
    return not words or not (keyword.startswith(words[0]) and keyword.removesuffix(".").endswith(words[-1].rstrip(".")))


def _is_used(keyword: str, text: str, forms: Iterable[Words]) -> bool:
    """Whether a text uses a keyword, as whole words in one of its `forms`, or a mark as the characters that it is."""
    for spelling in _alternatives(keyword):
        if is_symbol(spelling):
            mark = composed(spelling).strip().casefold()
            before, after = (r"(?<!\w)" if mark[0].isalnum() else ""), (r"(?!\w)" if mark[-1].isalnum() else "")
            if re.search(before + re.escape(mark) + after, text.casefold()):
                return True
        elif any(find_phrase(words, folded_words(spelling)) >= 0 for words in forms):
            return True
    return False


def _contains(_: str, text: str, args: Mapping[str, Any]) -> bool:
    words = folded_words(text)
    forms = (words, _plain(text), without_clitics(words), _without_unit(words))
    return all(_is_used(word, text, forms) for word in args["words"])


def _order(_: str, text: str, args: Mapping[str, Any]) -> bool:
    words, at = _plain(text), 0
    for word in args["words"]:
        spellings = [folded_words(spelling) for spelling in _alternatives(word)]
        at = min((place + len(s) for s in spellings if (place := find_phrase(words, s, at)) >= 0), default=-1)
        if at < 0:
            return False
    return True


def _forbids(_: str, text: str, args: Mapping[str, Any]) -> bool:
    """Parts of a joined word count as a use: "rain-soaked" uses "rain"."""
    forms = (folded_words(text), _plain(text), _parts(text))
    return not any(_is_used(word, text, forms) for word in args["words"])


def _starts_with(_: str, text: str, args: Mapping[str, Any]) -> bool:
    beginning = composed(args["text"]).strip().casefold()
    for form in (text.strip().casefold(), text.lstrip().lstrip("\"'“‘„«").casefold()):
        if form.startswith(beginning):
            return not (beginning[-1].isalnum() and form[len(beginning) : len(beginning) + 1].isalnum())
    return False


def _ends_with(_: str, text: str, args: Mapping[str, Any]) -> bool:
    end = composed(args["text"]).strip().casefold()
    given = ending(text).casefold()
    if end[-1].isalnum():
        given = ending(given.rstrip("".join(END_MARKS) + " "))
    for form in (text.strip().casefold(), given):
        if form.endswith(end):
            return not (end[0].isalnum() and form[: -len(end)][-1:].isalnum())
    return False


def _first_word(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return folded_words(text)[:1] == folded_words(args["word"])


def _last_word(_: str, text: str, args: Mapping[str, Any]) -> bool:
    return folded_words(text)[-1:] == folded_words(args["word"])


def _question(_: str, text: str, __: Mapping[str, Any]) -> bool:
    words = words_of(text)
    return ending(text).rstrip("!").endswith(("?", "？", "؟", "‽", "⁉")) and len(words) >= 1 and not is_one_word(words)


def _list(instruction: str, text: str, args: Mapping[str, Any]) -> bool:
    items = _list_items(instruction, text.strip(), args["separator"])
    if items is None or len(items) != args["items"]:
        return False
    spoken = [folded_words(item) for item in items]
    return len(set(spoken)) == len(spoken) and all(_is_list_item(i, w) for i, w in zip(items, spoken, strict=True))


def _list_items(instruction: str, text: str, separator: str) -> list[str] | None:
    """The items of a list in the wanted form, the one that the instruction shows; None if the text has another form."""
    lines = lines_of(text)
    match separator:
        case "comma":
            if len(lines) != 1:
                return None
            items = [item.strip() for item in re.split(r"[,，、]", lines[0].removesuffix("."))]
            if any(_BULLET.match(item) or _NUMBERED.match(item) for item in items):
                return None  # "1. toy, 2. toy" has another form, and no two items
            return [re.sub(r"^and\s+", "", item) if at else item for at, item in enumerate(items)]
        case "newline":
            return None if any(_BULLET.match(line) or _NUMBERED.match(line) for line in lines) else lines
        case "bullets":
            bullets = _shown_bullets(instruction)
            in_form = all(_BULLET.match(line) and line[0] in bullets for line in lines)
            return [_BULLET.sub("", line) for line in lines] if in_form else None
        case "numbered":
            form = _SHOWN_NUMBER.search(instruction)
            marks = [_NUMBERED.match(line) for line in lines]
            in_order = all(mark and mark[1] == str(at) for at, mark in enumerate(marks, 1))
            ends = {mark[2] for mark in marks if mark}
            in_form = in_order and len(ends) <= 1 and (form is None or ends <= {form[1]})
            return [_NUMBERED.sub("", line, count=1) for line in lines] if in_form else None
    raise DataError(f"unknown list separator {separator!r}; one of comma, newline, numbered, bullets")


def _shown_bullets(instruction: str) -> str:
    """The marks that an instruction lets begin a line: the one that it shows or names, else any bullet."""
    marks = _SHOWN_BULLET.findall(instruction)
    marks += [_BULLET_NAMES[word] for word in folded_words(instruction) if word in _BULLET_NAMES]
    return "".join(marks) or BULLETS


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
        found = json.loads(text.strip(" \t\r\n\ufeff\u200b"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or {composed(key) for key in found} != {composed(key) for key in args["keys"]}:
        return False
    values = {composed(key): value for key, value in found.items()}
    return all(same_value(values.get(composed(key)), target) for key, target in (args.get("values") or {}).items())


def same_value(value: Any, target: Any) -> bool:
    """Whether two JSON values are one: of the same type, so that 30 is 30.0 but neither "30" nor true is 1."""
    if isinstance(target, bool) or isinstance(value, bool) or target is None:
        return value is target
    if isinstance(target, str):
        return isinstance(value, str) and composed(value).strip() == composed(target).strip()
    if isinstance(target, list):
        return isinstance(value, list) and len(value) == len(target) and all(map(same_value, value, target))
    if isinstance(target, dict):
        return (
            isinstance(value, dict)
            and value.keys() == target.keys()
            and all(same_value(value[key], target[key]) for key in target)
        )
    return isinstance(value, int | float) and value == target


def _case(_: str, text: str, args: Mapping[str, Any]) -> bool:
    if text.upper() == text.lower():
        return False  # no letter has a case: "123", "雨"
    match args["case"]:
        case "upper":
            return text == text.upper()
        case "lower":
            return text == text.lower()
        case "title":
            return all(word[0].isupper() for word in words_of(text) if word[0].upper() != word[0].lower())
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
