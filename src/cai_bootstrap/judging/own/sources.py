"""Files of own scorers: read, hashed, and run only where a person on this machine trusts their very content.

A suite or a constitution may come from anybody, so that it names a file is no consent. Consent is a copy of the source
in the user's own configuration folder, under its hash (`cai trust FILE` makes it), or the hash in the variable
CAI_TRUSTED_SCORERS. Nothing in a suite, a constitution, a preset, a results file or a run can give it, and a file that
changes loses it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import write_atomic
from cai_bootstrap.judging.own.names import OwnName, path_fault

TRUSTED_VARIABLE = "CAI_TRUSTED_SCORERS"
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Source:
    """The whole text of a module: what is hashed is what runs. `name` is its path as named, `place` where it lay.

    A byte order mark is part of `text`, so that it can be written out under its hash, and no part of `code`.
    """

    name: str
    text: str
    sha256: str
    place: Path

    @property
    def code(self) -> str:
        """What Python compiles."""
        return self.text.removeprefix("\ufeff")


def source_of(name: OwnName, folder: Path) -> Source:
    """The source that a file in `folder` names, trusted or not; a pinned one may lie in the user's own folder alone.

    Nothing of it is run. Raises UsageError for a path that leads elsewhere, a file that is missing or not readable, or
    another source than the pinned one.
    """
    if fault := path_fault(name.path):
        raise UsageError(f"{name}: {fault}")
    place = folder / name.path
    if name.sha256 is not None and not _is_file(place) and (kept := trusted_source(name.sha256, name.path)):
        return kept
    source = read_source(place, name.path)
    if name.sha256 not in (None, source.sha256):
        raise UsageError(
            f"{name.path}:{name.function} is pinned to the source {str(name.sha256)[:12]}…, and {place} has "
            f"{source.sha256[:12]}…; take that source again, or name it without '@…'"
        )
    return source


def read_source(place: Path, name: str | None = None) -> Source:
    """The text of a module. Raises UsageError for a file that is missing, too long, or no text in UTF-8."""
    if not _is_file(place):
        raise UsageError(
            f"{place}: no such file; a scorer of your own is named by {place.name}:FUNCTION, the path relative to the "
            "file that names it"
        )
    try:
        with place.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{place}: more than {MOST_BYTES // 1_000_000} MB; scorers of your own are one small file")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{place}: not readable as Python source: {error}") from error
    return Source(name or place.name, text, hashlib.sha256(content).hexdigest(), place.absolute())


def _is_file(place: Path) -> bool:
    """Whether there is such a file. Raises UsageError where its path cannot be looked at: it may be too long."""
    try:
        return place.is_file()
    except OSError as error:
        raise UsageError(f"{place}: not readable as Python source: {error.strerror}") from error


def is_trusted(source: Source) -> bool:
    """Whether a person on this machine said that this very source may run."""
    return source.sha256 in _named_by_variable() or trusted_source(source.sha256, source.name) is not None


def must_be_trusted(source: Source) -> None:
    """Raises UsageError for a source that nobody on this machine trusts, saying how to read and trust it."""
    if not is_trusted(source):
        raise UsageError(
            f"{source.place}: this is code, it is not trusted on this machine, and nothing of it was run. It would run "
            f"with your rights. Read it; if you trust it: cai trust {source.place}"
        )


def trusted_source(sha256: str, name: str) -> Source | None:
    """The copy of a trusted source; None if there is none, or what lies under its hash was changed."""
    place = trusted_folder() / f"{sha256}.py"
    try:
        source = read_source(place, name)
    except UsageError:
        return None
    return source if source.sha256 == sha256 else None


def trust(source: Source) -> None:
    """Keep a copy of a source: from now on it may run. Raises UsageError if that cannot be written."""
    folder = trusted_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(folder / f"{source.sha256}.py", source.text.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"{folder}: the trusted source cannot be kept: {error}") from error


def distrust(sha256: str) -> bool:
    """Remove the copy of a source; whether there was one."""
    place = trusted_folder() / f"{sha256}.py"
    there = place.exists()
    place.unlink(missing_ok=True)
    return there


def trusted_hashes() -> list[str]:
    """The hashes of the sources that are trusted, those of the variable too."""
    copies = {place.stem for place in trusted_folder().glob("*.py") if trusted_source(place.stem, place.name)}
    return sorted(copies | _named_by_variable())


def trusted_folder() -> Path:
    """Where the copies of trusted sources lie: the user's own configuration, never a base directory or a cache."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home).expanduser().absolute() / "cai-bootstrap" / "trusted_scorers"


def _named_by_variable() -> set[str]:
    return {word for word in os.environ.get(TRUSTED_VARIABLE, "").replace(",", " ").split() if len(word) == 64}
