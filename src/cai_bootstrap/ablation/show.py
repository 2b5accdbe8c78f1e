"""The table and the plot of a set of variations, from the content of `results/ablation.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Rows that break a rate down further stand in the JSON; these tell the story.
DARK, LIGHT = "#1f5a8a", "#8fb4d0"
LEFT_OUT = ("question", "completion", "generation", "transformation")


def print_tables(content: Mapping[str, Any]) -> None:
    """Every variation with its rows and Wilson intervals, then the paired comparisons."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    suite = content["suite"]
    table = Table(title=f"{content['set']}: {suite['name']}, {suite['n']} dev items, 95% Wilson", title_justify="left")
    for heading, side in (("variation", "left"), ("row", "left"), ("rate", "right"), ("n", "right"), ("s", "right")):
        table.add_column(heading, justify="left" if side == "left" else "right")
    for entry in content["variations"]:
        name, seconds = escape(entry["name"]), f"{entry['seconds']:.0f}"
        if entry["status"] != "done":
            said = escape(f"{entry['status'].replace('_', ' ')}: {entry['message']}")
            table.add_row(name, said, "-", "-", seconds)
            continue
        for row in shown_rows(entry):
            table.add_row(name, escape(row["row"]), rate_text(row), str(row["total"]), seconds)
            name = seconds = ""
        for figure, value in entry["figures"].items():
            if figure.startswith("perplexity"):
                table.add_row("", figure, f"{value:g}", "", "")
    console.print(table)
    if not content["contrasts"]:
        return
    gains = Table(title="What the gain comes from (paired; p adjusted for the number of rows)", title_justify="left")
    for heading in ("what", "points", "gained / lost", "p"):
        gains.add_column(heading, justify="left" if heading == "what" else "right")
    for row in content["contrasts"]:
        low, high = row["interval"]
        gains.add_row(
            escape(row["name"]),
            f"{100 * row['lift']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            f"{row['gained']} / {row['lost']} of {row['n']}",
            f"{row['adjusted_p']:.2g}",
        )
    console.print(gains)


def shown_rows(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a variation that table and plot show."""
    return [row for row in entry["rows"] if row["row"] not in LEFT_OUT]


def rate_text(row: Mapping[str, Any]) -> str:
    """A rate with its interval, in percent."""
    low, high = row["wilson"]
    return f"{row['rate']:.1%} [{100 * low:.0f}–{100 * high:.0f}]"


def plot(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `ablation.svg` and `ablation.png`: one point with its interval for each row; returns the files.

    A panel for each group. A variation's first row is dark, those that belong to it are light; a first-line rate that
    is its strict rate is left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for entry in content["variations"]:
        first = True
        for row in _plotted(entry):
            label = entry["name"] if first and row["row"] == "strict" else f"{entry['name']} · {row['row']}"
            groups.setdefault(entry["group"], []).append((label, DARK if first else LIGHT, row))
            first = False
    if not groups:
        return []
    heights = [len(rows) for rows in groups.values()]
    size = (9, 1.0 + 0.24 * sum(heights) + 0.4 * len(groups))
    figure, panels = pyplot.subplots(
        len(groups), 1, figsize=size, height_ratios=heights, sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (group, rows) in zip(panels[:, 0], groups.items(), strict=True):
        for place, (_, colour, row) in enumerate(rows):
            low, high = (abs(row["rate"] - bound) for bound in row["wilson"])
            axes.errorbar(
                row["rate"], place, xerr=[[low], [high]], fmt="o", markersize=4, capsize=2, linewidth=1, color=colour
            )
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=7)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(group, loc="left", fontsize=9)
        axes.grid(axis="x", linewidth=0.4)
    panels[-1, 0].set_xlim(-0.02, 1.02)
    panels[-1, 0].set_xlabel("rate, with its 95% Wilson interval")
    figure.suptitle(f"{content['set']} on {content['suite']['name']}", x=0.0, ha="left", fontsize=10)
    made = [folder / "ablation.svg", folder / "ablation.png"]
    for path in made:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return made


def _plotted(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    strict = next((row["rate"] for row in entry["rows"] if row["row"] == "strict"), None)
    return [row for row in shown_rows(entry) if row["row"] != "first line" or row["rate"] != strict]
