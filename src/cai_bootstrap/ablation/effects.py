"""What steers, the text of a principle or its demonstrations: computed from the cells in which both are varied.

The cells are paired: the same first answers are revised in each. A factor is found at a level of the other one if its
own value beats *every* alternative there, by `MATTERS` or more, and by the exact test that swaps whole wordings, at 5%
shared out over that factor's levels. What was not found is told with the effect that would have been.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cai_bootstrap.judging import statistics
from cai_bootstrap.measuring.figures import Interval

Text = Literal["own", "other", "negated", "none"]
Shown = Literal["own", "another's", "neutral"]
Factor = Literal["text", "demonstrations"]
SteeredBy = Literal["demonstrations", "text", "both", "neither"]
TEXTS: tuple[Text, ...] = ("own", "other", "negated", "none")
SHOWN: tuple[Shown, ...] = ("own", "another's", "neutral")
MATTERS = 0.05  # a share: a smaller effect may be real, but steers nothing
LEVEL = 0.05
POWER = 0.8
STUDIES = 200  # simulated for each size of an effect
Verdicts = Mapping[str, bool]
Cells = Mapping[tuple[Text, Shown], Verdicts]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Effect(_Part):
    """What a factor's own value adds at one level of the other factor, over the alternative that it beats by least.

    `{"factor": "text", "given": "neutral", "against": "none", "own": 0.0, "rival": 0.0, "difference": 0.0, …}`;
    `interval` is the 95% one of the difference, from resampling whole wordings (where all wordings differ alike, and
    so show no variance, Wilson's of as many trials as there are wordings); `p` the largest over the alternatives.
    """

    factor: Factor
    given: str
    against: str
    own: float
    rival: float
    difference: float
    interval: Interval
    p: float
    found: bool


class Control(_Part):
    """The positive control: own text and own demonstrations must beat no text and neutral ones, or nothing is seen."""

    rate: float
    wilson: Interval
    nothing_given: float
    difference: float
    passed: bool


class Sensitivity(_Part):
    """The smallest effect (a share) that four of five such studies would have found; None: not even the largest.

    `independent` if each question answers for itself, `by_wording` if all questions of a wording go together.
    """

    factor: Factor
    independent: float | None
    by_wording: float | None


class Steering(_Part):
    """What steers, over all principles together: the answer, its sentence, and the figures that they rest on."""

    steered_by: SteeredBy
    sentence: str
    revisions: int
    wordings: int
    control: Control
    effects: list[Effect]
    sensitivity: list[Sensitivity]


def steering_of(cells: Cells, wordings: Mapping[str, str], *, seed: int = 0) -> Steering:
    """Judge the twelve cells. `wordings` maps each id of a verdict to the wording of its question.

    Raises ValueError if the cells do not hold the same ids, or one is missing.
    """
    ids = list(cells["own", "own"])
    for place in ((text, shown) for text in TEXTS for shown in SHOWN):
        if list(cells[place]) != ids:
            raise ValueError(f"{place[0]} text and {place[1]} demonstrations: not the questions of the other cells")
    effects = [effect for factor in ("text", "demonstrations") for effect in effects_of(factor, cells, wordings)]
    control = _control(cells, wordings)
    groups = [wordings[id] for id in ids]
    floor = [cells["none", "neutral"][id] for id in ids]
    sensitivity = [
        Sensitivity(
            factor=factor,
            independent=smallest_effect(floor, groups, ids, levels=levels, seed=seed),
            by_wording=smallest_effect(floor, groups, groups, levels=levels, seed=seed),
        )
        for factor, levels in _LEVELS
    ]
    answer = steered_by(effects)
    return Steering(
        steered_by=answer,
        sentence=_sentence(answer, effects, control, sensitivity, len(ids)),
        revisions=len(ids),
        wordings=len(set(groups)),
        control=control,
        effects=effects,
        sensitivity=sensitivity,
    )


_LEVELS: tuple[tuple[Factor, int], ...] = (("text", len(SHOWN)), ("demonstrations", len(TEXTS)))


def effects_of(factor: Factor, cells: Cells, wordings: Mapping[str, str]) -> list[Effect]:
    """The effect of one factor at each level of the other, in the order of `SHOWN` or `TEXTS`."""
    if factor == "text":
        return [
            _effect(factor, given, cells["own", given], {text: cells[text, given] for text in TEXTS[1:]}, wordings)
            for given in SHOWN
        ]
    return [
        _effect(factor, given, cells[given, "own"], {shown: cells[given, shown] for shown in SHOWN[1:]}, wordings)
        for given in TEXTS
    ]


def _effect(
    factor: Factor, given: str, own: Verdicts, rivals: Mapping[str, Verdicts], wordings: Mapping[str, str]
) -> Effect:
    groups = [wordings[id] for id in own]
    best = max(rivals, key=lambda name: sum(rivals[name].values()))
    lift = statistics.paired_lift(list(rivals[best].values()), list(own.values()), groups)
    p = max(statistics.template_flip_test(list(v.values()), list(own.values()), groups) for v in rivals.values())
    return Effect(
        factor=factor,
        given=given,
        against=best,
        own=_rate(own.values()),
        rival=_rate(rivals[best].values()),
        difference=round(lift.estimate, 6),
        interval=_interval(lift, len(set(groups))),
        p=p,
        found=_is_found(lift.estimate, p, dict(_LEVELS)[factor]),
    )


def _interval(lift: statistics.Lift, wordings: int) -> Interval:
    low, high = lift.low, lift.high
    if low == high:
        half = statistics.wilson(0, wordings)[1]
        low, high = max(-1.0, low - half), min(1.0, high + half)
    return round(low, 6), round(high, 6)


def _is_found(difference: float, p: float, levels: int) -> bool:
    return difference >= MATTERS and p <= LEVEL / levels


def _control(cells: Cells, wordings: Mapping[str, str]) -> Control:
    own, nothing = cells["own", "own"], cells["none", "neutral"]
    p = statistics.template_flip_test(list(nothing.values()), list(own.values()), [wordings[id] for id in own])
    difference = _rate(own.values()) - _rate(nothing.values())
    low, high = statistics.wilson(sum(own.values()), len(own))
    return Control(
        rate=_rate(own.values()),
        wilson=(round(low, 6), round(high, 6)),
        nothing_given=_rate(nothing.values()),
        difference=round(difference, 6),
        passed=_is_found(difference, p, 1),
    )


def smallest_effect(
    floor: Sequence[bool], wordings: Sequence[str], units: Sequence[str], *, levels: int, seed: int = 0
) -> float | None:
    """The smallest rise over `floor`, in steps of one point, that `POWER` of simulated studies find; None if none is.

    In a simulated study each of the answers that does not obey in `floor` obeys with the chance that gives the rise on
    average; those of one unit (`units[i]`: a question's id, or its wording) do so together.
    """
    room = 1 - _rate(floor)
    low, high = 0, int(100 * room)  # at `low` too few are found; `high` is tried first
    if high < 1 or _share_found(floor, wordings, units, high / 100 / room, levels, seed) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _share_found(floor, wordings, units, middle / 100 / room, levels, seed) >= POWER:
            high = middle
        else:
            low = middle
    return high / 100


def _share_found(
    floor: Sequence[bool], wordings: Sequence[str], units: Sequence[str], chance: float, levels: int, seed: int
) -> float:
    unit, wording = (np.unique(np.asarray(names), return_inverse=True)[1] for names in (units, wordings))
    draw = np.random.Generator(np.random.PCG64(seed))
    before = np.asarray(floor, dtype=bool)
    found = 0
    for _ in range(STUDIES):
        raised = before | (draw.random(int(unit.max()) + 1) < chance)[unit]
        difference = float(raised.mean() - before.mean())
        if difference >= MATTERS:
            net = np.bincount(wording, weights=raised.astype(float) - before)
            found += _is_found(difference, statistics.flip_p_value([int(change) for change in net]), levels)
    return found / STUDIES


def steered_by(effects: Sequence[Effect]) -> SteeredBy:
    """Which factors are found, at any level of the other."""
    found = {effect.factor for effect in effects if effect.found}
    if len(found) == 2:
        return "both"
    return next(iter(found), "neither")


def _sentence(
    steered_by: SteeredBy,
    effects: Sequence[Effect],
    control: Control,
    sensitivity: Sequence[Sensitivity],
    revisions: int,
) -> str:
    """The answer in words, each figure from the table; what was not found is told with what would have been."""
    largest = {
        factor: max((e for e in effects if e.factor == factor), key=lambda e: (e.found, e.difference))
        for factor, _ in _LEVELS
    }
    finds = {part.factor: _would_be_found(part) for part in sensitivity}
    least = round(100 * MATTERS)
    start = {
        "both": "Both the text and the demonstrations steer",
        "text": f"The text steers; of the demonstrations no effect of {least} points or more was found",
        "demonstrations": f"Demonstrations steer; of the text no effect of {least} points or more was found",
        "neither": f"No effect of {least} points or more was found, of the text or of the demonstrations",
    }[steered_by]
    if steered_by == "neither" and not control.passed:
        start = "Nothing could be seen"
    given = (
        f"with both its own, {control.rate:.1%} of {revisions} revisions obey, "
        f"with no text and neutral demonstrations {control.nothing_given:.1%}"
    )
    parts = [_said(largest[factor], finds[factor]) for factor in ("demonstrations", "text")]
    return f"{start}: {given}; {'; '.join(parts)}."


def _said(effect: Effect, finds: str) -> str:
    low, high = effect.interval
    what = "own demonstrations" if effect.factor == "demonstrations" else "its own text"
    size = f"{100 * effect.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    if effect.found:
        return f"{what} over {_named(effect.factor, effect.against)}, {_given(effect)}: {size}"
    return (
        f"{what}, where it did most ({_given(effect)}, over {_named(effect.factor, effect.against)}): {size}, {finds}"
    )


def _given(effect: Effect) -> str:
    return f"with {_named('demonstrations' if effect.factor == 'text' else 'text', effect.given)}"


def _named(factor: Factor, level: str) -> str:
    if factor == "demonstrations":
        return "another principle's demonstrations" if level == "another's" else f"{level} demonstrations"
    return {"own": "its own text", "other": "another principle's text", "negated": "its negation", "none": "no text"}[
        level
    ]


def _would_be_found(part: Sensitivity) -> str:
    if part.independent is None:
        return "and no effect of any size would have been found: too few questions or wordings"
    together = (
        "none if the questions of a wording go together"
        if part.by_wording is None
        else f"{100 * part.by_wording:.0f} if those of a wording go together"
    )
    return (
        f"and {100 * part.independent:.0f} points would have been found in four of five such studies "
        f"if each question answers for itself, {together}"
    )


def _rate(verdicts: Iterable[bool]) -> float:
    values = list(verdicts)
    return round(sum(values) / len(values), 6)
