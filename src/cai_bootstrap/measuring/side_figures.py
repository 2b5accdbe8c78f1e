"""The figures that stand beside a rate and never gate: untrained skills, facts, and success against length."""

from collections.abc import Mapping
from typing import Any

from cai_bootstrap.measuring.results import percent

NOTE = (
    "Whole output (of a prompted base: what its stop rule left). None of these gates. Facts are parted by whether the "
    "untrained base can be brought to tell them by prompting. A scorer that length pleases would show a correlation."
)


def beside(results: Mapping[str, Any], side: str) -> dict[str, Any]:
    """One side of a results file that was read: `held_out_skills`, `facts` (None without flags) and `length`."""
    summary = results["models"][side]
    return {
        "held_out_skills": summary["held_out_skills"],
        "facts": summary.get("facts"),
        "length": results["statistics"]["length"][side],
    }


def beside_rows(sides: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each figure, with a cell for each of the sides' figures (`beside`); no row where no side has one."""
    made = [["Held-out skills", *(_rate(side["held_out_skills"]) for side in sides)]]
    for part, label in (("elicitable", "Facts that prompting brings out"), ("others", "Other facts")):
        made.append([label, *(_rate((side["facts"] or {}).get(part)) for side in sides)])
    for outcome in ("followed", "failed"):
        made.append([f"Mean words, {outcome}", *(_words(side["length"][f"mean_words_{outcome}"]) for side in sides)])
    correlations = (_correlation(side["length"]["correlation"]) for side in sides)
    made.append(["Correlation of success with length", *correlations])
    return [row for row in made if any(cell != "–" for cell in row[1:])]


def _rate(found: Mapping[str, Any] | None) -> str:
    if not found or not found["total"]:
        return "–"
    return f"{percent(found['successes'], found['total'])} ({found['successes']}/{found['total']})"


def _words(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.1f}"


def _correlation(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
