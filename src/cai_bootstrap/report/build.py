"""The report: one self-contained HTML file from a run's files. It needs nothing but them, and says what is missing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cai_bootstrap.events import utc_now
from cai_bootstrap.files import write_atomic
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.figures import Statistics
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.measuring.side_figures import NOTE, beside, beside_rows
from cai_bootstrap.report import benchmarks, browse, data, findings, plots, provenance_tables, training
from cai_bootstrap.report.files import RunFiles, load
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.report.principles.build import principles_page
from cai_bootstrap.report.rendering import fitting
from cai_bootstrap.report.stages import other_page
from cai_bootstrap.report.tables import Table, number
from cai_bootstrap.report.training import Picture
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder

TEST_HEAD = [
    "Comparison",
    "Before",
    "After",
    "Lift, points (95%)",
    "Gained / lost",
    "McNemar p",
    "Template p",
    "Cohen's h",
]

BARS_HEAD = ["Items", "Model", "Scored by", "Followed", "Count", "95% interval"]


def build_report(workspace: RunFolder, *, rentals: Sequence[Rental] = (), planned: Plan | None = None) -> Path:
    """Write the page of the workspace's stage atomically and give its path (`results/report.html` for Stage 1).

    Files that are missing or unsound are named in it.

    `rentals` are those of the pod's ledger; the one that this run was made in gives the plan and the price. `planned`
    is the estimate for a run that was made in none.
    """
    write_atomic(workspace.report, report_page(workspace, rentals=rentals, planned=planned))
    return workspace.report


def report_page(
    workspace: RunFolder,
    *,
    live: bool = False,
    rentals: Sequence[Rental] = (),
    planned: Plan | None = None,
) -> str:
    """The stage's report as HTML, at most 6 MB; `live` adds the panel that follows a run going on."""
    page = principles_page if workspace.stage is CONSTITUTION else _instructions_page
    return page(workspace, live=live, rentals=rentals, planned=planned)


def _instructions_page(workspace: RunFolder, *, live: bool, rentals: Sequence[Rental], planned: Plan | None) -> str:
    run = load(workspace, rentals, planned)
    return fitting("report.html", lambda limit, most: _payload(run, limit, most), lambda: _context(run), live=live)


def rates_picture(bars: list[findings.Bar], names: dict[str, str]) -> Picture:
    """The picture at the top, in two sizes, and its numbers."""
    rows = [[*row[:1], names[bar.side], *row[2:]] for bar, row in zip(bars, findings.bars_table(bars), strict=True)]
    table = Table("The picture in numbers", BARS_HEAD, rows, folded=True)
    wide, narrow = (plots.rates_plot(bars, names, narrow=small) for small in (False, True))
    return Picture(wide, table, narrow)


def _context(run: RunFiles) -> dict[str, Any]:
    measured = run.measured
    principles, principles_table = data.principles(run)
    return {
        "run_name": _name(run),
        "model": (run.model and run.model.name) or run.config("model") or "",
        "made_at": utc_now(),
        "headline": findings.headline(run),
        "facts": list(_facts(measured)) if measured else [],
        "rates": rates_picture(findings.bars(measured), findings.SIDE_NAMES) if measured else None,
        "result_tables": [*(_result_tables(measured) if measured else []), *benchmarks.tables(run)],
        "flips": _flips(measured.statistics) if measured else None,
        "sides": _sides(run),
        "n_items": len(measured.items) if measured else 0,
        "funnel": data.funnel(run),
        "principles": principles,
        "principles_table": principles_table,
        "data_tables": data.tables(run),
        "curves": training.pictures(run),
        "training_said": training.remarks(run),
        "training_tables": training.tables(run),
        "trust_tables": provenance_tables.tables(run),
        "base_dir": str(run.workspace.base),
        "other": other_page(run.workspace),
        "reuse": _reuse(run),
        "missing": run.missing,
        "faults": list(map(str, run.faults)),
    }


def _name(run: RunFiles) -> str:
    named = run.record.run if run.record is not None else (run.events[-1].run if run.events else None)
    return named or (run.results_file.stem if run.results_file else "no run yet")


