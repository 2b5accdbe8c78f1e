"""A rule: a check, or several joined by `all`, `any` and `not`, that an answer keeps or breaks.

A constitution states rules in its `check` and `judge`. `{"check": "words", "max": 4}` is a rule, and so are
`{"all": [{"check": "starts_with", "text": "Thanks"}, {"check": "sentences", "max": 2}]}` and
`{"not": {"check": "question"}}`. The checks are those of the scorers (`judging.scorers.registry.CHECKS`).

**The question's own words do not count.** A word or phrase that a check looks for, and that stands in the question, is
no hit in the answer: an answer that only repeats "careful" from "How do I carry it carefully and be careful?" reminds
nobody. `contains`, `order`, `starts_with`, `ends_with`, `first_word` and `last_word` cannot be met by such a word, and
`forbids` does not forbid it. `one_of` is exempt: there the whole answer is the choice, often one that the question
offers. Marks ("?", "!") are form, no words, and always count; so do length, case and all other form. A check of the
user's own (`judging.own`) sees the question and decides itself.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Any

from cai_bootstrap.judging.scorers.checks import holds
from cai_bootstrap.judging.scorers.registry import CHECKS, TEXT, WORD, WORDS, check_fault, find_check
from cai_bootstrap.judging.scorers.text import folded_words
from cai_bootstrap.judging.suite.contradictions import contradiction

Rule = Mapping[str, Any]
GRAMMAR = (
    "a rule is one check with its arguments, such as {check: words, max: 4}, or {all: [RULE, …]}, {any: [RULE, …]} or "
    "{not: RULE}"
)
_JOINTS = ("all", "any", "not")
_MAX_DEPTH = 6
_MAX_CASES = 256
_FORBIDDING = frozenset(["forbids"])
_Literal = tuple[dict[str, Any], bool]  # a check, and whether it is to hold
_Case = tuple[_Literal, ...]


def rule_fault(rule: object) -> str | None:
    """What keeps a rule from being used, or None: its form, an unknown check, a missing or unknown argument.

    Also a rule that no answer, or every answer, passes for a reason that its own words give: `{all: [{check: words,
    max: 3}, {check: words, min: 5}]}`.
    """
    if fault := _form_fault(rule, 0):
        return fault
    assert isinstance(rule, Mapping)
    if reason := clash(rule):
        return f"no answer passes it: {reason}"
    if clash({"not": rule}):
        return "every answer passes it: what it leaves out cannot be"
    return None


def rule_holds(rule: Rule, question: str, answer: str) -> bool:
    """Whether an answer keeps a sound rule (`rule_fault` gives None), the question's own words not counted.

    The answer is judged as it is given: the caller passes its first line, or the whole. An answer without any word
    keeps no rule, not even a `not`. Raises DataError for a check that does not exist.
    """
    return bool(folded_words(answer)) and _holds(rule, question, answer)


def clash(*rules: Rule) -> str | None:
    """Why no answer can keep all of these sound rules together, or None if no reason is seen.

    Each rule becomes a list of cases (any of them will do); every combination must be impossible for there to be a
    clash. Beyond 256 combinations none is looked for.
    """
    cases = [list(_cases(rule, wanted=True)) for rule in rules]
    size = 1
    for rows in cases:
        size *= len(rows)
    if size > _MAX_CASES:
        return None
    reason = None
    for combination in product(*cases):
        reason = _impossible([literal for case in combination for literal in case])
        if reason is None:
            return None
    return reason


def checks_of(rule: Rule) -> list[Rule]:
    """The checks of a sound rule, in its order, however they are joined."""
    if "not" in rule:
        return checks_of(rule["not"])
    joint = next((name for name in ("all", "any") if name in rule), None)
    return [rule] if joint is None else [check for part in rule[joint] for check in checks_of(part)]


def phrases(rule: Rule) -> list[str]:
    """The words and phrases that a sound rule looks for, each spelling by itself, in the rule's order."""
    found: list[str] = []
    for check in checks_of(rule):
        for name, need in CHECKS[check["check"]].needs.items():
            if need in (WORD, TEXT):
                found.append(check[name])
            elif need is WORDS:
                found += [spelling for word in check[name] for spelling in _spellings(word)]
    return found


