"""Prompts of a user's file: which column of its rows holds them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.rows import PLAIN, Wanted, read_rows

COLUMNS = ("prompt", "instruction", "text", "question", "messages")
Cells = Iterator[tuple[int, object]]


def choose_column(names: Sequence[str], column: str | None, source: str) -> str:
    """The column to read: the named one, else the first of `COLUMNS`. Raises UsageError naming those there are."""
    present = ", ".join(names) or "none"
    if column is not None and column not in names:
        raise UsageError(f"{source}: no column '{column}'; there are: {present}")
    chosen = column or next((known for known in COLUMNS if known in names), None)
    if chosen is None:
        raise UsageError(
            f"{source}: none of its columns is called {', '.join(COLUMNS)}; there are: {present}. "
            "Name the one with the prompts: --prompt-column NAME"
        )
    return chosen


def read_prompt_file(path: Path, column: str | None) -> Cells:
    """The cells of a file's prompt column with their places, in the file's order; the file's ending says its format.

    Raises UsageError, before the first cell or at the line at fault: the file is empty, has another ending, is no
    UTF-8 text (with line and byte) or not of its format, or lacks the column (with those it has).
    """

    if column is not None and path.suffix.lower() in PLAIN:
        raise UsageError(f"{path}: plain text, one prompt a line, has no columns; leave --prompt-column out")
    wanted = Wanted(
        lambda names, where: (choose_column(names, column, where),), "prompt", '{"prompt": "…"}', texts=True, fewest=50
    )
    return ((place, _cell(row, column, f"{path}: line or entry {place}")) for place, row in read_rows(path, wanted))


def _cell(row: str | Mapping[str, object], column: str | None, where: str) -> object:
    if not isinstance(row, str):
        return next(iter(row.values()), None)
    if column is not None:
        raise UsageError(f"{where}: a text alone, which has no column '{column}'; leave --prompt-column out")
    return row
