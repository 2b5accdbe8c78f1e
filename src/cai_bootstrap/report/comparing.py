"""Two runs side by side, on the same checks as `cai compare`: other conditions, no comparison."""

from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import read_json, write_atomic
from cai_bootstrap.judging.statistics import wilson
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.comparison import Comparison, Refusal, compare_files
from cai_bootstrap.measuring.results import percent, read_results
from cai_bootstrap.measuring.side_figures import NOTE, beside_rows
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.report import browse, findings
from cai_bootstrap.report.build import LIMITS, MOST_BYTES, TEST_HEAD, rates_picture, render
from cai_bootstrap.report.files import dig
from cai_bootstrap.report.findings import Bar, Headline, down
from cai_bootstrap.report.safe import script_json
from cai_bootstrap.report.tables import Table, number
from cai_bootstrap.run.folder import Workspace

NAMES = {"a": "A", "b": "B"}


def results_of(path: Path) -> Path:
    """The results file that is meant: the file itself, or the one that a base directory's run.json names.

    Raises UsageError if a base directory holds no evaluation.
    """
    if not path.is_dir():
        return path
    folder = Workspace.at(path).results
    named = dig(read_json(folder / "run.json"), "results_file") if (folder / "run.json").exists() else None
    if isinstance(named, str):
        return folder / Path(named).name
    there = sorted(folder.glob("stage1_evaluation_*.json"))
    if not there:
        raise UsageError(f"{path}: holds no evaluation to compare; name a results file")
    return there[-1]


def _suite_of(path: Path) -> Suite | None:
    """The suite of the user's own that a base directory was measured on, by its run.json."""
    run = Workspace.at(path).results / "run.json"
    name = dig(read_json(run), "manifest", "config", "evaluation.suite", "value") if run.exists() else None
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
    found = compare_files(a, b, side=side, suite=suite)
    if isinstance(found, Refusal):
        named = "; ".join(f"{d.field}: {d.a} against {d.b}" for d in found.differences)
        raise UntrustedResultError(
            f"not comparable, measured under other conditions ({len(found.differences)} differ): {named}; evaluate "
            "both under the same ones"
        )
    path = out if out is not None else b.parent / f"comparison_{a.stem}_{b.stem}.html"
    write_atomic(path, _page(found, read_results(a, suite).as_dict(), read_results(b, suite).as_dict(), suite))
    return path


def _page(found: Comparison, before: dict[str, Any], after: dict[str, Any], suite: Suite | None) -> str:
    held_out = suite if suite is not None else load_suite(before["suite"]["name"])
    items = {item.id: item for item in held_out.items}
    bars = [*_bars(before, found.side_a, "a"), *_bars(after, found.side_b, "b")]
    bars.sort(key=lambda bar: ("all", *TASK_TYPES).index(bar.group))
    values: dict[str, Any] = {
        "headline": _headline(found, before, after),
        "rates": rates_picture(bars, NAMES),
        "result_tables": _tests(found),
        "trust_tables": _trust(found, before, after),
        "n_items": len(before["items"]),
        "made_at": utc_now(),
    }
    page = ""
    for limit, most in LIMITS:
        records = browse.compared_records(before, after, found.side_a, found.side_b, items, limit)
        held = {"sides": list(NAMES.values()), "items": records[:most], "there": {"items": len(records)}}
        page = render("comparison.html", payload=script_json(held), **values)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def _shown(results: dict[str, Any], side: str) -> str:
    rate = results["statistics"]["rates"][side]
    word = "shown" if rate["shown_95"] else "not shown"
    return f"{percent(rate['successes'], rate['total'])} of {rate['total']} followed; ≥ 95% {word}"


def _headline(found: Comparison, before: dict[str, Any], after: dict[str, Any]) -> Headline:
    strict = found.strict.as_dict()
    lift = strict["lift"]
    if lift["low"] > 0:
        word = "B follows more than A"
    elif lift["high"] < 0:
        word = "B follows fewer than A"
    else:
        word = "No difference between A and B is shown"
    estimate, low, high = (findings.signed(100 * lift[key], 1) for key in ("estimate", "low", "high"))
    sentence = (
        f"{word}: {down(strict['rate_after'])} against {down(strict['rate_before'])}, {estimate} points (95% interval "
        f"{low} to {high}); {len(strict['gained'])} items gained, {len(strict['lost'])} lost."
    )
    more = (
        f"A: {found.a} ({found.side_a}): {_shown(before, found.side_a)}.",
        f"B: {found.b} ({found.side_b}): {_shown(after, found.side_b)}.",
        "Both were measured under the same conditions; what differs by declaration stands under Trust.",
    )
    return Headline(sentence, more, "plain")


def _bars(results: dict[str, Any], side: str, name: str) -> list[Bar]:
    summary = results["models"][side]
    made = []
    for scored, counted in (("whole output", summary), ("first line", summary["first_line"])):
        for group in ("all", *TASK_TYPES):
            count = counted if group == "all" else counted["by_type"].get(group)
            if count and count["total"]:
                low, high = wilson(count["successes"], count["total"])
                made.append(Bar(group, name, scored, count["successes"], count["total"], low, high))
    return made


def _tests(found: Comparison) -> list[Table]:
    rows = [
        [label, *findings.comparison_cells(figures.as_dict())]
        for label, figures in (("Whole output", found.strict), ("First line", found.first_line))
    ]
    kinds = [
        [kind.capitalize(), number(row.gained), number(row.lost), findings.p_value(row.mcnemar_p_adjusted)]
        for kind, row in found.strict.by_type.items()
    ]
    note = "p adjusted for four tests (Benjamini–Hochberg)."
    return [
        Table("A → B, paired", ["Scored by", *TEST_HEAD[1:]], rows),
        Table("Flips by type, whole output", ["Type", "Gained", "Lost", "p"], kinds, note=note),
        Table("Beside the rate", ["", "A", "B"], beside_rows([found.beside_a, found.beside_b]), note=NOTE),
    ]


def _trust(found: Comparison, before: dict[str, Any], after: dict[str, Any]) -> list[Table]:
    varied = [[d.field, number(d.a), number(d.b)] for d in found.factors]
    if not varied:
        varied = [["nothing", "–", "–"]]
    rows = []
    for name, value in before["conditions"].items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        rows += [[f"{name}.{key}" if key else name, number(item)] for key, item in parts]
    files = [["A", found.a, found.side_a], ["B", found.b, found.side_b]]
    openings = [[name, number(dig(side, "run", "ledger_opening"))] for name, side in (("A", before), ("B", after))]
    return [
        Table("Files", ["Name", "File", "Side"], files),
        Table("Declared factors that differ", ["Factor", "A", "B"], varied),
        Table("Opening of the held-out items", ["Name", "Number"], openings),
        Table("Conditions, equal for both", ["Condition", "Value"], rows, folded=True),
    ]
