"""What scorers and checks there are, and what each of them takes. One decorated function is a scorer or a check.

`@check("list", items=AT_LEAST_ONE, separator=one_of("comma", "newline"))` stands over a function of the instruction,
the output and the arguments, which says whether the check holds. `@scorer("answer", "closed_set", "rivals")` stands
over a function of the same and the accepted answers, which gives a reason: `ok`, or a failure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from cai_bootstrap.errors import UsageError
from cai_bootstrap.judging.own.names import FORM, own_name, plain
from cai_bootstrap.judging.scorers.text import composed
from cai_bootstrap.records import EvalItem, Instruction

Arguments = Mapping[str, Any]
Tier = Literal["constraint", "gold", "none"]
Holds = Callable[[str, str, Arguments], bool]
Judges = Callable[[str, Arguments, Sequence[str], str], str]


@dataclass(frozen=True)
class Need:
    """What an argument must be: `is_met` tells, `words` say it in an error."""

    is_met: Callable[[Any], bool]
    words: str


@dataclass(frozen=True)
class Check:
    """A check by name. `needs` are its arguments; `options` may be left out.

    `counted`: it takes `min` and `max`, one at least. `once`: no output passes two that differ. `picks`: the output is
    picked from the instruction's own words, so that it is no echo. `as_written`: it sees the output before Unicode
    composition. `fault` says what else is wrong with arguments that meet their needs.
    """

    name: str
    holds: Holds
    needs: Mapping[str, Need]
    options: tuple[str, ...] = ()
    counted: bool = False
    once: bool = False
    picks: bool = False
    as_written: bool = False
    fault: Callable[[Arguments], str | None] = lambda _: None


@dataclass(frozen=True)
class Scorer:
    """A scorer by name. `arguments` are those that it may have; `needs_gold`: it compares with accepted answers.

    `to_the_letter`: it sees outputs without any word, and decides itself what is an echo. `as_written`: it sees the
    output before Unicode composition. `knows_nothing`: the instruction alone decides what passes. `free_text(args)`:
    the output is no pick from the instruction's own words. `needs` are the arguments that it cannot do without.
    """

    name: str
    reason: Judges
    arguments: tuple[str, ...]
    needs_gold: bool = True
    to_the_letter: bool = False
    as_written: bool = False
    knows_nothing: bool = False
    free_text: Callable[[Arguments], bool] = lambda _: False
    needs: tuple[str, ...] = ()


CHECKS: dict[str, Check] = {}
SCORERS: dict[str, Scorer] = {}


def check(
    name: str,
    /,
    *,
    options: Sequence[str] = (),
    counted: bool = False,
    once: bool = False,
    picks: bool = False,
    as_written: bool = False,
    fault: Callable[[Arguments], str | None] = lambda _: None,
    **needs: Need,
) -> Callable[[Holds], Holds]:
    """Enter a function as the check `name`; the further keywords are its arguments (`Check` says the rest)."""

    def enter(holds: Holds) -> Holds:
        bounds = ("min", "max") if counted else ()
        CHECKS[name] = Check(name, holds, needs, (*bounds, *options), counted, once, picks, as_written, fault)
        return holds

    return enter


def scorer(name: str, /, *arguments: str, **options: Any) -> Callable[[Judges], Judges]:
    """Enter a function as the scorer `name` with its arguments; `options` are those of `Scorer`.

    Every scorer takes `in_context`, which says that the instruction tells the answer.
    """

    def enter(reason: Judges) -> Judges:
        SCORERS[name] = Scorer(name, reason, (*arguments, "in_context"), **options)
        return reason

    return enter


def find_check(name: object) -> Check | None:
    """The check of that name; None if there is none. One of the user's own is entered if its source is trusted here.

    Raises UsageError for one whose source is not.
    """
    if not isinstance(name, str):
        return None
    rule = CHECKS.get(name)
    return CHECKS.get(name) if rule is None and _enters(name) else rule


def find_scorer(name: str) -> Scorer | None:
    """The scorer of that name, as `find_check` finds a check."""
    rule = SCORERS.get(name)
    return SCORERS.get(name) if rule is None and _enters(name) else rule


def unknown(kind: str, name: object, names: Iterable[str]) -> str:
    """What is said of a scorer or check that does not exist."""
    shipped = ", ".join(known for known in names if own_name(known) is None)
    return f"unknown {kind} {name!r}; one of {shipped}, or one of your own, {FORM}"


def _enters(name: str) -> bool:
    """Whether an own function is entered now. The room is imported here alone: it builds on this module."""
    from cai_bootstrap.judging.own.entering import enter_pinned
    from cai_bootstrap.judging.own.sources import trusted_hashes

    own = own_name(name)
    if own is None or own.sha256 is None:
        return False
    if enter_pinned(name):
        return True
    whose = f"{plain(name)} is code of somebody's own (source {own.sha256[:12]}…)"
    if own.sha256 in trusted_hashes():
        raise UsageError(
            f"{whose} which is trusted by its hash, but its source is not here; name the file that {own.path} lies "
            f"beside (--constitution FILE or --suite FILE), or keep a copy of it: cai trust {own.path}"
        )
    raise UsageError(
        f"{whose} which is not trusted on this machine, and nothing of it was run; if you have {own.path} and trust "
        f"it: cai trust {own.path}"
    )


def unknown_argument(args: Arguments, names: Iterable[str], whose: str) -> str | None:
    """What is wrong where an argument is one that nothing reads: it would silently do nothing. None if all are read."""
    names = tuple(names)
    for key in args:
        if key not in names:
            near = get_close_matches(key, names, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            takes = f"it takes {', '.join(names)}" if names else "it takes none"
            return f"unknown argument {key!r} of {whose}: {takes}{meant}"
    return None


def check_fault(check: Arguments) -> str | None:
    """What keeps one check with its arguments (`{"check": "words", "max": 4}`) from being used, or None."""
    name = check.get("check")
    rule = find_check(name)
    if rule is None:
        return unknown("check", name, CHECKS)
    name = plain(rule.name)
    arguments = {key: value for key, value in check.items() if key != "check"}
    if fault := unknown_argument(arguments, (*rule.needs, *rule.options), f"check {name!r}"):
        return fault
    for key, need in rule.needs.items():
        if not need.is_met(check.get(key)):
            return f"check {name!r} needs {key!r}, {need.words}"
    fault = rule.fault(arguments)
    return None if fault is None else f"check {name!r}{fault if fault.startswith(':') else f' {fault}'}"


def label_tier(record: Instruction | EvalItem) -> Tier:
    """`constraint`: decidable from the instruction alone; `gold`: needs a known answer; `none`: no rule exists."""
    if record.scorer is None:
        return "none"
    rule = find_scorer(record.scorer)
    decided = rule is not None and (rule.knows_nothing or record.args.get("in_context") is True)
    return "constraint" if decided else "gold"


def is_count(value: Any) -> bool:
    """Whether a value is a whole number, 0 or more; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def are_texts(value: Any) -> bool:
    """Whether a value is a list of texts that are not empty, one at least."""
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_keys(value: Any) -> bool:
    return are_texts(value) and len({composed(key) for key in value}) == len(value)


def one_of(*values: str) -> Need:
    """One of these texts."""
    return Need(lambda value: value in values, f"one of {', '.join(values)}")


WORDS = Need(are_texts, "a list of words")
WORD = Need(_is_text, "a word")
TEXT = Need(_is_text, "a text")
KEYS = Need(_are_keys, "a list of keys, each once")
AT_LEAST_ONE = Need(lambda value: is_count(value) and value >= 1, "a number, at least 1")
