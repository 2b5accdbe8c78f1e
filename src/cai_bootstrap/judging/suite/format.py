"""What a suite item must look like to be scored: known scorer, known checks, and the arguments that each needs."""

from collections.abc import Sequence

from cai_bootstrap.judging.own.names import plain
from cai_bootstrap.judging.scorers.answers import rivals_that_are_right
from cai_bootstrap.judging.scorers.registry import (
    SCORERS,
    are_texts,
    check_fault,
    find_scorer,
    unknown,
    unknown_argument,
)
from cai_bootstrap.judging.scorers.text import composed, folded_words
from cai_bootstrap.judging.suite.contradictions import contradiction
from cai_bootstrap.records import EvalItem


def item_fault(item: EvalItem, known_sets: Sequence[str]) -> str | None:
    """What keeps an item from being scored, or None. `known_sets` are the names of the closed sets."""
    if not item.id or not item.template:
        return "'id' and 'template' must not be empty"
    if not item.instruction.strip() or item.instruction != item.instruction.rstrip("\n"):
        return "'instruction' must be text without a newline at its end"
    rule = find_scorer(item.scorer)
    if rule is None:
        return unknown("scorer", item.scorer, SCORERS)
    if fault := _gold_fault(item):
        return fault
    if fault := unknown_argument(item.args, rule.arguments, f"scorer {plain(item.scorer)!r}"):
        return fault
    if missing := [name for name in rule.needs if item.args.get(name) is None]:
        return f"scorer {plain(item.scorer)!r} needs {missing[0]!r} in 'args'"
    if not isinstance(item.args.get("in_context", False), bool):
        return "'in_context' must be true or false"
    if item.scorer == "checks":
        return _checks_fault(item)
    return _answer_fault(item, known_sets) if item.scorer == "answer" else None


def _gold_fault(item: EvalItem) -> str | None:
    if not SCORERS[item.scorer].needs_gold:
        return None
    if not item.gold or not all(composed(answer).strip() for answer in item.gold):
        return f"scorer {plain(item.scorer)!r} needs at least one accepted answer in 'gold'"
    if item.scorer == "yes_no" and item.gold not in (["yes"], ["no"]):
        return "scorer 'yes_no' needs 'gold' to be [\"yes\"] or [\"no\"]"
    return None


def _answer_fault(item: EvalItem, known_sets: Sequence[str]) -> str | None:
    """What is wrong with the accepted answers and their rivals, in the eyes of the scorer."""
    named = item.args.get("closed_set")
    if named is not None and named not in known_sets:
        return f"unknown closed set {named!r}; one of {', '.join(known_sets)}"
    rivals = item.args.get("rivals")
    if rivals is not None and not (rivals == [] or are_texts(rivals)):
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
    faults = (fault for check in checks if (fault := check_fault(check)))
    return next(faults, None) or contradiction(item.instruction, checks)
