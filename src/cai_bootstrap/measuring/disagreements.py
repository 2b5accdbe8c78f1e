"""Where a results file disagrees with itself, with its suite, or with what its responses give: a sentence each.

Every function yields faults, most telling first; none of them means that nothing disagrees.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from cai_bootstrap.judging.own.entering import sources_of
from cai_bootstrap.judging.scorers import SCORER_VERSION, judge
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.conditions import BARE_RENDERING, FACTORS, Conditions, item_order
from cai_bootstrap.measuring.declared import SIDES, Factors, ResultsFile, Side, SuiteBlock
from cai_bootstrap.measuring.summary import Answers
from cai_bootstrap.measuring.wording import short
from cai_bootstrap.records import Answer

_TOLERANCE = 1e-6
_ZERO = 1e-12


def suite_block(suite: Suite) -> SuiteBlock:
    """Which suite was measured."""
    asked = suite.asked_sha256 if suite.asked_sha256 != suite.sha256 else None
    return SuiteBlock(
        name=suite.name, sha256=suite.sha256, version=suite.version, n=len(suite.items), asked_sha256=asked
    )


def condition_faults(conditions: Conditions, suite: Suite, *, older: bool = False) -> Iterator[str]:
    """Where recorded conditions are not those of this suite and, unless the file is `older`, of these scorers."""
    yield from own_scorer_faults(conditions.own_scorers, suite)
    expected = {"suite_name": suite.name, "suite_sha256": suite.sha256, "item_order": item_order(suite.items)}
    if not older:
        expected["scorer_version"] = SCORER_VERSION
    for field, value in expected.items():
        if (found := getattr(conditions, field)) != value:
            hint = "; `cai rescore` judges the outputs of an older file again" if field == "scorer_version" else ""
            yield f"conditions.{field} is {found!r}, for the suite {suite.name} and these scorers it is {value!r}{hint}"


def own_scorer_faults(recorded: Mapping[str, str], suite: Suite) -> Iterator[str]:
    """Where modules of the user's own judged that are not those which this suite names, or had another source then."""
    here = sources_of(suite.items)
    for name in sorted(recorded.keys() | here.keys()):
        was, now = recorded.get(name), here.get(name)
        if was is None or now is None:
            who = "this suite names" if was is None else "the results were judged by"
            yield f"conditions.own_scorers: {who} {name}, and {'they were not' if was is None else 'it does not'}"
        elif was != now:
            yield (
                f"conditions.own_scorers: {name} has the source {short(was)}, the file that is here {short(now)}: it "
                "changed since, so these are other verdicts"
            )


def stored_answers(claims: ResultsFile) -> dict[str, dict[str, Answer]]:
    """Per side that every item holds an answer of, the answers as they stand in the file."""
    sides: dict[str, dict[str, Answer]] = {side: {} for side in SIDES}
    for row in claims.items:
        for side, answer in row.answers().items():
            sides[side][row.id] = answer
    return {side: answers for side, answers in sides.items() if len(answers) == len(claims.items)}


def claim_faults(claims: ResultsFile, raw: Mapping[str, Any], suite: Suite, *, older: bool) -> Iterator[str]:
    """What is wrong with the suite, conditions and items that the file claims, most telling first."""
    yield from own_scorer_faults(claims.conditions.own_scorers, suite)
    for field, value in suite_block(suite):
        if (stored := getattr(claims.suite, field)) != value:
            yield f"suite.{field} is {stored!r}, of the suite that is here ({suite.name}) it is {value!r}"
    yield from condition_faults(Conditions.model_validate(raw["conditions"]), suite, older=older)
    yield from _item_faults(claims, suite)
    for side in SIDES:
        missing = sum(side not in row.answers() for row in claims.items)
        if 0 < missing < len(claims.items):
            yield f"{missing} of {len(claims.items)} items hold no {side} response"
        if (missing == 0) != (side in claims.models.factors()):
            yield f"models.{side} and the items' {side} responses are not both there"
    if not stored_answers(claims):
        yield "it holds no responses"


def figure_faults(side: str, stored: Mapping[str, Any], derived: Side, *, older: bool) -> Iterator[str]:
    """Every figure of one side's block that its responses do not give."""
    expected = derived.as_dict()
    if older:
        stored = {"facts": None, **stored}  # files of version 1 had no such figure
    if stored.get("facts", expected["facts"]) is None:
        expected["facts"] = None  # measured before there were flags for this base: it claims nothing about facts
    yield from differences(f"models.{side}", stored, expected)


