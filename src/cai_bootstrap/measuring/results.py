"""Results files: built in one place, and believed only after everything in them has been computed again.

A results file holds every response. Whoever reads one scores the responses again and derives each verdict, rate and
statistic from them; the first figure that disagrees, up or down, makes the file untrusted.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.judging.scorers import SCORER_VERSION, judge
from cai_bootstrap.judging.statistics import THRESHOLD_PERCENT, meets_gate
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.conditions import Conditions, item_order
from cai_bootstrap.measuring.declared import (
    SIDES,
    Factors,
    Gate,
    ItemRow,
    Models,
    Results,
    ResultsFile,
    Rival,
    Run,
    Side,
    SuiteBlock,
)
from cai_bootstrap.measuring.figures import SideFigures
from cai_bootstrap.measuring.summary import Answers, compute_statistics, summarise
from cai_bootstrap.measuring.wording import one_line, short
from cai_bootstrap.records import Answer, EvalItem

SCHEMA_VERSION = 1
_TOLERANCE = 1e-6
_ZERO = 1e-12


@dataclass(frozen=True)
class Output:
    """What a model wrote on one item. `finished`: it ended by EOS, or by the stop rule that its side declares."""

    text: str
    finished: bool


@dataclass(frozen=True)
class Measured:
    """One side as it was measured: the outputs by item id, one for each item of the suite, and its declared factors."""

    outputs: Mapping[str, Output]
    factors: Factors


def build_results(
    *,
    suite: Suite,
    conditions: Conditions,
    base: Measured | None,
    trained: Measured | None,
    rival: Measured | None = None,
    prompting: Rival | None = None,
    run: Run | None = None,
    extra: Mapping[str, Any] | None = None,
    enforced: bool,
) -> Results:
    """Judge the outputs of each side and put a whole results file together. Without `trained` it is a baseline.

    `rival` is the best prompted base and `prompting` says how it was found; its rate there is that of the outputs, by
    first line. `extra` adds blocks of another tool. Raises DataError if outputs, conditions and suite do not belong
    together.
    """
    sides = {"base": base, "trained": trained, "rival": rival}
    _must_belong(suite, conditions, sides, extra or {})
    judged = {side: _judge_all(suite, measured.outputs) for side, measured in sides.items() if measured is not None}
    factors = {side: measured.factors for side, measured in sides.items() if measured is not None}
    models = _models(suite, judged, factors, conditions.base_weights_sha256)
    if prompting is not None and models.rival is not None:
        line = models.rival.first_line
        rate = {"success_rate": line.success_rate, "successes": line.successes, "total": line.total}
        prompting = prompting.model_copy(update=rate)
    return Results(
        schema_version=SCHEMA_VERSION,
        conditions=conditions,
        suite=_suite_block(suite),
        models=models,
        rival=prompting,
        items=[_row(item, judged) for item in suite.items],
        statistics=compute_statistics(suite.items, judged),
        gate=gate_block(models.trained, enforced),
        **({} if run is None else {"run": run}),
        **(extra or {}),
    )


def gate_block(trained: SideFigures | None, enforced: bool) -> Gate:
    """The gate's verdict as it stands in a file. Whoever judges the file ignores it and computes it again."""
    passed = None if trained is None else meets_gate(trained.successes, trained.total)
    reasons: list[str] = []
    if trained is None:
        reasons = ["no trained model was measured"]
    elif not passed:
        reasons = [f"{percent(trained.successes, trained.total)} of {trained.total} followed"]
    return Gate(threshold=THRESHOLD_PERCENT / 100, passed=passed, enforced=enforced, reasons=reasons)


def percent(successes: int, total: int) -> str:
    """A rate with one decimal, rounded down, so that 94.96% never reads as 95.0%."""
    tenths = 1000 * successes // total if total else 0
    return f"{tenths // 10}.{tenths % 10}%"