def _facts(measured: Results) -> Iterator[tuple[str, str, str]]:
    """The figures in large type: what, how much, and what it means."""
    models, headline = measured.models, measured.statistics.headline
    if models.trained is not None:
        trained = models.trained
        yield "Trained, asked plainly", percent(trained.successes, trained.total), "whole output, up to EOS"
    if models.rival is not None:
        first = models.rival.first_line
        rendering = measured.rival.rendering if measured.rival is not None else None
        yield "Best prompted base", percent(first.successes, first.total), f"first line; {rendering}"
    if models.base is not None:
        base = models.base
        yield "Raw base, asked plainly", percent(base.successes, base.total), "whole output, up to EOS"
    if headline is not None:
        estimate, low, high = findings.points(headline.lift)
        against = f"{low} to {high} against the best prompted base, both by first line"
        yield "Training added", f"{estimate} pts", against


def _result_tables(measured: Results) -> list[Table]:
    tables = []
    if tests := findings.tests_table(measured):
        note = "Lift with a 95% interval from resampling templates. Template p swaps whole templates."
        tables.append(Table("Paired comparisons", TEST_HEAD, tests, note=note))
    if measured.rival is not None and measured.rival.dev_rates:
        rival, rates = measured.rival, measured.rival.dev_rates
        ranked = sorted(rates.items(), key=lambda row: -row[1])
        rows = [[name, findings.down(rate), "chosen" if name == rival.rendering else ""] for name, rate in ranked]
        caption = f"How the best prompted base was chosen, on {rival.chosen_on_dev_items} dev items"
        tables.append(Table(caption, ["Prompt", "Followed", ""], rows, folded=True))
    present = findings.sides_of(measured)
    rows = beside_rows([beside(measured, side) for side in present])
    head = ["", *(findings.SIDE_NAMES[side] for side in present)]
    tables.append(Table("Beside the rate: held-out skills, facts, length", head, rows, note=NOTE))
    # The rival is judged by its first line, which is not cut.
    plain = {findings.SIDE_NAMES[name]: side for name, side in present.items() if name != "rival"}
    for caption, cuts in (
        ("difficulty", [side.by_difficulty for side in plain.values()]),
        ("label tier", [side.by_tier for side in plain.values()]),
        ("skill", [side.by_skill for side in plain.values()]),
    ):
        rows = findings.cuts_table(cuts)
        tables.append(Table(f"By {caption}, whole output", [caption.capitalize(), *plain], rows, folded=True))
    return tables


def _flips(statistics: Statistics) -> Table | None:
    rows = []
    tests = (("against best prompted base", statistics.headline), ("against raw base", statistics.comparison))
    for label, paired in tests:
        for kind, row in (paired.by_type if paired is not None else {}).items():
            adjusted = findings.p_value(row.mcnemar_p_adjusted)
            rows.append([f"{kind.capitalize()}, {label}", number(row.gained), number(row.lost), adjusted])
    note = "p adjusted for four tests (Benjamini–Hochberg)."
    return Table("Flips by type", ["Type", "Gained", "Lost", "p"], rows, folded=True, note=note) if rows else None


def _sides(run: RunFiles) -> list[str]:
    return list(findings.sides_of(run.measured)) if run.measured else []


def _reuse(run: RunFiles) -> str:
    reuse = run.record.reuse if run.record is not None else None
    if reuse is None or reuse.requested == reuse.found:
        return ""
    return (
        f"Data made from {number(reuse.found)} instructions were reused; this run asked for {number(reuse.requested)}."
    )


def _payload(run: RunFiles, limit: int, most: int) -> dict[str, Any]:
    sides = _sides(run)
    items = browse.item_records(run.measured.items, run.items, sides, limit) if run.measured else []
    pairs, there = browse.pair_records(run, limit, most)
    names = [findings.SIDE_NAMES[side] for side in sides]
    return {"sides": names, "items": items[:most], "pairs": pairs, "there": {**there, "items": len(items)}}
