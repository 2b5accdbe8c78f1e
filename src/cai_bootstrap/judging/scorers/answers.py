"""Judging an answer to a question: one statement, the right answer in it, and no other candidate.

The grammar is narrow on purpose. Before the answer may stand words that restate the question ("The capital of France
is"); after it, such words or one explaining clause. Anything else is text of which the answer is only a part.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from cai_bootstrap.files import read_json
from cai_bootstrap.judging.closed_sets import closed_set
from cai_bootstrap.judging.scorers.registry import scorer
from cai_bootstrap.judging.scorers.statements import contradicts
from cai_bootstrap.judging.scorers.text import (
    Words,
    composed,
    find_phrase,
    folded_words,
    sentences_of,
    unquote,
    without_clitics,
    words_of,
)
from cai_bootstrap.judging.scorers.units import in_units, units_of

MAX_ANSWER_WORDS = 40
MAX_RESTATING_WORDS = 15
_LEXICON = {name: frozenset(words) for name, words in read_json(Path(__file__).with_name("lexicon.json")).items()}
GLUE: frozenset[str] = _LEXICON["glue"]
COPULAS: frozenset[str] = _LEXICON["copulas"]
CLAUSE_OPENERS: frozenset[str] = _LEXICON["clause_openers"]
BARE_OPENERS: frozenset[str] = _LEXICON["bare_openers"]
NEGATIONS: frozenset[str] = _LEXICON["negations"]
HEDGES: frozenset[str] = _LEXICON["hedges"]
LINKS: frozenset[str] = _LEXICON["links"]
FUNCTION_WORDS: frozenset[str] = _LEXICON["function_words"]
OWNING = frozenset(["whose", "belong", "belongs", "own", "owns", "owner"])
NOTS = frozenset(word for word in NEGATIONS if word.endswith("n't") or word in ("not", "cannot"))
ARTICLES = frozenset(["a", "an", "the"])
# Where a clause ends or another begins: punctuation, or an article with a capital inside.
_BREAK = re.compile(r"[,;:!?()\[\]{}<>–—\t\n]|\s-|\S\s+(?:The|An?)\b|[a-z][A-Z]")


@dataclass(frozen=True)
class Candidates:
    """The accepted answers and their rivals as word tuples, by first word, longest first; `exact_case` for symbols."""

    by_first: Mapping[str, tuple[tuple[Words, bool], ...]]
    accepted: frozenset[Words]
    exact_case: bool


@dataclass(frozen=True)
class Mention:
    start: int
    end: int
    accepted: bool


@lru_cache(maxsize=65536)
def spoken_words(text: str) -> Words:
    """The folded words of a text without "'s": a possessive or a contraction names what stands before it."""
    return without_clitics(folded_words(text))


@lru_cache(maxsize=65536)
def _written_words(text: str) -> Words:
    return without_clitics(words_of(text))


@lru_cache(maxsize=65536)
def candidates_for(gold: tuple[str, ...], closed_set: str | None, rivals: tuple[str, ...]) -> Candidates:
    """The right answers and the wrong ones that could be confused with them.

    A member of the closed set that shares a spelling with `gold` is right, with all its aliases. Short capitalised
    answers ("Fe", "No") are symbols, matched with their case, or every "no" would be nobelium.
    """
    exact_case = all(len(answer) <= 3 and answer.isascii() and answer.isalpha() and answer.istitle() for answer in gold)
    exact_case = exact_case and closed_set is not None and "symbol" in closed_set
    split = _written_words if exact_case else spoken_words
    right = {split(answer) for answer in gold}
    wrong = {split(rival) for rival in rivals}
    if closed_set is not None:
        for row in _closed_rows(closed_set, exact_case):
            if right & row:
                right |= row
            else:
                wrong |= row
    # A question about a line of words has "in" or "the" among its rivals, which any statement may use.
    wrong -= right | {(word,) for word in FUNCTION_WORDS}
    table: dict[str, list[tuple[Words, bool]]] = {}
    for phrases, accepted in ((right, True), (wrong, False)):
        for phrase in phrases:
            if phrase:
                table.setdefault(phrase[0], []).append((phrase, accepted))
    ordered = {first: tuple(sorted(found, key=lambda f: (-len(f[0]), f))) for first, found in table.items()}
    return Candidates(ordered, frozenset(right), exact_case)


@lru_cache(maxsize=64)
def _closed_rows(name: str, exact_case: bool) -> tuple[frozenset[Words], ...]:
    split = _written_words if exact_case else spoken_words
    return tuple(frozenset(split(alias) for alias in row) for row in closed_set(name))


def mentions(words: Words, candidates: Candidates) -> list[Mention]:
    """Every candidate that stands in the words, longest match first, none overlapping."""
    found, at = [], 0
    while at < len(words):
        for phrase, accepted in candidates.by_first.get(words[at], ()):
            if words[at : at + len(phrase)] == phrase:
                found.append(Mention(at, at + len(phrase), accepted))
                at += len(phrase)
                break
        else:
            at += 1
    return found


def is_multiple_choice(text: str) -> bool:
    """Whether the text offers lettered options ("A) 12 B) 17", "a. Paris")."""
    words = text.split()
    return any(
        len(bare := word.lstrip("(")) == 2
        and bare[0] in "abcdABCD"
        and (bare[1] == ")" or (bare[1] == "." and at == 0))
        for at, word in enumerate(words)
        if at + 1 < len(words)
    )


def rivals_that_are_right(instruction: str, args: Mapping[str, Any], gold: Sequence[str]) -> list[str]:
    """The rivals of an item that are accepted answers, too, once both are read as the scorer reads them."""
    units = units_of(instruction)
    right = tuple(in_units(answer, units) for answer in gold)
    candidates = candidates_for(right, args.get("closed_set"), ())
    split = _written_words if candidates.exact_case else spoken_words
    return [rival for rival in args.get("rivals") or () if split(in_units(rival, units)) in candidates.accepted]


@scorer("answer", "closed_set", "rivals")
def judge_answer(instruction: str, args: Mapping[str, Any], gold: Sequence[str], text: str) -> str:
    """The reason (`ok` or a failure) for an answer that must name one of `gold` and no rival."""
    units = units_of(instruction)
    gold = [in_units(answer, units) for answer in gold]
    rivals = tuple(in_units(rival, units) for rival in args.get("rivals") or ())
    candidates = candidates_for(tuple(gold), args.get("closed_set"), rivals)
    plain, question = in_units(unquote(text), units), in_units(instruction, units)
    asked, given = _with_short_nots(spoken_words(question)), spoken_words(plain)
    said = _written_words(plain) if candidates.exact_case else given
    owners = not OWNING.isdisjoint(asked) or any(_is_possessive(answer, -1) for answer in gold)
    if said in candidates.accepted and "?" not in plain and (owners or not _is_possessive(plain, -1)):
        return "ok"
    own = frozenset(word for answer in gold for word in spoken_words(answer))
    if fault := _statement_fault(asked, given, plain, exempt=own):
        return fault
    named = mentions(said, candidates)
    told = args.get("in_context") is True
    rights = [m for m in named if m.accepted and not _belongs_to_question(m, asked, given, told=told)]
    rights = [m for m in rights if owners or _names_itself(m, plain, asked, given)]
    if not rights:
        return "rival_answer" if any(not m.accepted for m in named) else "wrong_answer"
    if any(not m.accepted and not _only_restated(m, rights[0], asked, given) for m in named):
        return "rival_answer"
    spoken = [given[right.start : right.end] for right in rights]
    if len(set(spoken)) < len(spoken) and find_phrase(asked, spoken[0]) < 0:
        return "repeated"
    own |= {word for right in rights for word in given[right.start : right.end]}
    return _frame_fault(plain, asked, given, rights[0].start, rights[0].end, own)


def _with_short_nots(asked: Words) -> Words:
    """The words of a question; one that says "not" may be answered with "didn't"."""
    return asked if NOTS.isdisjoint(asked) else (*asked, "", *NOTS)


def _is_possessive(text: str, at: int) -> bool:
    """Whether the word at this place ends in "'s"."""
    return folded_words(text)[at].endswith("'s")


def _names_itself(mention: Mention, plain: str, asked: Words, given: Words) -> bool:
    """Whether an answer with "'s" is a subject ("Irene's the one", "Mia's holding it"), no owner ("Irene's ring")."""
    if not _is_possessive(plain, mention.end - 1):
        return True
    predicates = {word for verb, word in pairwise(asked) if verb in ("is", "are", "was", "has", "had")}
    return not (ARTICLES | {"got", "who"} | predicates).isdisjoint(given[mention.end : mention.end + 1])


@scorer("yes_no")
def judge_yes_no(instruction: str, _: Mapping[str, Any], gold: Sequence[str], text: str) -> str:
    """The reason for an answer that must say yes or no, once, and not contradict itself."""
    wanted = gold[0].casefold()
    plain = unquote(text)
    asked, given = spoken_words(instruction), spoken_words(plain)
    if given == (wanted,):
        return "ok"
    said = {word for word in given if word in ("yes", "no")}
    if not said:
        return "wrong_answer"
    if len(said) == 2:
        return "rival_answer"
    if wanted not in said:
        return "wrong_answer"
    if given.count(wanted) > 1:
        return "repeated"
    at = given.index(wanted)
    negation = NEGATIONS if wanted == "yes" else frozenset[str]()
    if fault := _statement_fault(asked, given[:at] + given[at + 1 :], plain, negations=negation, exempt=frozenset()):
        return fault
    if contradicts(instruction, plain, wanted):
        return "contradiction"
    if wanted == "no" and set(given[:at]) & (NEGATIONS - set(asked)):
        return "extra_text"  # "nothing, no": what stands before the answer is no part of it
    return _frame_fault(plain, asked, given, at, at + 1, NEGATIONS - negation)


def _statement_fault(
    asked: Words, given: Words, plain: str, *, exempt: frozenset[str], negations: frozenset[str] = NEGATIONS
) -> str | None:
    """What keeps a text from being one plain statement, or None. `exempt` are the answer's own words ("May")."""
    if len(given) > MAX_ANSWER_WORDS:
        return "extra_text"
    if is_multiple_choice(plain):
        return "multiple_choice"
    spoken = set(given) - exempt
    if "?" in plain:
        return "question_back"
    if spoken & (negations - set(asked)):
        return "negated"
    if spoken & HEDGES - set(asked):
        return "hedged"
    if "or" in spoken or " / " in plain:
        return "candidate_list"
    if len(sentences_of(plain)) > 1 or plain.endswith((",", ":", ";")):
        return "extra_text"
    return None


