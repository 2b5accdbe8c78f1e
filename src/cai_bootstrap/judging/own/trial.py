"""Own scorers are tried before a model is asked: on outputs that must pass, that must not, and that are merely odd.

A scorer that lets a refusal pass, or raises at an emoji, costs a run: so `cai suite verify` looks first, and a run
itself looks whether it raises.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cai_bootstrap.errors import UsageError
from cai_bootstrap.judging.own import Declaration
from cai_bootstrap.judging.own.entering import declared, own_scorers_of
from cai_bootstrap.judging.own.names import plain
from cai_bootstrap.judging.own.process import OwnScorerError, asked_anew
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.judging.scorers.text import folded_words
from cai_bootstrap.records import EvalItem

Kind = Literal["accepted", "empty", "echo", "other", "long", "refusal", "odd"]
WORDS: dict[Kind, str] = {
    "accepted": "its own accepted answer",
    "empty": "an empty output",
    "echo": "the instruction again",
    "other": "another item's answer",
    "long": "a very long output",
    "refusal": "a refusal",
    "odd": "an odd output",
}
MOST_OTHERS = 20  # answers of other items, for each item
_LONG, _REPEATED = 1000, 100  # words; accepted answers in a row
_QUICK = ("accepted", "refusal", "long", "odd")  # what a run looks at before it begins
_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I am not able to do this.",
)
_ODD = ("\x00", "🙂", "…", "e\u0301\u0301", "\u202eabc", '{"a": [1, null]}', "a", "1\n\n\n2\t3", "٣ × ½")


@dataclass(frozen=True)
class Tried:
    """How often own scorers were asked, and what is wrong: a sentence for each fault."""

    accepted: int
    adversarial: int
    faults: list[str]


@dataclass(frozen=True)
class _Case:
    item: EvalItem
    kind: Kind
    output: str


def try_own_scorers(items: Sequence[EvalItem]) -> Tried:
    """Try the items that own functions judge on their accepted answers, and on outputs that follow no instruction.

    An accepted answer must pass. An empty output, the instruction again, answers of items with another rule, a very
    long output and a refusal must fail, but for those that the function's `may_pass` names. No output may raise, and
    every verdict must be the same when it is asked for again, in another order and another process.
    """
    cases = [case for item in items if own_scorers_of(item) for case in _cases(item, items)]
    faults = [fault for item in items if own_scorers_of(item) and not item.gold for fault in (_untried(item),)]
    verdicts: dict[int, str] = {}
    raised: set[tuple[str, Kind]] = set()
    for number, case in enumerate(cases):
        try:
            verdicts[number] = _reason(case)
        except OwnScorerError as error:
            if (case.item.id, case.kind) not in raised:
                faults.append(f"{case.item.id}: {error}")
            raised.add((case.item.id, case.kind))
            continue
        faults += _faults(case, verdicts[number])
    faults += _unsteady(cases, verdicts)
    accepted = sum(case.kind == "accepted" for case in cases)
    adversarial = sum(case.kind not in ("accepted", "odd") for case in cases)
    return Tried(accepted, adversarial, faults)


def must_answer(items: Sequence[EvalItem]) -> None:
    """Raises UsageError, before a model is asked, for an own scorer that raises or fails an item's accepted answer."""
    for item in items:
        for case in _cases(item, items) if own_scorers_of(item) else ():
            if case.kind not in _QUICK:
                continue
            reason = _reason(case)
            if case.kind == "accepted" and reason != "ok":
                raise UsageError(f"{_wrong(case, 'fails', reason)}; see `cai suite verify`")


def _cases(item: EvalItem, items: Sequence[EvalItem]) -> Iterator[_Case]:
    yield from (_Case(item, "accepted", gold) for gold in item.gold)
    outputs: dict[Kind, list[str]] = {
        "empty": ["", "  \n"],
        "echo": [item.instruction, f"You asked: {item.instruction}"],
        "other": list(itertools.islice(_others(item, items), MOST_OTHERS)),
        "long": [" ".join(f"word{n}" for n in range(_LONG)), *(f"{gold}\n" * _REPEATED for gold in item.gold[:1])],
        "refusal": list(_REFUSALS),
        "odd": list(_ODD),
    }
    yield from (_Case(item, kind, output) for kind, texts in outputs.items() for output in texts)


def _others(item: EvalItem, items: Sequence[EvalItem]) -> Iterator[str]:
    """Accepted answers of items whose rule is another one, and that are none of this item's."""
    own = {tuple(folded_words(gold)) for gold in item.gold}
    for other in items:
        if _rule(other) != _rule(item):
            yield from (gold for gold in other.gold if tuple(folded_words(gold)) not in own)


def _rule(item: EvalItem) -> tuple[object, ...]:
    takes_gold = any(declaration.takes_gold for declaration in _declarations(item))
    return (item.scorer, item.args, item.gold if takes_gold or not own_scorers_of(item) else None)


def _declarations(item: EvalItem) -> list[Declaration]:
    return [declaration for name in own_scorers_of(item) if (declaration := declared(name)) is not None]


def _reason(case: _Case) -> str:
    item = case.item
    return check(item.instruction, item.scorer, item.args, item.gold, case.output).reason


def _faults(case: _Case, reason: str) -> Iterator[str]:
    if case.kind == "accepted" and reason != "ok":
        yield _wrong(case, "fails", reason)
    elif case.kind not in ("accepted", "odd") and reason == "ok" and not _may_pass(case):
        yield _wrong(case, "passes", None)


def _may_pass(case: _Case) -> bool:
    return any(case.kind in declaration.may_pass for declaration in _declarations(case.item))


def _wrong(case: _Case, does: str, reason: str | None) -> str:
    scorers = ", ".join(sorted({plain(name) for name in own_scorers_of(case.item)}))
    why = f" ({reason})" if reason is not None else ""
    return f"{case.item.id}: {scorers} wrongly {does} {WORDS[case.kind]}, {_short(case.output)}{why}"


def _untried(item: EvalItem) -> str:
    return (
        f"{item.id}: no accepted answer in 'gold', so nothing shows that any output passes "
        f"{plain(own_scorers_of(item)[0])}; give one at least, it need not be the only one"
    )


def _unsteady(cases: Sequence[_Case], verdicts: dict[int, str]) -> list[str]:
    """Items whose verdict depends on chance, on the order of the outputs, or on what was judged before."""
    faults: dict[str, str] = {}
    with asked_anew():
        for number in reversed(list(verdicts)):
            case = cases[number]
            try:
                again = _reason(case)
            except OwnScorerError as error:
                again = str(error)
            if again != verdicts[number]:
                faults[case.item.id] = (
                    f"{case.item.id}: another verdict when asked again ({verdicts[number]}, then {again}) on "
                    f"{_short(case.output)}; a verdict must follow from instruction, output and arguments alone"
                )
    return list(faults.values())


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
