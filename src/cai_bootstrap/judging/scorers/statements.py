"""What is said after "yes" or "no", held against the question: does the statement say the opposite of the answer?

Decided are comparisons ("16 is less than 8", also by another word and with a "not"), pairs of opposites ("7 is odd"),
the question's own words with or without a "not", and a bare "it is". `relations.json` holds the pairs. Any other
statement is not decided here and contradicts nothing.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cai_bootstrap.files import read_json
from cai_bootstrap.judging.scorers.text import MONEY, Words, folded_words, sentences_of, without_clitics

_DATA: dict[str, Any] = read_json(Path(__file__).with_name("relations.json"))
_LEXICON = {name: frozenset(words) for name, words in read_json(Path(__file__).with_name("lexicon.json")).items()}
FRAME: frozenset[str] = _LEXICON["frame"]
NEGATIONS: frozenset[str] = _LEXICON["negations"]
_FILLER = FRAME | frozenset(_DATA["filler"]) | frozenset(_DATA["verbs"])
_VERBS, _AFFIRMING = frozenset(_DATA["verbs"]), frozenset(_DATA["affirming"])
_NUMBERS = {word: float(value) for value, word in enumerate(_DATA["numbers"])}
# The orders that numbers stand in: "more" and "less", and "after" and "before" where one counts upwards.
_OF_NUMBERS = ("order 0", "order 1")
_SPELLED = {"<": " less than ", ">": " more than ", "=": " equals "}
_SYMBOL = re.compile(r"(?<=\w)\s*([<>=])\s*(?=[-\w$€£.])")
_FLIPPED = str.maketrans("<>", "><")

Outcomes = frozenset[str]


class Relation(NamedTuple):
    """A word that relates or describes: where it stands, and per dimension the outcomes that it leaves open."""

    at: int
    senses: dict[str, Outcomes]


class Question(NamedTuple):
    """What a question asks: its relation, and the words on the left and on the right of it."""

    relation: Relation
    left: frozenset[str]
    right: frozenset[str]


def contradicts(instruction: str, text: str, answer: str) -> bool:
    """Whether what a text says besides "yes" or "no" (`answer`, the right one, once in it) is the opposite of it."""
    words = without_clitics(folded_words(_SYMBOL.sub(lambda sign: _SPELLED[sign[1]], text)))
    at = words.index(answer)
    statement, after = (*words[:at], *words[at + 1 :]), words[at + 1 :]
    for decide in (_by_relation, _by_affirmation, _by_predicate):
        if (verdict := decide(instruction, statement, answer)) is not None:
            return verdict
    return _by_words(folded_words(instruction), after, answer)


@lru_cache(maxsize=1)
def _senses() -> dict[str, dict[str, Outcomes]]:
    """For each word of the table what it says in each dimension: "less" is "<" in the first order."""
    table: dict[str, dict[str, Outcomes]] = {}
    for name, pairs, outcomes in (
        ("order", _DATA["orders"], "><"),
        ("opposite", _DATA["opposites"], "10"),
        ("contrary", _DATA["contraries"], "10"),
    ):
        for number, pair in enumerate(pairs):
            for words, outcome in zip(pair, outcomes, strict=True):
                for word in (*words, *(word[:-2] + "est" for word in words if word.endswith("er"))):
                    table.setdefault(word, {})[f"{name} {number}"] = frozenset(outcome)
            if name == "order":
                for word in _DATA["equal"]:
                    table.setdefault(word, {})[f"{name} {number}"] = frozenset("=")
    return table


def _universe(dimension: str) -> Outcomes:
    return frozenset({"order": "<=>", "opposite": "01", "contrary": "01n"}[dimension.split()[0]])


def _relations(words: Words) -> list[Relation]:
    return [Relation(at, senses) for at, word in enumerate(words) if (senses := _senses().get(word))]


@lru_cache(maxsize=4096)
def _asked_sentence(instruction: str) -> Words:
    """The words of the sentence that asks: the last one with a relation in it, else the last with a word of its own."""
    sentences = [without_clitics(folded_words(sentence)) for sentence in sentences_of(instruction)]
    return next(
        (words for test in (_relations, _content) for words in reversed(sentences) if test(words)),
        (),
    )


@lru_cache(maxsize=4096)
def _question(instruction: str) -> Question | None:
    """What the question asks, if one word decides it and no "not" stands in it (but "true or not", "yes or no")."""
    words = _asked_sentence(instruction)
    relations = _relations(words)
    if len(relations) != 1 or _negations(words):
        return None
    at = relations[0].at
    numbers = [place for place, word in enumerate(words) if _number(word) is not None]
    if len(numbers) == 2 and numbers[0] < at < numbers[1]:
        return Question(relations[0], frozenset([words[numbers[0]]]), frozenset([words[numbers[1]]]))
    return Question(relations[0], frozenset(_content(words[:at])), frozenset(_content(words[at + 1 :])))


def _by_relation(instruction: str, statement: Words, answer: str) -> bool | None:
    """By the words that relate: the outcomes that the statement leaves open, against those of the answer."""
    relations = _relations(statement)
    ordering = [relation for relation in relations if relation.senses.keys() & set(_OF_NUMBERS)]
    upwards = not set(folded_words(instruction)) & set(_DATA["downwards"])
    if upwards and len(ordering) == 1 and (truth := _truth_of_numbers(statement, ordering[0])) is not None:
        return not truth
    if (question := _question(instruction)) is None:
        return None
    if upwards and all(_number(word) is not None for word in question.left | question.right):
        question = question._replace(relation=_counted(question.relation))
        relations = [_counted(relation) for relation in relations]
    for dimension, outcomes in question.relation.senses.items():
        alike = [relation for relation in relations if dimension in relation.senses]
        if alike and (left_open := _left_open(statement, alike, question, dimension)) is not None:
            return not left_open & (outcomes if answer == "yes" else _universe(dimension) - outcomes)
    return None


def _counted(relation: Relation) -> Relation:
    """A relation of numbers: what comes after, where one counts upwards, is more."""
    size, place = _OF_NUMBERS
    return (
        relation._replace(senses={size: relation.senses[place]} | relation.senses)
        if place in relation.senses
        else relation
    )


def _truth_of_numbers(statement: Words, relation: Relation) -> bool | None:
    """Whether "23 is indeed more than 28" is true; None where the statement does not compare two numbers."""
    before = [value for word in statement[: relation.at] if (value := _number(word)) is not None]
    after = [value for word in statement[relation.at + 1 :] if (value := _number(word)) is not None]
    dimension = next((name for name in _OF_NUMBERS if name in relation.senses), None)
    if dimension is None or len(before) != 1 or len(after) != 1:
        return None
    outcome = "<" if before[0] < after[0] else ">" if before[0] > after[0] else "="
    return (outcome in relation.senses[dimension]) == (_negations(statement) % 2 == 0)


def _left_open(statement: Words, relations: Sequence[Relation], question: Question, dimension: str) -> Outcomes | None:
    """What a statement leaves open in one dimension, the question's way round; None if it is about other things."""
    outcomes_left, begun, flipped = _universe(dimension), 0, False
    for number, relation in enumerate(relations):
        end = relations[number + 1].at if number + 1 < len(relations) else len(statement)
        left, right = _content(statement[begun : relation.at]), _content(statement[relation.at + 1 : end])
        if left or right or number == 0:
            way = _way_round(left, right, question, ordered=dimension.startswith("order"))
            if way is None:
                return None
            flipped = way
        # A "not" of the last part may stand after its word; of another it belongs to the next.
        scope = statement[begun : end if number + 1 == len(relations) else relation.at]
        outcomes = relation.senses[dimension]
        if flipped:
            outcomes = frozenset("".join(outcomes).translate(_FLIPPED))
        outcomes_left &= _universe(dimension) - outcomes if _negations(scope) % 2 else outcomes
        begun = relation.at + 1
    return outcomes_left