def _only_restated(mention: Mention, answer: Mention, asked: Words, given: Words) -> bool:
    """Whether a rival is mentioned only because the question names it: "17 is larger than 12", "of hot".

    Where the question offers the answer itself, what else it offers is a candidate: "in Africa or in Europe".
    """
    before = given[mention.start - 1] if mention.start else ""
    if before == "than" and mention.start > answer.end:
        return given[mention.start - 2] in asked
    if find_phrase(asked, given[answer.start : answer.end]) >= 0:
        return False
    return before in LINKS and find_phrase(asked, given[mention.start - 1 : mention.end]) >= 0


def _belongs_to_question(mention: Mention, asked: Words, given: Words, *, told: bool) -> bool:
    """Whether an accepted answer is only the question's own word, as in "The capital of Singapore is".

    Where the instruction tells the answer (`told`), it stands in the question anyway: "The coat of Ben is blue" says
    whose coat is blue. Only a sentence that breaks off after it says nothing.
    """
    if told and mention.end + 1 < len(given):
        return False
    bigram = given[max(0, mention.start - 1) : mention.end]
    followed = mention.end < len(given) and given[mention.end] in COPULAS
    return followed and mention.start > 0 and bigram[0] in LINKS and find_phrase(asked, bigram) >= 0


def _frame_fault(plain: str, asked: Words, given: Words, start: int, end: int, own: frozenset[str]) -> str:
    """Whether what stands around the answer only restates it or the question, or explains in one clause."""
    restating = GLUE | set(asked) | own | _inflected(asked)
    before, after = given[:start], given[end:]
    if not all(word in restating for word in before) and not _restates(plain, asked, before, restating):
        return "extra_text"
    if not after or all(word in restating for word in after):
        return "ok"
    comma = _comma_follows(plain, end)
    opens = after[0] in BARE_OPENERS or (comma and (after[0] in CLAUSE_OPENERS or after[0] in asked))
    return "ok" if opens and len(after) >= 2 else "extra_text"


