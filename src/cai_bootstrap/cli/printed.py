"""Text that others wrote, on the screen: what cannot be seen is made visible, and nothing becomes markup.

Names, paths and values come from files; an escape sequence in one must not reach the terminal, and `[/b]` in a suite's
name must not end the screen in an error.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def say(message: Any, *, err: bool = False) -> None:
    """Print a message in a line of its own; the message may have several."""
    from cai_bootstrap.printable import visible

    click.echo(visible(str(message)), err=err)


def line(value: Any) -> str:
    """A value in one line: a line break in a name must not begin a line that reads like one of ours."""
    from cai_bootstrap.printable import visible

    return visible(str(value)).replace("\n", "⏎")


def text(value: Any, *, style: str = "") -> "Text":
    """A value as rich prints it: in one line, as it stands, and not as markup."""
    from rich.text import Text

    return Text(line(value), style=style)


def table(
    *headings: str, rows: Iterable[Sequence[Any]], title: str | None = None, ruled: bool = False, left: bool = True
) -> "Table":
    """A table whose cells are texts of others; the column of a heading such as `>items` is flush right.

    `ruled` draws a line between rows. A cell that is a `Text` already stays as it is.
    """
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        title=None if title is None else text(title, style="table.title"),
        title_justify="left" if left else "center",
        show_lines=ruled,
    )
    for heading in headings:
        grid.add_column(
            text(heading.removeprefix(">")), justify="right" if heading.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return grid