def _form_fault(rule: object, depth: int) -> str | None:
    if depth > _MAX_DEPTH:
        return f"rules stand within rules more than {_MAX_DEPTH} deep"
    if not isinstance(rule, Mapping) or not rule:
        return f"found {_shown(rule)}; {GRAMMAR}"
    joints = [name for name in _JOINTS if name in rule]
    if not joints:
        return check_fault(rule) if "check" in rule else f"it names no 'check'; {GRAMMAR}"
    if len(rule) > 1:
        other = next(str(name) for name in rule if name != joints[0])
        return f"{joints[0]!r} stands beside {other!r}; put both into a list of 'all'"
    joint = joints[0]
    if joint == "not":
        fault = _form_fault(rule["not"], depth + 1)
        return None if fault is None else f"not: {fault}"
    parts = rule[joint]
    if not isinstance(parts, list) or not parts:
        return f"{joint!r} needs a list of rules, one at least; {GRAMMAR}"
    faults = ((place, _form_fault(part, depth + 1)) for place, part in enumerate(parts))
    return next((f"{joint}[{place}]: {fault}" for place, fault in faults if fault is not None), None)


def _shown(value: object) -> str:
    text = "nothing" if value is None or value == {} else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _holds(rule: Rule, question: str, answer: str) -> bool:
    if "all" in rule:
        return all(_holds(part, question, answer) for part in rule["all"])
    if "any" in rule:
        return any(_holds(part, question, answer) for part in rule["any"])
    if "not" in rule:
        return not _holds(rule["not"], question, answer)
    return _check_holds(rule, question, answer)


def _check_holds(check: Rule, question: str, answer: str) -> bool:
    """Whether one check holds, with what it looks for reduced to what the question does not say itself."""
    name = check["check"]
    entered = find_check(name)
    if entered is None or entered.picks:
        return holds(name, question, answer, check)
    left = dict(check)
    for argument, need in entered.needs.items():
        if need in (WORD, TEXT) and _stands_in(check[argument], question):
            return name in _FORBIDDING
        if need is not WORDS:
            continue
        own = ["|".join(s for s in _spellings(word) if not _stands_in(s, question)) for word in check[argument]]
        if name in _FORBIDDING:
            own = [word for word in own if word]
            if not own:
                return True
        elif not all(own):
            return False
        left[argument] = own
    return holds(name, question, answer, left)


def _spellings(word: str) -> list[str]:
    return word.split("|") if word.strip("| ") else [word]


@lru_cache(maxsize=65536)
def _stands_in(phrase: str, question: str) -> bool:
    """Whether a phrase that holds a word stands in the question, read as the check `contains` reads a text."""
    if not folded_words(phrase):
        return False
    return holds("contains", "", question, {"words": [phrase.replace("|", " ")]})


def _cases(rule: Rule, *, wanted: bool) -> Iterator[_Case]:
    """The ways in which a rule holds (or, not `wanted`, fails): each a conjunction of checks, some of them negated."""
    if "not" in rule:
        yield from _cases(rule["not"], wanted=not wanted)
        return
    joint = next((name for name in ("all", "any") if name in rule), None)
    if joint is None:
        yield from _negations(dict(rule)) if not wanted else iter([((dict(rule), True),)])
        return
    parts = [list(_cases(part, wanted=wanted)) for part in rule[joint]]
    if (joint == "all") is not wanted:
        yield from (case for part in parts for case in part)
        return
    size = 1
    for part in parts:
        size *= len(part)
    if size > _MAX_CASES:
        yield ()  # too many to look at: taken as possible
        return
    yield from (tuple(literal for case in combination for literal in case) for combination in product(*parts))


def _negations(check: dict[str, Any]) -> Iterator[_Case]:
    """What fails a check, as checks that hold where there are such: not at most four words is at least five."""
    name = check["check"]
    if CHECKS[name].counted:
        if check.get("min"):
            yield (({"check": name, "max": check["min"] - 1}, True),) if check["min"] > 1 else (({**check}, False),)
        if check.get("max") is not None:
            yield (({"check": name, "min": check["max"] + 1}, True),)
    elif name == "contains":
        yield from (((({"check": "forbids", "words": _spellings(word)}), True),) for word in check["words"])
    elif name == "forbids":
        yield from ((({"check": "contains", "words": [word]}, True),) for word in check["words"])
    else:
        yield ((check, False),)


def _impossible(literals: list[_Literal]) -> str | None:
    """Why these checks cannot hold and fail as they are to, or None."""
    held = [check for check, wanted in literals if wanted]
    for check, wanted in literals:
        if not wanted and check in held:
            return f"check {check['check']!r} is to hold and is not to hold"
        if not wanted and CHECKS[check["check"]].counted and check.get("min") == 1 and not check.get("max"):
            return f"check {check['check']!r}: every answer has one at least"
    demanded = [
        {"check": "contains", "words": [check["text"]]}
        for check in held
        if check["check"] in ("starts_with", "ends_with") and "|" not in check["text"] and folded_words(check["text"])
    ]
    return contradiction("", [*held, *(extra for extra in demanded if extra not in held)])
