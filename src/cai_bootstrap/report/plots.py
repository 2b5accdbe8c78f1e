"""The report's pictures: drawn by matplotlib as SVG, then freed of everything that a strict page forbids.

Inline styles become presentation attributes, so that the page's content security policy need not allow them, and each
colour is one of a few that the page's style sheet renames in dark mode. The same numbers give the same bytes.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

from cai_bootstrap.printable import visible
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.report.findings import Bar

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"
BASE, RIVAL, TRAINED, BAD, CONTROL = "#6e7781", "#b35900", "#0b62c4", "#c4320a", "#7a5195"
SIDE_COLOURS = {"base": BASE, "rival": RIVAL, "trained": TRAINED, "control": CONTROL, "a": RIVAL, "b": TRAINED}
_NARROW_NAMES = {
    "base": "raw base",
    "rival": "prompted",
    "trained": "trained",
    "control": "control",
    "a": "A",
    "b": "B",
}
_SVG = "http://www.w3.org/2000/svg"
_KEPT_STYLES = {
    "fill", "stroke", "stroke-width", "stroke-linejoin", "stroke-linecap", "stroke-dasharray", "stroke-dashoffset",
    "stroke-miterlimit", "opacity", "fill-opacity", "stroke-opacity", "text-anchor", "font-size", "font-weight",
}  # fmt: skip
_STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}


RATES_TITLE = "Share of instructions followed, with 95% intervals; the table below has the numbers"


def rates_plot(
    bars: Sequence[Bar], names: dict[str, str], *, narrow: bool, gate: float = 0.95, title: str = RATES_TITLE
) -> str:
    """Rates with 95% intervals: a block of rows for each group, a row for each side in it; a dashed line at the gate.

    `names` are the sides'; `title` is what a screen reader says of the picture.
    """
    groups = list(dict.fromkeys(bar.group for bar in bars))
    sides = list(dict.fromkeys(bar.side for bar in bars))
    lines = len(groups) * (len(sides) + 1.1)
    width, row, left = (360, 19, 0.185) if narrow else (960, 21, 0.19)

    def draw(figure: Any) -> None:
        height = figure.bbox.height
        axes = figure.add_axes((left, 36 / height, 0.99 - left, 1 - 44 / height))
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(lines - 0.2, -0.5)
        axes.axvline(gate, color=BAD, linewidth=1.2, dashes=(4, 3))
        for at, group in enumerate(groups):
            top = at * (len(sides) + 1.1)
            heading = (
                "All items" if group == "all" else group.capitalize() if group in TASK_TYPES else _short(group, 60)
            )
            total = next(bar.total for bar in bars if bar.group == group)
            place = -left / (0.99 - left)
            where = axes.get_yaxis_transform()
            axes.text(place, top, f"{heading} ({total})", transform=where, weight="bold", va="center")
            for n, side in enumerate(sides):
                y = top + n + 0.9
                own = [bar for bar in bars if bar.group == group and bar.side == side]
                name = _NARROW_NAMES[side] if narrow else names[side]
                axes.text(-0.02, y, name, transform=where, ha="right", va="center", color=SIDE_COLOURS[side])
                for bar in own:
                    shift = 0.0 if len(own) == 1 else -0.19 if bar.scored == "whole output" else 0.19
                    _mark(axes, bar, y + shift)
            if at:
                axes.axhline(top - 0.62, color=GRID, linewidth=0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        ticks = sorted({0, 0.25, 0.5, *([] if abs(gate - 0.75) < 0.08 else [0.75]), gate})
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.grid(axis="x")
        axes.set_axisbelow(True)

    return _svg(width, round(lines * row + 50), draw, title, key=f"rates{narrow}{len(bars)}")


def _mark(axes: Any, bar: Bar, y: float) -> None:
    colour = SIDE_COLOURS[bar.side]
    whole = bar.scored == "whole output"
    axes.plot([bar.low, bar.high], [y, y], color=colour, linewidth=2.2 if whole else 1.2, solid_capstyle="butt")
    axes.plot([bar.rate], [y], marker="o", markersize=7.5 if whole else 6.5, markeredgewidth=1.6,
              markeredgecolor=colour, markerfacecolor=colour if whole else PAPER)  # fmt: skip


FUNNEL_TITLE = "From instructions to training pairs: what was dropped"


def funnel_plot(steps: Sequence[tuple[str, int, bool]], title: str = FUNNEL_TITLE) -> str:
    """What is left and what falls away: (label, count, whether it is a loss), in order; losses hang off the rest."""
    most = max((count for _, count, _ in steps), default=1) or 1

    def draw(figure: Any) -> None:
        height = figure.bbox.height
        axes = figure.add_axes((0.47, 8 / height, 0.42, 1 - 16 / height))
        left = 0
        for at, (label, count, lost) in enumerate(steps):
            if lost:
                left -= count
                axes.barh(at, count, left=left, color=BAD, height=0.62)
                axes.text(left + count + most * 0.02, at, f"−{count:,}", va="center", color=BAD)
            else:
                left = count
                axes.barh(at, count, color=TRAINED, height=0.62)
                axes.text(count + most * 0.02, at, f"{count:,}", va="center", weight="bold")
            axes.text(-0.03, at, _short(label, 30), transform=axes.get_yaxis_transform(), ha="right", va="center",
                      color=MUTED if lost else INK)  # fmt: skip
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.set_xlim(0, most * 1.02)
        axes.axis("off")

    return _svg(400, 26 * len(steps) + 16, draw, title, key="funnel")


def principles_plot(rows: Sequence[Sequence[Any]]) -> str:
    """For each principle how many revisions it fixed (to the right) and broke (to the left), as rules judge them."""
    title = "Revisions that fixed or broke an answer, by principle"
    return _opposed([(str(row[0]), row[6], row[5]) for row in rows], "broken   ←   revisions   →   fixed", title)


def turns_plot(rows: Sequence[tuple[str, int, int]]) -> str:
    """For each principle (its name, answers dropped at its turn, pairs that it has a part in)."""
    return _opposed(rows, "answers dropped   ←   →   pairs", "Answers dropped and pairs made, by principle")


def _opposed(rows: Sequence[tuple[str, int, int]], label: str, title: str) -> str:
    """Two counts for each name: the first to the left, as a loss, the second to the right."""
    reach = max((max(lost, won) for _, lost, won in rows), default=1) or 1

    def draw(figure: Any) -> None:
        height = figure.bbox.height
        axes = figure.add_axes((0.43, 30 / height, 0.53, 1 - 38 / height))
        for at, (name, lost, won) in enumerate(rows):
            axes.barh(at, won, color=TRAINED, height=0.6)
            axes.barh(at, -lost, color=BAD, height=0.6)
            axes.text(won + reach * 0.04, at, f"+{won}", va="center", color=TRAINED)
            axes.text(-lost - reach * 0.04, at, f"−{lost}", va="center", ha="right", color=BAD)
            axes.text(-0.02, at, _short(name, 21), transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.set_xlim(-reach * 1.35, reach * 1.35)
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks([])
        axes.set_xticks([])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel(label)

    return _svg(400, 27 * len(rows) + 40, draw, title, key="principles")


def curves_plot(
    title: str,
    curves: Sequence[tuple[str, str, Sequence[Sequence[tuple[float, float]]]]],
    looks: Sequence[float],
    unit: str,
    parts: Sequence[tuple[float, str]] = (),
) -> str:
    """Curves over training steps: (name, colour, lines of points). Ticks along the bottom: the watch looked there.

    `parts` are the rounds and phases: where each begins, and its name.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.14, 0.165, 0.82, 0.655))
        for at, (name, colour, lines) in enumerate(curves):
            few = sum(map(len, lines)) < 25
            for points in lines:
                xs, ys = zip(*points, strict=True)
                axes.plot(xs, ys, color=colour, linewidth=1.8, marker="o" if few else None, markersize=4,
                          dashes=[(None, None), (5, 2), (1.5, 1.5)][at % 3])  # fmt: skip
            figure.text(0.14 + 0.29 * at, 0.92, f"{'━┅┈'[at % 3]} {name}", color=colour)
        if looks:
            axes.plot(looks, [0.0] * len(looks), linestyle="", marker="|", markersize=9, markeredgewidth=1.4,
                      color=MUTED, transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
        for at, (start, name) in enumerate(parts):
            if at:
                axes.axvline(start + 0.5, color=MUTED, linewidth=1, dashes=(2, 3))
            axes.text(start + 0.5, 1.02, f" {name}", transform=axes.get_xaxis_transform(), color=MUTED)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        axes.yaxis.get_major_locator().set_params(nbins=5)
        if unit == "share":
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))
        axes.set_xlabel("training step")

    return _svg(400, 244, draw, f"{title} over training steps", key=title)