def write_results(path: Path, results: Results) -> None:
    """Write a results file atomically. Raises DataError, writing nothing, if it holds NaN or infinity."""
    try:
        write_json(path, results.as_dict())
    except ValueError as error:
        raise DataError(f"{path}: not written: the results hold a value that is not JSON: {error}") from error


def read_results(path: Path, suite: Suite | None = None) -> Results:
    """Read a results file and compute everything in it again from its responses. The gate block is not looked at.

    `suite` is needed for a user's own suite. Raises UntrustedResultError naming the first thing that disagrees.
    """
    claims, raw = _parse(path)
    suite = suite or _suite_of(path, claims)
    return _believed(path, claims, raw, suite)


def read_older_results(path: Path, suite: Suite | None = None) -> tuple[Results, Suite]:
    """Read a results file of an older scorer version, with its suite. Its verdicts cannot be derived again here.

    They are only asked to agree with each other. Everything else is checked: suite, items, conditions, and that all
    rates and statistics are those of the verdicts as they stand.

    Raises UntrustedResultError naming the first thing that disagrees, or if the file is of these scorers.
    """
    claims, raw = _parse(path)
    suite = suite or _suite_of(path, claims)
    version = claims.conditions.scorer_version
    if not 1 <= int(version) < int(SCORER_VERSION):
        raise UntrustedResultError(
            f"{path}: was scored by version {version!r} of the scorers, here is {SCORER_VERSION!r}; only results of an "
            "older version can be scored again"
        )
    return _believed(path, claims, raw, suite, older=True), suite


def _believed(path: Path, claims: ResultsFile, raw: Mapping[str, Any], suite: Suite, *, older: bool = False) -> Results:
    """The results whose figures the responses give, once nothing in the file disagrees with them."""
    _must_agree(path, _claim_faults(claims, raw, suite, older=older))
    judged = _answers(claims)
    models = _models(suite, judged, claims.models.factors(), claims.conditions.base_weights_sha256)
    for side, derived in models.present().items():
        verdicts = _contradictions(side, judged[side]) if older else _verdict_faults(side, judged[side], suite)
        _must_agree(path, verdicts)
        _must_agree(path, _figure_faults(side, raw["models"][side], derived, older=older))
    statistics = compute_statistics(suite.items, judged)
    _must_agree(path, _different("statistics", raw["statistics"], statistics.as_dict()))
    _must_agree(path, _rival_faults(raw["rival"], models.rival))
    _must_agree(path, _adapter_faults(claims))
    run = {"run": claims.run} if "run" in claims.model_fields_set else {}
    return Results(
        schema_version=claims.schema_version,
        conditions=Conditions.model_validate(raw["conditions"]),
        suite=claims.suite,
        models=models,
        rival=claims.rival,
        items=claims.items,
        statistics=statistics,
        gate=gate_block(models.trained, bool(raw["gate"].get("enforced", True))),
        **run,
        **(claims.model_extra or {}),
    )


def _must_agree(path: Path, faults: Iterator[str]) -> None:
    if (fault := next(faults, None)) is not None:
        raise UntrustedResultError(f"{path}: {one_line(fault)}; the file cannot be trusted, evaluate again")


def _parse(path: Path) -> tuple[ResultsFile, dict[str, Any]]:
    try:
        raw = read_json(path)
    except DataError as error:
        raise UntrustedResultError(f"{error}; a results file must be there, whole and untouched") from error
    if not isinstance(raw, dict):
        raise UntrustedResultError(f"{path}: not a results file: it holds no JSON object")
    if raw.get("schema_version") != SCHEMA_VERSION or isinstance(raw["schema_version"], bool):
        version = raw.get("schema_version")
        raise UntrustedResultError(f"{path}: schema_version is {short(version)}, this version reads {SCHEMA_VERSION}")
    try:
        claims = ResultsFile.model_validate(raw, strict=True)
    except ValidationError as error:
        raise UntrustedResultError(f"{path}: {one_line(_first_problem(error))}") from error
    return claims, raw


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        value = problem["input"]
        shown = "" if isinstance(value, dict | list) else f", not {short(value)}"
        return f"{where}: {problem['msg']}{shown}"
    if where.startswith("models.") and where.count(".") == 1:
        return f"{where} is no side; the sides are {', '.join(SIDES)}"
    return f"{where} is not part of a results file"