def _inflected(asked: Words) -> frozenset[str]:
    """The verb of a question as its answer has it: "does it cost" and "it costs"."""
    return frozenset(word + "s" for word in asked) if {"does", "do"} & set(asked) else frozenset()


def _restates(plain: str, asked: Words, before: Words, restating: frozenset[str] | set[str]) -> bool:
    """Whether words before an answer restate the question in one clause, though with an adjective of their own.

    "The chief city of France is", "A beetle is a small": a word of its own stands after an article and before what it
    describes. Anywhere else it is text that the answer was only added to: "0 The symbol for iron is", "the apple, the
    cup is".
    """
    if len(before) > MAX_RESTATING_WORDS or not set(before) & (set(asked) - GLUE - FUNCTION_WORDS):
        return False
    for at, word in enumerate(before):
        if word in restating:
            continue
        described = before[at + 1] if at + 1 < len(before) else ""
        if not (word.isalpha() and at and before[at - 1] in ARTICLES) or described in ARTICLES:
            return False
        if described and (described not in restating or described in FUNCTION_WORDS - COPULAS):
            return False
    ended = _without_adjective(before)
    is_copula = ended[-1] in COPULAS or (ended == before and _is_possessive(plain, len(before) - 1))
    return is_copula and not _BREAK.search(_written(plain, len(before))[0])


def _without_adjective(before: Words) -> Words:
    """The words before an answer without "a small" at their end: one adjective that stands after "a" or "an"."""
    described = len(before) >= 3 and before[-2] in ("a", "an")
    return before[:-2] if described and before[-1] not in LINKS | FUNCTION_WORDS else before


def _comma_follows(plain: str, end: int) -> bool:
    """Whether a comma, colon, dash or bracket stands right after the first `end` words."""
    return _written(plain, end)[1].lstrip(" \"'”").startswith((",", "(", ";", "–", "—", "-", ":"))


def _written(plain: str, words: int) -> tuple[str, str]:
    """The text as far as the end of its first `words` words, and the rest of it."""
    at = 0
    written = composed(plain)
    for word in words_of(plain)[:words]:
        at = written.index(word, at) + len(word)
    return written[:at], written[at:]