def _short(text: str, limit: int) -> str:
    shown = visible(text).replace("\n", "⏎")
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _svg(width: int, height: int, draw: Callable[[Any], None], title: str, *, key: str) -> str:
    """Draw on a figure of `width` × `height` CSS pixels and give the SVG element as text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {**matplotlib.rcParamsDefault, **_STYLE, "svg.hashsalt": key, "backend": "svg"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # Widths come from one font; the browser, which has others, draws the text.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        figure.patch.set_alpha(0.0)
        FigureCanvasSVG(figure)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _clean(buffer.getvalue(), title, re.sub(r"\W", "", key))


def _clean(text: str, title: str, prefix: str) -> str:
    root = ElementTree.fromstring(text)
    used = set(re.findall(r"(?:url\(#|xlink:href=\"#)([^)\"]+)", text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.replace(f"{{{_SVG}}}", "")
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            if name == "style":
                element.attrib.update(_attributes(value))
            elif name == "id":
                if value in used:
                    element.set("id", prefix + value)
            elif name.endswith("}href"):
                element.set("href", value.replace("#", f"#{prefix}", 1))
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))
    viewbox = root.get("viewBox", "")
    kept = {"viewBox": viewbox, "role": "img", "aria-label": title, "stroke-linejoin": "round", "class": "plot"}
    root.attrib.clear()
    root.attrib.update(kept)
    return ElementTree.tostring(root, encoding="unicode")


def _attributes(style: str) -> dict[str, str]:
    """The declarations of a style attribute as presentation attributes."""
    found: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found["font-size"] = size.group(1) if size else "11"
            if re.search(r"\b(bold|[6-9]00)\b", value):
                found["font-weight"] = "bold"
        elif name in _KEPT_STYLES and value:
            found[name] = value
    return found
