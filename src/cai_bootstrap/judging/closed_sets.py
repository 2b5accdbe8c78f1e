"""Closed sets of answers: to name another member of the set is to answer wrongly ("Rome" where "Paris" is asked)."""

from functools import cache
from pathlib import Path

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import read_json


def closed_set(name: str) -> tuple[tuple[str, ...], ...]:
    """A closed set of answers: one row per member, canonical name first, then its aliases.

    Raises UsageError naming the known sets.
    """
    if name not in closed_set_names():
        raise UsageError(f"unknown closed set {name!r}; one of {', '.join(closed_set_names())}")
    return _closed_sets()[name]


def closed_set_names() -> tuple[str, ...]:
    """The names that `closed_set` knows."""
    return tuple(_closed_sets())


@cache
def _closed_sets() -> dict[str, tuple[tuple[str, ...], ...]]:
    raw = read_json(Path(__file__).with_name("closed_sets.json"))
    return {name: tuple(tuple(row) for row in rows) for name, rows in raw.items()}
