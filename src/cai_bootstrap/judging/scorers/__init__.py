"""Scorers: does an output follow its instruction? By rule, strictly, with a reason from a closed list.

`judge` gives both verdicts on one output: the whole of it up to EOS, and its first line under the same checks (what a
stop rule at the first newline would have left). `check` judges a finished text alone; the training pool uses it too.
The rules are described in docs/METHOD.md. A change of any verdict bumps `SCORER_VERSION`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cai_bootstrap.errors import DataError
from cai_bootstrap.judging.own.names import own_name, plain
from cai_bootstrap.judging.scorers import answers as answers
from cai_bootstrap.judging.scorers.checks import holds
from cai_bootstrap.judging.scorers.registry import (
    CHECKS,
    SCORERS,
    Scorer,
    Tier,
    find_scorer,
    label_tier,
    scorer,
    unknown,
)
from cai_bootstrap.judging.scorers.text import composed, folded_words, is_degenerate, is_echo, is_repeated, unquote
from cai_bootstrap.records import Answer, EvalItem, Verdict

SCORER_VERSION = "7"
# Reasons of scorers; a check that failed is a reason by its own name.
_REASONS = frozenset(
    [
        "ok",
        "unfinished",
        "empty",
        "echo",
        "degenerate",
        "repeated",
        "wrong_answer",
        "rival_answer",
        "negated",
        "hedged",
        "candidate_list",
        "multiple_choice",
        "question_back",
        "contradiction",
        "extra_text",
        "not_exact",
    ]
)
__all__ = ["SCORERS", "SCORER_VERSION", "Tier", "check", "first_line", "judge", "label_tier", "reasons"]


def reasons() -> frozenset[str]:
    """Every reason that a verdict may have."""
    return _REASONS.union(map(plain, (*CHECKS, *(name for name in SCORERS if own_name(name)))))


@cache
def _verdict(reason: str) -> Verdict:
    return Verdict(success=reason == "ok", reason=reason)


def judge(item: EvalItem, text: str, finished: bool) -> Answer:
    """Judge one output on one item, strictly and by its first line.

    `finished` says that the model ended by itself (EOS, or the stop rule that its side declares). The first line counts
    as finished when a newline ended it, or the output itself was finished.
    """
    strict = check(item.instruction, item.scorer, item.args, item.gold, text) if finished else _verdict("unfinished")
    line = first_line(text)
    ended = finished or "\n" in text.lstrip()
    if line == text.strip() and finished:
        first = strict
    elif ended:
        first = check(item.instruction, item.scorer, item.args, item.gold, line)
    else:
        first = _verdict("unfinished")
    return Answer(
        response=text,
        finished=finished,
        success=strict.success,
        reason=strict.reason,
        first_line_success=first.success,
        first_line_reason=first.reason,
    )


def first_line(text: str) -> str:
    """The first line that is not empty, without the whitespace around it; "" if there is none."""
    return text.strip().partition("\n")[0].strip()


def check(instruction: str, scorer: str, args: Mapping[str, Any], gold: Sequence[str], text: str) -> Verdict:
    """Judge the content of a finished text. Raises DataError for an unknown scorer or check or a missing gold."""
    return _verdict(_reason(instruction, scorer, args, gold, text))


def _reason(instruction: str, scorer: str, args: Mapping[str, Any], gold: Sequence[str], text: str) -> str:
    rule = find_scorer(scorer)
    if rule is None:
        raise DataError(unknown("scorer", scorer, SCORERS))
    if rule.needs_gold and not gold:
        raise DataError(f"scorer {plain(scorer)!r} needs at least one accepted answer in 'gold'")
    written, text = text, composed(text)
    if not text.strip():
        return "empty"
    if not rule.to_the_letter and (fault := _form_fault(instruction, args, gold, text, rule)):
        return fault
    return rule.reason(instruction, args, gold, written if rule.as_written else text)


def _form_fault(instruction: str, args: Mapping[str, Any], gold: Sequence[str], text: str, rule: Scorer) -> str | None:
    """What makes an output none, whatever was asked: no words in it, the instruction again, one word over and over."""
    words = folded_words(text)
    if not words:
        return "empty"
    if not any(words == folded_words(answer) for answer in gold):
        if is_echo(instruction, text, free_text=rule.free_text(args)):
            return "echo"
        if is_repeated(text):
            return "repeated"
        if is_degenerate(words):
            return "degenerate"
    return None


def _is_free_text(args: Mapping[str, Any]) -> bool:
    """Whether the output is more than a pick from the instruction's own words, which would be no echo."""
    names = (entry.get("check") for entry in args.get("checks", ()))
    return not any(name in CHECKS and CHECKS[name].picks for name in names)


@scorer("exact", to_the_letter=True, knows_nothing=True)
def _exact(instruction: str, _: Mapping[str, Any], gold: Sequence[str], text: str) -> str:
    """Character for character, but for whitespace around it, a pair of quotation marks, and a final full stop."""
    given = text.strip()
    accepted = {form for answer in gold for form in (composed(answer).strip(), _unstopped(composed(answer).strip()))}
    bare = unquote(given.removesuffix("."))
    forms = (given, unquote(given), *([bare] if bare + "." != given else []))
    if any(form in accepted for quoted in forms for form in (quoted, _unstopped(quoted))):
        return "ok"
    if is_echo(instruction, text, free_text=False):
        return "echo"
    if is_repeated(text):
        return "repeated"
    return "degenerate" if is_degenerate(folded_words(text)) else "not_exact"


def _unstopped(text: str) -> str:
    """The text without the full stop after its last word."""
    return text[:-1] if text.endswith(".") and text[-2:-1].isalnum() else text


@scorer("checks", "checks", needs_gold=False, as_written=True, knows_nothing=True, free_text=_is_free_text)
def _checks(instruction: str, args: Mapping[str, Any], _: Sequence[str], text: str) -> str:
    """The first check that does not hold."""
    checks = args.get("checks")
    if not checks:
        raise DataError("scorer 'checks' needs a list of checks in args")
    failing = (entry["check"] for entry in checks if not holds(entry["check"], instruction, text, entry))
    return plain(next(failing, "ok"))
