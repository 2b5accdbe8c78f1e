"""A table as the page shows it: a caption, headings, and rows whose first cell is the row's heading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.servers import ServedModel

MOST_ROWS = 40


@dataclass(frozen=True)
class Table:
    """`folded`: shown closed, to be opened by the reader (print opens it). `note` stands under the table."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = False
    note: str = ""


def thinned(rows: Sequence[Sequence[Any]], most: int = MOST_ROWS) -> list[Sequence[Any]]:
    """At most `most` rows, evenly chosen, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(at * (len(rows) - 1) / (most - 1))] for at in range(most)]


def number(value: Any) -> str:
    """A number for reading: thousands separated, four significant digits; a dash for none."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return (f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}").replace("-", "−")
    return str(value)


def served(caption: str, model: ServedModel) -> Table:
    """A model that answered at an address: what was declared of it, and what it was asked."""
    note = "Tokens are as the server counted them. Of its model and precision nothing can be seen from outside."
    return Table(caption, ["What", "Value"], model.rows(), note=note)


def condition_rows(conditions: Conditions) -> list[tuple[str, object]]:
    """Every condition of a measurement with its value, nested ones as `versions.torch`."""
    rows: list[tuple[str, object]] = []
    for name, value in conditions:
        if isinstance(value, dict):
            rows += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            rows.append((name, value))
    return rows
