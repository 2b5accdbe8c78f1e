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
from cai_bootstrap.measuring.conditions import FACTORS, Conditions, item_order
from cai_bootstrap.measuring.declared import ResultsFile
from cai_bootstrap.measuring.summary import Answers, compute_statistics, summarise
from cai_bootstrap.measuring.wording import one_line, short
from cai_bootstrap.records import Answer, EvalItem

SCHEMA_VERSION = 1
SIDES = ("base", "trained", "rival")
RESERVED = ("schema_version", "conditions", "suite", "models", "rival", "items", "statistics", "gate")
_TOLERANCE = 1e-6
_ZERO = 1e-12


@dataclass(frozen=True)
class Output:
    """What a model wrote on one item. `finished`: it ended by EOS, or by the stop rule that its side declares."""

    text: str
    finished: bool


def build_results(
    *,
    suite: Suite,
    conditions: Conditions,
    base: Mapping[str, Output] | None,
    trained: Mapping[str, Output] | None,
    factors: Mapping[str, Mapping[str, Any]],
    rival: Mapping[str, Any] | None,
    extra: Mapping[str, Any],
    enforced: bool,
) -> dict[str, Any]:
    """Judge the outputs of each side and put a whole results file together. Without `trained` it is a baseline.

    Outputs map item ids to what was written, one for each item of the suite. `factors` holds per side the declared
    factors (`conditions.FACTORS`). `rival` describes the best prompted base; if it has `outputs`, they are judged and
    compared too, and its rate is theirs, by first line. `extra` adds blocks of its own. Raises DataError if outputs,
    conditions and suite do not belong together.
    """
    given: dict[str, Mapping[str, Output] | None] = {"base": base, "trained": trained}
    described = None if rival is None else {key: value for key, value in rival.items() if key != "outputs"}
    if rival is not None and rival.get("outputs") is not None:
        given["rival"] = rival["outputs"]
    _must_belong(suite, conditions, given, factors, extra)
    answers = {side: _judge_all(suite, outputs) for side, outputs in given.items() if outputs is not None}
    weights = conditions.base_weights_sha256
    models = {side: _side(suite, answers.get(side), factors.get(side, {}), weights) for side in given}
    if described is not None and (measured := models.get("rival")) is not None:
        described |= {key: measured["first_line"][key] for key in ("success_rate", "successes", "total")}
    return {
        "schema_version": SCHEMA_VERSION,
        "conditions": conditions.model_dump(),
        "suite": _suite_block(suite),
        "models": models,
        "rival": described,
        "items": [_row(item, answers, given) for item in suite.items],
        "statistics": compute_statistics(suite.items, answers),
        "gate": gate_block(models["trained"], enforced),
        **extra,
    }


def gate_block(trained: Mapping[str, Any] | None, enforced: bool) -> dict[str, Any]:
    """The gate's verdict as it stands in a file. Whoever judges the file ignores it and computes it again."""
    if trained is None:
        reasons = ["no trained model was measured"]
        return {"threshold": THRESHOLD_PERCENT / 100, "passed": None, "enforced": enforced, "reasons": reasons}
    passed = meets_gate(trained["successes"], trained["total"])
    reasons = [] if passed else [f"{percent(trained['successes'], trained['total'])} of {trained['total']} followed"]
    return {"threshold": THRESHOLD_PERCENT / 100, "passed": passed, "enforced": enforced, "reasons": reasons}


