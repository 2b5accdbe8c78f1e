"""Values that come from a file, in a sentence of ours: escaped where they cannot be printed, and never a line more."""

from typing import Any

_LONGEST = 120  # characters


def short(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def one_line(text: str) -> str:
    """A sentence in one line: a line break in an item's id must not begin a line that reads like a verdict."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
