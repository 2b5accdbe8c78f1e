"""Two runs side by side, on the same checks as `cai compare`: other conditions, no comparison."""

from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import write_atomic
from cai_bootstrap.judging.statistics import wilson
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.comparison import Comparison, Refusal, compare_files
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.figures import FirstLine, SideFigures
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.measuring.side_figures import NOTE, beside_rows
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.report import browse, findings
from cai_bootstrap.report.build import TEST_HEAD, rates_picture
from cai_bootstrap.report.findings import Bar, Headline, down
from cai_bootstrap.report.rendering import fitting
from cai_bootstrap.report.tables import Table, condition_rows, number
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.record import read_record

NAMES = {"a": "A", "b": "B"}


def results_of(path: Path) -> Path:
    """The results file that is meant: the file itself, or the one that a base directory's run.json names.

    Raises UsageError if a base directory holds no evaluation.
    """
    if not path.is_dir():
        return path
    workspace = RunFolder.at(path)
    record = read_record(workspace)
    if record is not None and record.results_file is not None:
        return workspace.results / Path(record.results_file).name
    evaluations = workspace.evaluations()
    if not evaluations:
        raise UsageError(f"{path}: holds no evaluation to compare; name a results file")
    return evaluations[0]


def _suite_of(path: Path) -> Suite | None:
    """The suite of the user's own that a base directory was measured on, by its run.json."""
    record = read_record(RunFolder.at(path))
    name = record.config("evaluation.suite") if record is not None else None
    return load_suite(name) if isinstance(name, str) and name not in NAMED_SUITES else None


def build_comparison(
    a: Path, b: Path, *, out: Path | None = None, side: str | None = None, suite: Suite | None = None
) -> Path:
    """Write the comparison of two results files (or base directories) beside B, or to `out`, and give its path.

    `suite` is needed for results on a suite of the user's own; a base directory names it itself. Raises
    UntrustedResultError if a file cannot be trusted, or the two were measured under other conditions.
    """
    suite = suite or _suite_of(a) or _suite_of(b)
    a, b = results_of(a), results_of(b)
    compared = compare_files(a, b, side=side, suite=suite)
    if isinstance(compared, Refusal):
        named = "; ".join(f"{d.field}: {d.a} against {d.b}" for d in compared.differences)
        raise UntrustedResultError(
            f"not comparable, measured under other conditions ({len(compared.differences)} differ): {named}; evaluate "
            "both under the same ones"
        )
    path = out if out is not None else b.parent / f"comparison_{a.stem}_{b.stem}.html"
    write_atomic(path, _page(compared, read_results(a, suite), read_results(b, suite), suite))
    return path


def _page(compared: Comparison, before: Results, after: Results, suite: Suite | None) -> str:
    held_out = suite if suite is not None else load_suite(before.suite.name)
    items = {item.id: item for item in held_out.items}
    bars = [*_bars(before, compared.side_a, "a"), *_bars(after, compared.side_b, "b")]
    bars.sort(key=lambda bar: ("all", *TASK_TYPES).index(bar.group))
    values: dict[str, Any] = {
        "headline": _headline(compared),
        "rates": rates_picture(bars, NAMES),
        "result_tables": _tests(compared),
        "trust_tables": _trust(compared, before, after),
        "n_items": len(before.items),
        "made_at": utc_now(),
    }

    def payload(limit: int, most: int) -> dict[str, Any]:
        records = browse.compared_records(before, after, compared.side_a, compared.side_b, items, limit)
        return {"sides": list(NAMES.values()), "items": records[:most], "there": {"items": len(records)}}

    return fitting("comparison.html", payload, lambda: values)


def _headline(compared: Comparison) -> Headline:
    strict = compared.strict
    lift = strict.lift
    if lift.low > 0:
        word = "B follows more than A"
    elif lift.high < 0:
        word = "B follows fewer than A"
    else:
        word = "No difference between A and B is shown"
    estimate, low, high = findings.points(lift)
    sentence = (
        f"{word}: {down(strict.rate_after)} against {down(strict.rate_before)}, {estimate} points (95% interval "
        f"{low} to {high}); {len(strict.gained)} items gained, {len(strict.lost)} lost."
    )
    more = (
        f"A: {compared.a} ({compared.side_a}): {compared.shown_a}.",
        f"B: {compared.b} ({compared.side_b}): {compared.shown_b}.",
        "Both were measured under the same conditions; what differs by declaration stands under Trust.",
    )
    return Headline(sentence, more, "plain")


def _bars(results: Results, side: str, name: str) -> list[Bar]:
    figures = results.models.present()[side]
    scorings: tuple[tuple[str, SideFigures | FirstLine], ...]
    scorings = (("whole output", figures), ("first line", figures.first_line))
    bars = []
    for scored, tallies in scorings:
        for group in ("all", *TASK_TYPES):
            tally = tallies if group == "all" else tallies.by_type.get(group)
            if tally is not None and tally.total:
                interval = wilson(tally.successes, tally.total)
                bars.append(Bar(group, name, scored, tally.successes, tally.total, *interval))
    return bars


def _tests(compared: Comparison) -> list[Table]:
    rows = [
        [label, *findings.comparison_cells(figures)]
        for label, figures in (("Whole output", compared.strict), ("First line", compared.first_line))
    ]
    kinds = [
        [kind.capitalize(), number(row.gained), number(row.lost), findings.p_value(row.mcnemar_p_adjusted)]
        for kind, row in compared.strict.by_type.items()
    ]
    note = "p adjusted for four tests (Benjamini–Hochberg)."
    return [
        Table("A → B, paired", ["Scored by", *TEST_HEAD[1:]], rows),
        Table("Flips by type, whole output", ["Type", "Gained", "Lost", "p"], kinds, note=note),
        Table("Beside the rate", ["", "A", "B"], beside_rows([compared.beside_a, compared.beside_b]), note=NOTE),
    ]


def _trust(compared: Comparison, before: Results, after: Results) -> list[Table]:
    varied = [[d.field, number(d.a), number(d.b)] for d in compared.factors]
    if not varied:
        varied = [["nothing", "–", "–"]]
    conditions = [[name, number(value)] for name, value in condition_rows(before.conditions)]
    files = [["A", compared.a, compared.side_a], ["B", compared.b, compared.side_b]]
    runs = (("A", before.run), ("B", after.run))
    openings = [[name, number(run.ledger_opening if run is not None else None)] for name, run in runs]
    return [
        Table("Files", ["Name", "File", "Side"], files),
        Table("Declared factors that differ", ["Factor", "A", "B"], varied),
        Table("Opening of the held-out items", ["Name", "Number"], openings),
        Table("Conditions, equal for both", ["Condition", "Value"], conditions, folded=True),
    ]