def percent(successes: int, total: int) -> str:
    """A rate with one decimal, rounded down, so that 94.96% never reads as 95.0%."""
    tenths = 1000 * successes // total if total else 0
    return f"{tenths // 10}.{tenths % 10}%"


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write a results file atomically. Raises DataError, writing nothing, if it holds NaN or infinity."""
    try:
        write_json(path, results)
    except ValueError as error:
        raise DataError(f"{path}: not written: the results hold a value that is not JSON: {error}") from error


def read_results(path: Path, suite: Suite | None = None) -> dict[str, Any]:
    """Read a results file and compute everything in it again from its responses. The gate block is not looked at.

    `suite` is needed for a user's own suite. Raises UntrustedResultError naming the first thing that disagrees.
    """
    parsed, found = _parse(path)
    suite = suite or _suite_of(path, parsed)
    if fault := next(_disagreements(parsed, found, suite), None):
        raise UntrustedResultError(f"{path}: {one_line(fault)}; the file cannot be trusted, evaluate again")
    return found


def read_older_results(path: Path, suite: Suite | None = None) -> tuple[dict[str, Any], Suite]:
    """Read a results file of an older scorer version, with its suite. Its verdicts cannot be derived again here.

    Everything else is: suite, items, conditions, and that all rates and statistics are those of the verdicts as they
    stand. Raises UntrustedResultError naming the first thing that disagrees, or if the file is of these scorers.
    """
    parsed, found = _parse(path)
    suite = suite or _suite_of(path, parsed)
    version = parsed.conditions.scorer_version
    if not 1 <= int(version) < int(SCORER_VERSION):
        raise UntrustedResultError(
            f"{path}: was scored by version {version!r} of the scorers, here is {SCORER_VERSION!r}; only results of an "
            "older version can be scored again"
        )
    if fault := next(_disagreements(parsed, found, suite, older=True), None):
        raise UntrustedResultError(f"{path}: {one_line(fault)}; the file cannot be trusted, evaluate again")
    return found, suite


def _parse(path: Path) -> tuple[ResultsFile, dict[str, Any]]:
    try:
        found = read_json(path)
    except DataError as error:
        raise UntrustedResultError(f"{error}; a results file must be there, whole and untouched") from error
    if not isinstance(found, dict):
        raise UntrustedResultError(f"{path}: not a results file: it holds no JSON object")
    if found.get("schema_version") != SCHEMA_VERSION or isinstance(found["schema_version"], bool):
        version = found.get("schema_version")
        raise UntrustedResultError(f"{path}: schema_version is {short(version)}, this version reads {SCHEMA_VERSION}")
    try:
        parsed = ResultsFile.model_validate(found, strict=True)
    except ValidationError as error:
        raise UntrustedResultError(f"{path}: {one_line(_first_problem(error))}") from error
    return parsed, found


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


def answers_of(results: Mapping[str, Any], side: str) -> dict[str, Answer] | None:
    """The judged answers of one side of a results file that was read, by item id; None if the side is not there."""
    rows = {row["id"]: row.get(side) for row in results["items"]}
    if any(answer is None for answer in rows.values()):
        return None
    return {id: Answer.model_validate(answer) for id, answer in rows.items()}


def _suite_block(suite: Suite) -> dict[str, Any]:
    return {"name": suite.name, "sha256": suite.sha256, "version": suite.version, "n": len(suite.items)}


def _suite_of(path: Path, parsed: ResultsFile) -> Suite:
    if parsed.suite.name not in NAMED_SUITES:
        raise UntrustedResultError(
            f"{path}: was measured on the suite {parsed.suite.name!r}, which is not one of {', '.join(NAMED_SUITES)}; "
            "name its file with --suite"
        )
    return load_suite(parsed.suite.name)


def _must_belong(
    suite: Suite,
    conditions: Conditions,
    given: Mapping[str, Mapping[str, Output] | None],
    factors: Mapping[str, Mapping[str, Any]],
    extra: Mapping[str, Any],
) -> None:
    ids = {item.id for item in suite.items}
    for side, outputs in given.items():
        if outputs is not None and set(outputs) != ids:
            odd = sorted(ids.symmetric_difference(outputs))
            raise DataError(f"{side}: outputs and suite {suite.name} differ in {len(odd)} items, first {odd[0]}")
    if given["base"] is None and given["trained"] is None:
        raise DataError("no outputs of either side: nothing to judge")
    if fault := next(_condition_faults(conditions, suite), None):
        raise DataError(fault)
    if unknown := {key for side in factors.values() for key in side if key not in FACTORS}:
        raise DataError(f"undeclared factors {', '.join(sorted(unknown))}; a comparison may vary {', '.join(FACTORS)}")
    if taken := sorted(set(extra) & set(RESERVED)):
        raise DataError(f"the extra blocks {', '.join(taken)} would replace parts of the results file")


def _judge_all(suite: Suite, outputs: Mapping[str, Output]) -> dict[str, Answer]:
    return {item.id: judge(item, outputs[item.id].text, outputs[item.id].finished) for item in suite.items}


def _side(
    suite: Suite, answers: Answers | None, factors: Mapping[str, Any], base_weights: str
) -> dict[str, Any] | None:
    if answers is None:
        return None
    return {**summarise(suite.items, answers, base_weights), "factors": dict(factors)}


def _row(item: EvalItem, answers: Mapping[str, Answers], sides: Mapping[str, Any]) -> dict[str, Any]:
    judged = {side: answers[side][item.id].model_dump() if side in answers else None for side in sides}
    return {
        "id": item.id,
        "type": item.type,
        "template": item.template,
        "instruction": item.instruction,
        **judged,
    }


def _condition_faults(conditions: Conditions, suite: Suite, *, older: bool = False) -> Iterator[str]:
    expected = {"suite_name": suite.name, "suite_sha256": suite.sha256, "item_order": item_order(suite.items)}
    if not older:
        expected["scorer_version"] = SCORER_VERSION
    for field, value in expected.items():
        if (found := getattr(conditions, field)) != value:
            hint = "; `cai rescore` judges the outputs of an older file again" if field == "scorer_version" else ""
            yield f"conditions.{field} is {found!r}, for the suite {suite.name} and these scorers it is {value!r}{hint}"


def _disagreements(parsed: ResultsFile, raw: Mapping[str, Any], suite: Suite, *, older: bool = False) -> Iterator[str]:
    """What is wrong with a file, most telling first. Later checks rely on earlier ones having found nothing.

    `older`: its verdicts are those of scorers that are not here; they are only asked to agree with each other.
    """
    for field, value in _suite_block(suite).items():
        if (stored := raw["suite"].get(field)) != value:
            yield f"suite.{field} is {stored!r}, of the suite that is here ({suite.name}) it is {value!r}"
    yield from _condition_faults(Conditions.model_validate(raw["conditions"]), suite, older=older)
    yield from _item_faults(parsed, suite)
    answers: dict[str, dict[str, Answer]] = {}
    for side in SIDES:
        rows = {row.id: getattr(row, side) for row in parsed.items}
        missing = sum(answer is None for answer in rows.values())
        if 0 < missing < len(rows):
            yield f"{missing} of {len(rows)} items hold no {side} response"
        if (missing == 0) != (getattr(parsed.models, side) is not None):
            yield f"models.{side} and the items' {side} responses are not both there"
        if missing == 0:
            answers[side] = rows
    if not answers:
        yield "it holds no responses"
    for side, judged in answers.items():
        yield from _claim_faults(side, judged) if older else _verdict_faults(side, judged, suite)
        summary = raw["models"][side]
        weights = parsed.conditions.base_weights_sha256
        expected = _side(suite, judged, summary.get("factors", {}), weights)
        if older:
            summary = {"facts": None, **summary}  # files of version 1 had no such figure
        if expected is not None and summary.get("facts", expected["facts"]) is None:
            expected["facts"] = None  # measured before there were flags for this base: it claims nothing about facts
        yield from _different(f"models.{side}", summary, expected)
    yield from _different("statistics", raw["statistics"], compute_statistics(suite.items, answers))
    yield from _rival_faults(raw["rival"], raw["models"].get("rival"))
    yield from _adapter_faults(parsed)


def _item_faults(parsed: ResultsFile, suite: Suite) -> Iterator[str]:
    wanted = {item.id: item for item in suite.items}
    counts = Counter(row.id for row in parsed.items)
    for label, ids in (
        ("twice or more", [id for id, count in counts.items() if count > 1]),
        ("missing", [id for id in wanted if id not in counts]),
        ("not of the suite", [id for id in counts if id not in wanted]),
    ):
        if ids:
            yield f"{len(ids)} items of {suite.name} are {label}, first {ids[0]}"
    for row, item in zip(parsed.items, suite.items, strict=True):
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


def _claim_faults(side: str, judged: Answers) -> Iterator[str]:
    """Where stored verdicts contradict themselves, whatever scorers gave them."""
    for id, answer in judged.items():
        verdicts = ((answer.success, answer.reason), (answer.first_line_success, answer.first_line_reason))
        if any(success != (reason == "ok") for success, reason in verdicts):
            yield f"items[{id}].{side}: a verdict and its reason contradict each other ({_say(answer)})"
        if (not answer.finished) != (answer.reason == "unfinished"):
            yield f"items[{id}].{side}: 'finished' is {answer.finished}, the verdict says {_say(answer)}"


def _say(answer: Answer) -> str:
    return f"{'followed' if answer.success else 'failed'} ({answer.reason})"


def _rival_faults(described: Mapping[str, Any] | None, measured: Mapping[str, Any] | None) -> Iterator[str]:
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
            yield from _different(f"rival.{key}", described.get(key), measured["first_line"][key])
        for key in ("rendering", "stop_rule"):
            if described.get(key, measured["factors"][key]) != measured["factors"][key]:
                yield f"rival.{key} and models.rival.factors.{key} are not the same"


def _adapter_faults(parsed: ResultsFile) -> Iterator[str]:
    """Where the file says of two adapters that it measured them."""
    if parsed.models.trained is None or parsed.run is None or parsed.run.adapter is None:
        return
    if parsed.run.adapter.sha256 != (adapter := parsed.models.trained.factors.adapter):
        yield f"models.trained.factors.adapter is {adapter}, run.adapter.sha256 is {parsed.run.adapter.sha256}"


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
