"""The checks that an instruction's own words decide: form, length, keywords, order. One decorated function is a check.

A check takes the output and its arguments and says whether it holds. An unknown name or a missing argument is an
error, never a pass.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from cai_bootstrap.errors import DataError
from cai_bootstrap.judging.scorers.registry import (
    AT_LEAST_ONE,
    CHECKS,
    KEYS,
    TEXT,
    WORD,
    WORDS,
    Arguments,
    check,
    find_check,
    is_count,
    one_of,
    unknown,
)
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
_UNIT = re.compile(rf"^(-?)[{MONEY}](?=\d)|(?<=\d)[%‰°][cfk]?$")
_ABBREVIATED = frozenset(["etc", "and so on", "and more", "others"])


def holds(name: str, instruction: str, text: str, args: Arguments) -> bool:
    """Whether one check holds for an output. Raises DataError for a check that does not exist or lacks an argument."""
    rule = find_check(name)
    if rule is None:
        raise DataError(unknown("check", name, sorted(CHECKS)))
    try:
        return rule.holds(composed(instruction), text if rule.as_written else composed(text), args)
    except KeyError as error:
        raise DataError(f"check {name!r} lacks its argument {error}") from error


def _within(count: int, args: Arguments) -> bool:
    low, high = args.get("min"), args.get("max")
    if low is None and high is None:
        raise KeyError("min or max")
    return (low is None or count >= low) and (high is None or count <= high)


def _bounds_fault(args: Arguments) -> str | None:
    bounds = [args[key] for key in ("min", "max") if args.get(key) is not None]
    if not bounds or not all(map(is_count, bounds)):
        return "needs 'min' or 'max', a number"
    if bounds == [0] and args.get("min") == 0:
        return "with 'min' 0 and no 'max' holds for every output"
    if args.get("max") == 0:
        return "with 'max' 0 holds for no output: an empty one never follows"
    return None


@check("words", counted=True, fault=_bounds_fault)
def _words(_: str, text: str, args: Arguments) -> bool:
    return _within(len(words_of(text)), args)


@check("sentences", counted=True, fault=_bounds_fault)
def _sentences(_: str, text: str, args: Arguments) -> bool:
    """A demand for sentences is filled by whole ones only; a maximum counts fragments too."""
    found = sentences_of(text)
    demanded = args.get("min") or 0
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


@check("lines", counted=True, fault=_bounds_fault)
def _lines(_: str, text: str, args: Arguments) -> bool:
    return _within(len(lines_of(text)), args)


def _alternatives(word: str) -> list[str]:
    """A keyword may offer spellings: "colour|color"."""
    return word.split("|") if word.strip("| ") else [word]


@lru_cache(maxsize=65536)
def _plain(text: str) -> Words:
    """Folded words without the possessive: "the dog's bowl" uses the word "dog"."""
    return tuple(word.removesuffix("'s") for word in folded_words(text))


def _parts(text: str) -> Words:
    """The words without possessive and sign, and those that a mark joins apart: "rain-soaked" uses "rain"."""
    return tuple(part for word in _plain(text) for part in re.split(r"[^\w'.,^]+", word) if part)


@lru_cache(maxsize=65536)
def _without_unit(words: Words) -> Words:
    """The words, numbers without their unit: "$5" and "5%" use "5", and "-5" does not."""
    return tuple(_UNIT.sub(r"\1", word) for word in words)


@lru_cache(maxsize=65536)
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


def _keywords_fault(args: Arguments) -> str | None:
    """Words in which nothing is seen."""
    for word in args["words"]:
        if not all(composed(spelling).strip() for spelling in _alternatives(word)):
            return f': {word!r} has an empty spelling; "colour|color" is the form'
    return None


def _order_fault(args: Arguments) -> str | None:
    """A mark counts as characters in `contains` and `forbids` alone."""
    for word in args["words"]:
        if (fault := _keywords_fault({"words": [word]})) is not None:
            return fault
        if any(is_symbol(spelling) for spelling in _alternatives(word)):
            return f": {word!r} begins or ends with a mark; give words, or use 'contains' for the mark"
    return None


@check("contains", words=WORDS, fault=_keywords_fault)
def _contains(_: str, text: str, args: Arguments) -> bool:
    words = folded_words(text)
    forms = (words, _plain(text), without_clitics(words), _without_unit(words))
    return all(_is_used(word, text, forms) for word in args["words"])


@check("order", words=WORDS, fault=_order_fault)
def _order(_: str, text: str, args: Arguments) -> bool:
    words, at = _plain(text), 0
    for word in args["words"]:
        spellings = [folded_words(spelling) for spelling in _alternatives(word)]
        at = min((place + len(s) for s in spellings if (place := find_phrase(words, s, at)) >= 0), default=-1)
        if at < 0:
            return False
    return True


@check("forbids", words=WORDS, fault=_keywords_fault)
def _forbids(_: str, text: str, args: Arguments) -> bool:
    """Parts of a joined word count as a use: "rain-soaked" uses "rain"."""
    forms = (folded_words(text), _plain(text), _parts(text))
    return not any(_is_used(word, text, forms) for word in args["words"])


def _choice_fault(args: Arguments) -> str | None:
    for word in args["words"]:
        if not composed(word).strip():
            return f': {word!r} has an empty spelling; "colour|color" is the form'
        if "|" in word:
            return f': {word!r} holds "|"; give each word by itself'
        if not folded_words(word):
            return f": {word!r} holds no letter or digit; use scorer 'exact' with it as 'gold'"
    return None


@check("one_of", words=WORDS, picks=True, fault=_choice_fault)
def _one_of(_: str, text: str, args: Arguments) -> bool:
    given = folded_words(unquote(text))
    return len(lines_of(text)) == 1 and "?" not in text and any(given == folded_words(word) for word in args["words"])


def _text_fault(args: Arguments) -> str | None:
    return None if composed(args["text"]).strip() else ": its 'text' holds nothing that is seen"


@check("starts_with", text=TEXT, fault=_text_fault)
def _starts_with(_: str, text: str, args: Arguments) -> bool:
    beginning = composed(args["text"]).strip().casefold()
    for form in (text.strip().casefold(), text.lstrip().lstrip("\"'“‘„«").casefold()):
        if form.startswith(beginning):
            return not (beginning[-1].isalnum() and form[len(beginning) : len(beginning) + 1].isalnum())
    return False


@check("ends_with", text=TEXT, fault=_text_fault)
def _ends_with(_: str, text: str, args: Arguments) -> bool:
    end = composed(args["text"]).strip().casefold()
    given = ending(text).casefold()
    if end[-1].isalnum():
        given = ending(given.rstrip("".join(END_MARKS) + " "))
    for form in (text.strip().casefold(), given):
        if form.endswith(end):
            return not (end[0].isalnum() and form[: -len(end)][-1:].isalnum())
    return False


def _one_word_fault(args: Arguments, instead: str) -> str | None:
    one = len(folded_words(args["word"])) == 1 and "|" not in args["word"]
    return None if one else f": {args['word']!r} is not exactly one word; use {instead!r}"


@check("first_word", word=WORD, once=True, fault=lambda args: _one_word_fault(args, "starts_with"))
def _first_word(_: str, text: str, args: Arguments) -> bool:
    return folded_words(text)[:1] == folded_words(args["word"])


@check("last_word", word=WORD, once=True, fault=lambda args: _one_word_fault(args, "ends_with"))
def _last_word(_: str, text: str, args: Arguments) -> bool:
    return folded_words(text)[-1:] == folded_words(args["word"])


@check("question")
def _question(_: str, text: str, __: Arguments) -> bool:
    words = words_of(text)
    return ending(text).rstrip("!").endswith(("?", "？", "؟", "‽", "⁉")) and len(words) >= 1 and not is_one_word(words)


@check("continues")
def _continues(instruction: str, text: str, _: Arguments) -> bool:
    asked, given = folded_words(instruction), folded_words(text)
    if not given or (len(asked) >= 3 and given[:3] == asked[:3]):
        return False
    return longest_shared_run(given, asked) < max(4, 0.5 * len(asked))


@check("list", items=AT_LEAST_ONE, separator=one_of("comma", "newline", "numbered", "bullets"), once=True)
def _list(instruction: str, text: str, args: Arguments) -> bool:
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


def _values_fault(args: Arguments) -> str | None:
    values = args.get("values")
    if values is not None and not isinstance(values, dict):
        return ": 'values' must be an object of keys and their values"
    foreign = sorted({composed(key) for key in values or {}} - {composed(key) for key in args["keys"]})
    return f": 'values' names {foreign[0]!r}, which is none of its 'keys'" if foreign else None


# As it is written: a minus sign or a space of another kind is none in JSON.
@check("json", keys=KEYS, options=("values",), once=True, picks=True, as_written=True, fault=_values_fault)
def _json(_: str, text: str, args: Arguments) -> bool:
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


@check("case", case=one_of("upper", "lower", "title"))
def _case(_: str, text: str, args: Arguments) -> bool:
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
