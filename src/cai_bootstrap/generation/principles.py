"""What a constitution promises is checked before anything is made with it: do its checks fit what it shows?

`load_constitution` reads the file; here its parts are held against each other. Notes and warnings say what is allowed
and costs something: a principle that is written and not shown, a principle that shows no answer without fault.
"""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from cai_bootstrap.constitution import Constitution, Principle, load_constitution
from cai_bootstrap.errors import UsageError
from cai_bootstrap.judging.rules import Rule, checks_of, clash, phrases, rule_holds

ALONE = "on models of this size a text alone changed nothing"
RECOMMENDED = 6
WORKED_PAIRS = 8  # of a principle's matched prompts, these are shown; the others train and measure
# Questions and answers of many forms. A rule that all of these keep, or none, tells no answer from another.
_QUESTIONS = ("What is a kite?", "How do I clean a pan?", "Tell me about the sea.")
_ANSWERS = (
    "Red", "red.", "No.", "Yes, it is.", "Blue, green and grey", "A kite is a toy.", "I do not know.",
    "Wash it with warm water and soap.", "I may be wrong, but it is made of wood.", "the sea is wide",
    "The Sea Is Wide", "Thanks for asking! It is a kind of boat.", "Would you like to know more?",
    "It is big! What do you think?",
    "According to my book, it is old.", "Please be careful, it is hot.", "THE SEA IS WIDE.", "You are a fool. Go away.",
    "First wash it. Then dry it. At last put it away.",
    "The sea is a wide body of salt water. It covers most of the earth, and many fish, plants and whales live in it. "
    "People cross it in ships, and they swim in it in summer, when the water is warm and the wind is low.",
)  # fmt: skip
_LONGEST = 80  # words; a longer answer is none that a small model is asked for


def load_checked(path: Path) -> Constitution:
    """`load_constitution`, and what it shows held against its checks.

    Each `check` must pass every `better` and fail every flawed `answer` of its principle's demonstrations (a flawless
    one of a conditional principle may show where it does not apply, and is left out); without demonstrations it must
    tell some plausible answer from another, and so must each `judge`. No two rules that may meet in one answer exclude
    each other. Raises UsageError (exit 2) naming the principle and the demonstration.
    """
    constitution = load_constitution(path)
    for principle in constitution.principles:
        for fault in _faults(principle):
            raise UsageError(f"{path}: principle '{principle.id}': {fault}")
    for one, other in combinations(constitution.principles, 2):
        if one.check is None or other.check is None or not _may_meet(one, other):
            continue
        if (reason := clash(one.check, other.check)) is not None:
            raise UsageError(
                f"{path}: the checks of '{one.id}' and '{other.id}' cannot hold together: {reason}; change one, or "
                "give the two 'applies_to' with no kind in common"
            )
    return constitution


def written_alone(constitution: Constitution) -> list[str]:
    """The ids of the principles that are written and not shown."""
    return [p.id for p in constitution.principles if not p.demonstrations]


def alone_warning(constitution: Constitution) -> str | None:
    """The one warning about all principles without demonstrations; None where each has some."""
    ids = written_alone(constitution)
    if not ids:
        return None
    return (
        f"WARNING: {ALONE}, and these principles have no demonstrations of their own: {', '.join(ids)}; "
        "`cai constitution draft` proposes some, docs/constitution.md shows how to write them"
    )


def notes(constitution: Constitution) -> list[str]:
    """What is allowed, and would be better otherwise: one sentence each, with the ids of its principles first."""
    ids: dict[str, list[str]] = {}
    for principle in constitution.principles:
        for note in _notes(principle):
            ids.setdefault(note, []).append(principle.id)
    return [f"{', '.join(named)}: {note}" for note, named in ids.items()]


def _faults(principle: Principle) -> Iterator[str]:
    check, judge = principle.check, principle.judge
    if check is not None:
        yield from _demonstration_faults(principle, check)
        if not principle.demonstrations and (fault := _blind(check)):
            yield f"the check {fault}"
    if judge is not None and (fault := _blind(judge, principle)):
        yield f"the judge {fault}"
    if check is not None and judge == check:
        yield "its judge is its check once more, so nothing is judged apart; write another, or leave it out"
    elif check is not None and judge is not None and (reason := clash(check, judge)):
        yield f"its check and its judge cannot hold together: {reason}"


