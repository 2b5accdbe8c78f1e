"""Text that others wrote, on the screen: what cannot be seen is made visible, and nothing becomes markup.

Names, paths and values come from files; an escape sequence in one must not reach the terminal, and `[/b]` in a suite's
name must not end the screen in an error.
"""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
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