def _suite_block(suite: Suite) -> SuiteBlock:
    return SuiteBlock(name=suite.name, sha256=suite.sha256, version=suite.version, n=len(suite.items))


def _suite_of(path: Path, claims: ResultsFile) -> Suite:
    if claims.suite.name not in NAMED_SUITES:
        raise UntrustedResultError(
            f"{path}: was measured on the suite {claims.suite.name!r}, which is not one of {', '.join(NAMED_SUITES)}; "
            "name its file with --suite"
        )
    return load_suite(claims.suite.name)


def _must_belong(
    suite: Suite, conditions: Conditions, sides: Mapping[str, Measured | None], extra: Mapping[str, Any]
) -> None:
    ids = {item.id for item in suite.items}
    for side, measured in sides.items():
        if measured is not None and set(measured.outputs) != ids:
            odd = sorted(ids.symmetric_difference(measured.outputs))
            raise DataError(f"{side}: outputs and suite {suite.name} differ in {len(odd)} items, first {odd[0]}")
    if sides["base"] is None and sides["trained"] is None:
        raise DataError("no outputs of either side: nothing to judge")
    if fault := next(_condition_faults(conditions, suite), None):
        raise DataError(fault)
    if taken := sorted(set(extra) & set(Results.model_fields)):
        raise DataError(f"the extra blocks {', '.join(taken)} would replace parts of the results file")


def _judge_all(suite: Suite, outputs: Mapping[str, Output]) -> dict[str, Answer]:
    return {item.id: judge(item, outputs[item.id].text, outputs[item.id].finished) for item in suite.items}


def _models(suite: Suite, judged: Mapping[str, Answers], factors: Mapping[str, Factors], base_weights: str) -> Models:
    """Each side's figures with its factors. A file without a rival has no such key, so it stays unset."""
    sides = {
        side: Side(**dict(summarise(suite.items, answers, base_weights)), factors=factors[side])
        for side, answers in judged.items()
    }
    rival = {"rival": sides["rival"]} if "rival" in sides else {}
    return Models(base=sides.get("base"), trained=sides.get("trained"), **rival)


def _row(item: EvalItem, judged: Mapping[str, Answers]) -> ItemRow:
    answers: dict[str, Answer | None] = {"base": None, "trained": None}
    answers |= {side: answers_of_side[item.id] for side, answers_of_side in judged.items()}
    return ItemRow(id=item.id, type=item.type, template=item.template, instruction=item.instruction, **answers)


def _condition_faults(conditions: Conditions, suite: Suite, *, older: bool = False) -> Iterator[str]:
    expected = {"suite_name": suite.name, "suite_sha256": suite.sha256, "item_order": item_order(suite.items)}
    if not older:
        expected["scorer_version"] = SCORER_VERSION
    for field, value in expected.items():
        if (found := getattr(conditions, field)) != value:
            hint = "; `cai rescore` judges the outputs of an older file again" if field == "scorer_version" else ""
            yield f"conditions.{field} is {found!r}, for the suite {suite.name} and these scorers it is {value!r}{hint}"


def _answers(claims: ResultsFile) -> dict[str, dict[str, Answer]]:
    """Per side that every item holds an answer of, the answers as they stand in the file."""
    sides: dict[str, dict[str, Answer]] = {side: {} for side in SIDES}
    for row in claims.items:
        for side, answer in row.answers().items():
            sides[side][row.id] = answer
    return {side: answers for side, answers in sides.items() if len(answers) == len(claims.items)}