def _item_faults(claims: ResultsFile, suite: Suite) -> Iterator[str]:
    wanted = {item.id: item for item in suite.items}
    counts = Counter(row.id for row in claims.items)
    for label, ids in (
        ("twice or more", [id for id, count in counts.items() if count > 1]),
        ("missing", [id for id in wanted if id not in counts]),
        ("not of the suite", [id for id in counts if id not in wanted]),
    ):
        if ids:
            yield f"{len(ids)} items of {suite.name} are {label}, first {ids[0]}"
    for row, item in zip(claims.items, suite.items, strict=True):
        for field in ("id", "type", "template", "instruction"):
            if getattr(row, field) != getattr(item, field):
                yield f"items[{row.id}].{field} is not the suite's"


def verdict_faults(side: str, judged: Answers, suite: Suite) -> Iterator[str]:
    """Every stored verdict that the response does not get from these scorers."""
    for item in suite.items:
        stored = judged[item.id]
        again = judge(item, stored.response, stored.finished)
        if stored != again:
            yield (
                f"items[{item.id}].{side}: the file says {_say(stored)}, its response scores {_say(again)} "
                f"(first line: {stored.first_line_reason}, scores {again.first_line_reason})"
            )


def contradictions(side: str, judged: Answers) -> Iterator[str]:
    """Where stored verdicts contradict themselves, whatever scorers gave them."""
    for id, answer in judged.items():
        verdicts = ((answer.success, answer.reason), (answer.first_line_success, answer.first_line_reason))
        if any(success != (reason == "ok") for success, reason in verdicts):
            yield f"items[{id}].{side}: a verdict and its reason contradict each other ({_say(answer)})"
        if (not answer.finished) != (answer.reason == "unfinished"):
            yield f"items[{id}].{side}: 'finished' is {answer.finished}, the verdict says {_say(answer)}"


def _say(answer: Answer) -> str:
    return f"{'followed' if answer.success else 'failed'} ({answer.reason})"


def rival_faults(described: Mapping[str, Any] | None, measured: Side | None) -> Iterator[str]:
    """Where the description of the best prompted base and what was measured of it disagree."""
    if described is None:
        if measured is not None:
            yield "rival is missing, though its responses are there"
        return
    counts = [described.get(key) for key in ("successes", "total", "success_rate")]
    if any(value is not None for value in counts):
        if None in counts:
            yield "rival holds a part of its successes, total and success_rate; it holds all or none"
        successes, total, rate = counts
        if not total or not _same(rate, successes / total):
            yield f"rival.success_rate is {rate}, {successes} of {total} is another rate"
    if measured is not None:
        for key in ("successes", "total", "success_rate"):
            yield from differences(f"rival.{key}", described.get(key), getattr(measured.first_line, key))
        for key in ("rendering", "stop_rule"):
            factor = getattr(measured.factors, key)
            if described.get(key, factor) != factor:
                yield f"rival.{key} and models.rival.factors.{key} are not the same"


def adapter_faults(claims: ResultsFile) -> Iterator[str]:
    """Where the file says of two adapters that it measured them."""
    if claims.models.trained is None or claims.run is None or claims.run.adapter is None:
        return
    if claims.run.adapter.sha256 != (adapter := claims.models.trained.factors.adapter):
        yield f"models.trained.factors.adapter is {adapter}, run.adapter.sha256 is {claims.run.adapter.sha256}"


def bare_faults(factors: Mapping[str, Factors]) -> Iterator[str]:
    """Where the side that is asked without the line break is not the trained model, asked in no other way than that."""
    if (bare := factors.get("trained_bare")) is None:
        return
    if (trained := factors.get("trained")) is None:
        yield "models.trained_bare is there without models.trained, whose other way of being asked it is"
        return
    for name in FACTORS:
        wanted = BARE_RENDERING if name == "rendering" else getattr(trained, name)
        if (stated := getattr(bare, name)) != wanted:
            yield f"models.trained_bare.factors.{name} is {short(stated)}, of the trained model it is {short(wanted)}"


def differences(path: str, found: Any, expected: Any) -> Iterator[str]:
    """Every place where two JSON values differ, named by its path. Numbers may differ in the sixth digit."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            if key not in found or key not in expected:
                yield f"{path}.{key} is {'missing' if key not in found else 'not part of a results file'}"
            else:
                yield from differences(f"{path}.{key}", found[key], expected[key])
    elif isinstance(found, list) and isinstance(expected, list | tuple):
        if len(found) != len(expected):
            yield f"{path} has {len(found)} entries, the responses give {len(expected)}"
        for at, (left, right) in enumerate(zip(found, expected, strict=False)):
            yield from differences(f"{path}[{at}]", left, right)
    elif not _same(found, expected):
        yield f"{path} is {short(found)}, the responses give {short(expected)}"


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(expected, int):  # a count: 520.0 is none
        return isinstance(found, int) and found == expected
    if isinstance(found, int | float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_ZERO)
    return bool(found == expected)