def _way_round(left: Iterable[str], right: Iterable[str], question: Question, *, ordered: bool) -> bool | None:
    """Whether a statement has the question's sides exchanged; None where it names anything else."""
    left, right = list(left), list(right)
    if not ordered:
        either = question.left | question.right
        return False if _all_of(left, either) and _all_of(right, either) else None
    if _all_of(left, question.left) and _all_of(right, question.right):
        return False
    return True if left and _all_of(left, question.right) and _all_of(right, question.left) else None


def _all_of(words: Iterable[str], side: frozenset[str]) -> bool:
    return all(any(_same(word, other) for other in side) for word in words)


def _same(word: str, other: str) -> bool:
    """Whether two words are one but for its ending: "scored" and "score"."""
    short, long = sorted((word, other), key=len)
    return long == short or (len(short) > 3 and long.removeprefix(short) in ("s", "d", "ed", "es", "ing"))


def _by_affirmation(instruction: str, statement: Words, answer: str) -> bool | None:
    """By a bare "it is", "that's right" or "it does not", which repeats the answer or takes it back."""
    spoken = set(statement) - NEGATIONS
    if not spoken & (_VERBS | _AFFIRMING) or not spoken <= _FILLER - {"because", "since"}:
        return None
    if _negations(_asked_sentence(instruction)):
        return None
    return (_negations(statement) % 2 == 0) != (answer == "yes")


def _by_predicate(instruction: str, statement: Words, answer: str) -> bool | None:
    """By the end of the question said again: "No, it is a mammal" to "Is a whale a mammal?"."""
    words = _asked_sentence(instruction)
    question, repeated = _content(words), _content(statement)
    if _relations(words) or _negations(words) or not repeated or repeated[-1] != question[-1]:
        return None
    rest = iter(question)
    if not all(word in rest for word in repeated):
        return None
    return (_negations(statement) % 2 == 0) != (answer == "yes")


def _by_words(instruction: Words, tail: Words, answer: str) -> bool:
    """By the question's own words, all of them, in their order or in another."""
    question = [word for word in instruction if word not in FRAME]
    content = [word for word in tail if word in question]
    if len(content) < 2 or sorted(content) != sorted(question):
        return False
    if answer == "no":
        return content == question and not set(tail) & NEGATIONS
    return content != question


def _content(words: Words) -> list[str]:
    """The words that name something: no frame of a sentence, no filler, no negation."""
    return [word for word in words if word not in _FILLER and word not in NEGATIONS]


def _negations(words: Words) -> int:
    """How many words negate, apart from "yes or no" and "true or not"."""
    return sum(
        word in NEGATIONS and word != "no" and not (at and words[at - 1] == "or") for at, word in enumerate(words)
    )


def _number(word: str) -> float | None:
    """The value of a number, in digits or as a word up to twenty; None for any other word."""
    if word in _NUMBERS:
        return _NUMBERS[word]
    try:
        value = float(word.translate(str.maketrans("", "", MONEY + "%°,")))
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
