"""The table and the plot of a set of variations, from `results/ablation.json`."""

from pathlib import Path
from typing import Any

from cai_bootstrap.ablation.effects import SHOWN
from cai_bootstrap.ablation.outcome import AblationTable, Entry, RateRow
from cai_bootstrap.ablation.steering_report import SteeringReport, arm_lines, cell_lines, report_in
from cai_bootstrap.records import TASK_TYPES

DARK, LIGHT = "#1f5a8a", "#8fb4d0"


def print_tables(ablation: AblationTable) -> None:
    """Every variation with its rows and Wilson intervals, then the paired comparisons."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    suite = ablation.suite
    table = Table(title=f"{ablation.set}: {suite.name}, {suite.n} dev items, 95% Wilson", title_justify="left")
    for heading in ("variation", "row", "rate", "n", "s"):
        table.add_column(heading, justify="left" if heading in {"variation", "row"} else "right")
    for entry in ablation.variations:
        name, seconds = escape(entry.name), f"{entry.seconds:.0f}"
        if entry.status != "done":
            table.add_row(name, escape(f"{entry.status.replace('_', ' ')}: {entry.message}"), "-", "-", seconds)
            continue
        for row in main_rows(entry):
            table.add_row(name, escape(row.row), rate_text(row), str(row.total), seconds)
            name = seconds = ""
        for figure, value in entry.figures.items():
            if figure.startswith("perplexity"):
                table.add_row("", figure, f"{value:g}", "", "")
    console.print(table)
    for entry in ablation.variations:
        if report := report_in(entry.figures):
            _print_steering(console, report)
    if not ablation.contrasts:
        return
    gains = Table(title="What the gain comes from (paired; p adjusted for the number of rows)", title_justify="left")
    for heading in ("what", "points", "gained / lost", "p"):
        gains.add_column(heading, justify="left" if heading == "what" else "right")
    for comparison in ablation.contrasts:
        low, high = comparison.interval
        gains.add_row(
            escape(comparison.name),
            f"{100 * comparison.lift:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            f"{comparison.gained} / {comparison.lost} of {comparison.n}",
            f"{comparison.adjusted_p:.2g}",
        )
    console.print(gains)


def _print_steering(console: Any, report: SteeringReport) -> None:
    """The cells of each principle, the adapters, and what steers, in words."""
    from rich.markup import escape
    from rich.table import Table

    titles = ("principle", "text", *(f"{shown} demonstrations" for shown in SHOWN))
    cells = Table(title=f"Revisions of {report.questions} first answers that obey", title_justify="left")
    headings = ("principle", "trained on", "method", "pairs", "obeys", "obeys the next one", "ends by itself")
    arms = Table(title=f"Adapters, asked {report.held_out} held-out questions plainly", title_justify="left")
    for table, names, rows in ((cells, titles, cell_lines(report)), (arms, headings, arm_lines(report))):
        for name in names:
            table.add_column(name)
        for row in rows:
            table.add_row(*map(escape, row))
        if table.row_count:
            console.print(table)
    sentences = (f"steered by: {report.steering.steered_by}", report.steering.sentence, report.critique)
    for sentence in filter(None, sentences):
        console.print(escape(sentence))


def main_rows(entry: Entry) -> list[RateRow]:
    """The rows of a variation that table and plot show; those of one task type stand in the JSON only."""
    return [row for row in entry.rows if row.row not in TASK_TYPES]


def rate_text(row: RateRow) -> str:
    """A rate with its interval, in percent."""
    low, high = row.wilson
    return f"{row.rate:.1%} [{100 * low:.0f}–{100 * high:.0f}]"


def plot(ablation: AblationTable, folder: Path) -> list[Path]:
    """Write `ablation.svg` and `ablation.png`: one point with its interval for each row; returns the files.

    A panel for each group. A variation's first row is dark, those that belong to it are light; a first-line rate that
    is its strict rate is left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[tuple[str, str, RateRow]]] = {}
    for entry in ablation.variations:
        for number, row in enumerate(_plot_rows(entry)):
            first = number == 0
            label = entry.name if first and row.row == "strict" else f"{entry.name} · {row.row}"
            groups.setdefault(entry.group, []).append((label, DARK if first else LIGHT, row))
    if not groups:
        return []
    heights = [len(rows) for rows in groups.values()]
    size = (9, 1.0 + 0.24 * sum(heights) + 0.4 * len(groups))
    figure, panels = pyplot.subplots(
        len(groups), 1, figsize=size, height_ratios=heights, sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (group, rows) in zip(panels[:, 0], groups.items(), strict=True):
        for place, (_, colour, row) in enumerate(rows):
            low, high = (abs(row.rate - bound) for bound in row.wilson)
            axes.errorbar(
                row.rate, place, xerr=[[low], [high]], fmt="o", markersize=4, capsize=2, linewidth=1, color=colour
            )
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=7)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(group, loc="left", fontsize=9)
        axes.grid(axis="x", linewidth=0.4)
    panels[-1, 0].set_xlim(-0.02, 1.02)
    panels[-1, 0].set_xlabel("rate, with its 95% Wilson interval")
    figure.suptitle(f"{ablation.set} on {ablation.suite.name}", x=0.0, ha="left", fontsize=10)
    paths = [folder / "ablation.svg", folder / "ablation.png"]
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return paths


def _plot_rows(entry: Entry) -> list[RateRow]:
    strict = next((row.rate for row in entry.rows if row.row == "strict"), None)
    return [row for row in main_rows(entry) if row.row != "first line" or row.rate != strict]