def _claim_faults(claims: ResultsFile, raw: Mapping[str, Any], suite: Suite, *, older: bool) -> Iterator[str]:
    """What is wrong with the suite, conditions and items that the file claims, most telling first."""
    for field, value in _suite_block(suite):
        if (stored := getattr(claims.suite, field)) != value:
            yield f"suite.{field} is {stored!r}, of the suite that is here ({suite.name}) it is {value!r}"
    yield from _condition_faults(Conditions.model_validate(raw["conditions"]), suite, older=older)
    yield from _item_faults(claims, suite)
    for side in SIDES:
        missing = sum(side not in row.answers() for row in claims.items)
        if 0 < missing < len(claims.items):
            yield f"{missing} of {len(claims.items)} items hold no {side} response"
        if (missing == 0) != (side in claims.models.factors()):
            yield f"models.{side} and the items' {side} responses are not both there"
    if not _answers(claims):
        yield "it holds no responses"


def _figure_faults(side: str, stored: Mapping[str, Any], derived: Side, *, older: bool) -> Iterator[str]:
    """Every figure of one side's block that its responses do not give."""
    expected = derived.as_dict()
    if older:
        stored = {"facts": None, **stored}  # files of version 1 had no such figure
    if stored.get("facts", expected["facts"]) is None:
        expected["facts"] = None  # measured before there were flags for this base: it claims nothing about facts
    yield from _different(f"models.{side}", stored, expected)


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


def _verdict_faults(side: str, judged: Answers, suite: Suite) -> Iterator[str]:
    for item in suite.items:
        stored = judged[item.id]
        again = judge(item, stored.response, stored.finished)
        if stored != again:
            yield (
                f"items[{item.id}].{side}: the file says {_say(stored)}, its response scores {_say(again)} "
                f"(first line: {stored.first_line_reason}, scores {again.first_line_reason})"
            )


def _contradictions(side: str, judged: Answers) -> Iterator[str]:
    """Where stored verdicts contradict themselves, whatever scorers gave them."""
    for id, answer in judged.items():
        verdicts = ((answer.success, answer.reason), (answer.first_line_success, answer.first_line_reason))
        if any(success != (reason == "ok") for success, reason in verdicts):
            yield f"items[{id}].{side}: a verdict and its reason contradict each other ({_say(answer)})"
        if (not answer.finished) != (answer.reason == "unfinished"):
            yield f"items[{id}].{side}: 'finished' is {answer.finished}, the verdict says {_say(answer)}"


def _say(answer: Answer) -> str:
    return f"{'followed' if answer.success else 'failed'} ({answer.reason})"


def _rival_faults(described: Mapping[str, Any] | None, measured: Side | None) -> Iterator[str]:
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
            yield from _different(f"rival.{key}", described.get(key), getattr(measured.first_line, key))
        for key in ("rendering", "stop_rule"):
            factor = getattr(measured.factors, key)
            if described.get(key, factor) != factor:
                yield f"rival.{key} and models.rival.factors.{key} are not the same"


def _adapter_faults(claims: ResultsFile) -> Iterator[str]:
    """Where the file says of two adapters that it measured them."""
    if claims.models.trained is None or claims.run is None or claims.run.adapter is None:
        return
    if claims.run.adapter.sha256 != (adapter := claims.models.trained.factors.adapter):
        yield f"models.trained.factors.adapter is {adapter}, run.adapter.sha256 is {claims.run.adapter.sha256}"


def _different(path: str, found: Any, expected: Any) -> Iterator[str]:
    """Every place where two JSON values differ, named by its path. Numbers may differ in the sixth digit."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            if key not in found or key not in expected:
                yield f"{path}.{key} is {'missing' if key not in found else 'not part of a results file'}"
            else:
                yield from _different(f"{path}.{key}", found[key], expected[key])
    elif isinstance(found, list) and isinstance(expected, list | tuple):
        if len(found) != len(expected):
            yield f"{path} has {len(found)} entries, the responses give {len(expected)}"
        for at, (left, right) in enumerate(zip(found, expected, strict=False)):
            yield from _different(f"{path}[{at}]", left, right)
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
