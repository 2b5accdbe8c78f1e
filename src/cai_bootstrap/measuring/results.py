"""Results files: built in one place, and believed only after everything in them has been computed again.

A results file holds every response. Whoever reads one scores the responses again and derives each verdict, rate and
statistic from them; the first figure that disagrees, up or down, makes the file untrusted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import write_json
from cai_bootstrap.judging.scorers import SCORER_VERSION, judge
from cai_bootstrap.judging.statistics import THRESHOLD_PERCENT, meets_gate
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.declared import (
    Factors,
    Gate,
    ItemRow,
    Models,
    Results,
    ResultsFile,
    Rival,
    Run,
    Side,
)
from cai_bootstrap.measuring.disagreements import (
    adapter_faults,
    bare_faults,
    claim_faults,
    condition_faults,
    contradictions,
    differences,
    figure_faults,
    rival_faults,
    stored_answers,
    suite_block,
    verdict_faults,
)
from cai_bootstrap.measuring.figures import SideFigures
from cai_bootstrap.measuring.parsing import parse_results_file
from cai_bootstrap.measuring.summary import Answers, compute_statistics, summarise
from cai_bootstrap.measuring.wording import one_line
from cai_bootstrap.records import Answer, EvalItem
from cai_bootstrap.run.folder import INSTRUCTIONS

SCHEMA_VERSION = 1


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
    trained_bare: Measured | None = None,
    rival: Measured | None = None,
    prompting: Rival | None = None,
    run: Run | None = None,
    extra: Mapping[str, Any] | None = None,
    enforced: bool,
) -> Results:
    """Judge the outputs of each side and put a whole results file together. Without `trained` it is a baseline.

    `trained_bare` is the trained model, asked without the line break; it stands beside and decides nothing.
    `rival` is the best prompted base and `prompting` says how it was found; its rate there is that of the outputs, by
    first line. `extra` adds blocks of another tool. Raises DataError if outputs, conditions and suite do not belong
    together.
    """
    sides = {"base": base, "trained": trained, "rival": rival, "trained_bare": trained_bare}
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
        suite=suite_block(suite),
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
    claims, raw = parse_results_file(path, ResultsFile, INSTRUCTIONS, SCHEMA_VERSION)
    suite = suite or _suite_of(path, claims)
    return _believed(path, claims, raw, suite)


def read_older_results(path: Path, suite: Suite | None = None) -> tuple[Results, Suite]:
    """Read a results file of an older scorer version, with its suite. Its verdicts cannot be derived again here.

    They are only asked to agree with each other. Everything else is checked: suite, items, conditions, and that all
    rates and statistics are those of the verdicts as they stand.

    Raises UntrustedResultError naming the first thing that disagrees, or if the file is of these scorers.
    """
    claims, raw = parse_results_file(path, ResultsFile, INSTRUCTIONS, SCHEMA_VERSION)
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
    _must_agree(path, claim_faults(claims, raw, suite, older=older))
    judged = stored_answers(claims)
    models = _models(suite, judged, claims.models.factors(), claims.conditions.base_weights_sha256)
    for side, derived in models.present().items():
        verdicts = contradictions(side, judged[side]) if older else verdict_faults(side, judged[side], suite)
        _must_agree(path, verdicts)
        _must_agree(path, figure_faults(side, raw["models"][side], derived, older=older))
    statistics = compute_statistics(suite.items, judged)
    _must_agree(path, differences("statistics", raw["statistics"], statistics.as_dict()))
    _must_agree(path, rival_faults(raw["rival"], models.rival))
    _must_agree(path, adapter_faults(claims))
    _must_agree(path, bare_faults(claims.models.factors()))
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
    factors = {side: measured.factors for side, measured in sides.items() if measured is not None}
    for fault in (*condition_faults(conditions, suite), *bare_faults(factors)):
        raise DataError(fault)
    if taken := sorted(set(extra) & set(Results.model_fields)):
        raise DataError(f"the extra blocks {', '.join(taken)} would replace parts of the results file")


def _judge_all(suite: Suite, outputs: Mapping[str, Output]) -> dict[str, Answer]:
    return {item.id: judge(item, outputs[item.id].text, outputs[item.id].finished) for item in suite.items}


def _models(suite: Suite, judged: Mapping[str, Answers], factors: Mapping[str, Factors], base_weights: str) -> Models:
    """Each side's figures with its factors. A file without a rival or a bare side has no such key: it stays unset."""
    sides = {
        side: Side(**dict(summarise(suite.items, answers, base_weights)), factors=factors[side])
        for side, answers in judged.items()
    }
    return Models(**{"base": None, "trained": None, **sides})


def _row(item: EvalItem, judged: Mapping[str, Answers]) -> ItemRow:
    answers: dict[str, Answer | None] = {"base": None, "trained": None}
    answers |= {side: answers_of_side[item.id] for side, answers_of_side in judged.items()}
    return ItemRow(id=item.id, type=item.type, template=item.template, instruction=item.instruction, **answers)
