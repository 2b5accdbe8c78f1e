"""How a suite or a constitution names a function of the user's own: `my_scorers.py:ends_politely`.

Once the file is read, the name is pinned to its source, `my_scorers.py:ends_politely@1f2e…` (the SHA-256 of the whole
file). The pinned name stands in the items and rules themselves, so it is part of every hash of them: of the suite, the
constitution, the conditions of a measurement. A user may write a pinned name too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

FORM = "FILE.py:FUNCTION, the file's path relative to the file that names it"
_NAME = re.compile(r"(?P<path>[^\s:@\\\"']+\.py):(?P<function>[A-Za-z_]\w*)(?:@(?P<sha256>[0-9a-f]{64}))?")
_KEYS = ("scorer", "check", "judge")


@dataclass(frozen=True)
class OwnName:
    """`path` is relative, in POSIX form; `sha256` is that of the file, None where the name is not pinned."""

    path: str
    function: str
    sha256: str | None = None

    def __str__(self) -> str:
        pin = "" if self.sha256 is None else f"@{self.sha256}"
        return f"{self.path}:{self.function}{pin}"


def own_name(name: object) -> OwnName | None:
    """The parts of a name of that form; None for any other value, a shipped scorer's name for one."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    return OwnName(match["path"], match["function"], match["sha256"])


def path_fault(path: str) -> str | None:
    """Why a module's path is not one below the folder of the file that names it, or None."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or path.startswith("~"):
        return f"{path} is an absolute path; put the file beside the one that names it, so that both travel together"
    if ".." in pure.parts:
        return f"{path} leads out of the folder of the file that names it; put it there or below"
    return None


def plain(name: str) -> str:
    """A scorer's or check's name as a person wrote it, without the hash of its source."""
    own = own_name(name)
    return name if own is None else f"{own.path}:{own.function}"


def names_in(value: Any) -> Iterator[OwnName]:
    """The names of own functions in suite items, a rule or a whole constitution, as plain JSON or YAML values.

    Only what stands under `scorer`, `check` or `judge` is a name: an instruction may hold any text. A part that stands
    at many places (an alias in YAML) is looked at once.
    """
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or not isinstance(part, Mapping | list | tuple):
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            named = (own_name(inner) for key, inner in part.items() if key in _KEYS)
            yield from (name for name in named if name is not None)
        waiting += part.values() if isinstance(part, Mapping) else part