def _demonstration_faults(principle: Principle, check: Rule) -> Iterator[str]:
    for number, case in enumerate(principle.demonstrations):
        if case.flawless and principle.matched is not None:
            continue  # it may show where a conditional principle does not apply: there its check has nothing to find
        where = f"demonstrations[{number}] ({case.instruction!r})"
        if not rule_holds(check, case.instruction, case.better):
            own = next((p for p in phrases(check) if p.casefold() in case.instruction.casefold()), None)
            hint = f" ({own!r} stands in the instruction, whose words do not count)" if own else ""
            yield f"the check fails the better answer of {where}, {case.better!r}{hint}; mend the check or the answer"
        elif not case.flawless and rule_holds(check, case.instruction, case.answer):
            yield (
                f"the check passes the flawed answer of {where}, {case.answer!r}; mend the check, or make 'better' the "
                "same as 'answer' where nothing is wrong"
            )


def _blind(rule: Rule, principle: Principle | None = None) -> str | None:
    """Why a rule tells no answer from another: all of many plausible answers keep it, or none."""
    own = [made for phrase in phrases(rule) for made in (phrase, f"{phrase}, it is.", f"It is so, {phrase}.")]
    own += [made for check in checks_of(rule) for made in _in_its_form(check)]
    shown = [] if principle is None else principle.demonstrations
    cases = [(d.instruction, text) for d in shown for text in (d.answer, d.better)]
    cases += [(question, answer) for question in _QUESTIONS for answer in (*_ANSWERS, *own, question)]
    verdicts: set[bool] = set()
    for question, answer in cases:
        verdicts.add(rule_holds(rule, question, answer))
        if len(verdicts) == 2:  # at once: a rule of 700 phrases takes 2 ms an answer, and there are thousands
            return None
    every = "passes every" if verdicts == {True} else "fails every"
    return f"{every} one of {len(cases)} plausible answers, so it tells none from another; make it stricter or milder"


def _in_its_form(check: Rule) -> Iterator[str]:
    """Answers of the length or form that a check counts: as many words, sentences, lines or items as it names."""
    for count in {number for name in ("min", "max", "items") if isinstance(number := check.get(name), int)}:
        words = [f"word{n}" for n in range(1, min(count, _LONGEST) + 1)]
        yield " ".join(words)
        yield " ".join(f"This is {word}." for word in words)
        for form in ("{}", "{}.", "- {}"):
            yield "\n".join(form.format(word) for word in words)
        yield "\n".join(f"{n}. {word}" for n, word in enumerate(words, 1))
        yield ", ".join(words)
    if check["check"] == "json":
        yield json.dumps({key: (check.get("values") or {}).get(key, "red") for key in check["keys"]})


def _may_meet(one: Principle, other: Principle) -> bool:
    """Whether both principles may apply to one prompt."""
    return not one.applies_to or not other.applies_to or bool(set(one.applies_to) & set(other.applies_to))


def _notes(principle: Principle) -> Iterator[str]:
    shown = principle.demonstrations
    if shown:
        flawless = sum(d.flawless for d in shown)
        if not flawless:
            yield "no demonstration is without fault; one or two keep the model from changing what is right"
        if len(shown) < RECOMMENDED:
            yield f"{len(shown)} demonstrations; {RECOMMENDED} or more, each worded differently, are better"
        if len({(d.instruction, d.answer, d.better) for d in shown}) < len(shown):
            yield "a demonstration stands twice"
        if len({d.critique for d in shown if not d.flawless}) == 1 and len(shown) - flawless > 1:
            yield "every flawed answer has the same critique; a model copies it word for word"
        drafted = sum(d.by == "model" for d in shown)
        if drafted:
            yield f"{drafted} of {len(shown)} demonstrations are by a model; read them, and change 'by' to person"
    if principle.check is not None and principle.judge is None:
        yield "without a 'judge', the check that chooses pairs decides measurements too; one by another author should"
    if principle.matched is not None and len(principle.matched.applies) <= WORKED_PAIRS:
        pairs = len(principle.matched.applies)
        yield f"{pairs} matched pairs; the first {WORKED_PAIRS} are worked cases, so none trains or measures"
