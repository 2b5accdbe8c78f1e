"""Files of the pod: what there is to fetch with its hashes, fetching without rsync, removing what a push left out."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypedDict

from .state import Control

FOLDERS = ("results", "data", "checkpoints", "logs")
BLOCK = 1 << 20


class Entry(TypedDict):
    """One file to fetch: its path relative to the base directory, bytes, SHA-256."""

    path: str
    size: int
    sha256: str


class Manifest(TypedDict):
    """What there is to fetch, and the names of what is left out; the pod's id tells its files from another rental's."""

    pod_id: str | None
    files: list[Entry]
    left_out: list[str]


class Tree(TypedDict):
    """What lies in the code folder: hash of all, count of files, and names that did not arrive."""

    sha256: str
    files: int
    missing: list[str]


def hash_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; a symlink is not followed."""
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source:
        for block in iter(lambda: source.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _walk(top: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        yield Path(entry.path), status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(Path(entry.path))


def manifest(control: Control) -> Manifest:
    """Every regular file under the fetched folders: path relative to the base, size and SHA-256; and what was left out.

    With the pod's id, by which files of another rental are known.

    Symlinks and special files are named in `left_out`, never followed.
    """
    base = control.base
    files: list[Entry] = []
    left_out: list[str] = []
    for folder in FOLDERS:
        top = base / folder
        if top.is_symlink():
            left_out.append(folder)
            continue
        for path, status in _walk(top):
            name = os.path.relpath(path, base)
            if stat.S_ISREG(status.st_mode):
                if path.name.endswith((".lock", ".tmp")):
                    continue
                try:
                    files.append({"path": name, "size": status.st_size, "sha256": hash_of(path)})
                except FileNotFoundError:
                    continue
                except OSError as error:
                    left_out.append(f"{name} ({error.strerror})")
            elif not stat.S_ISDIR(status.st_mode):
                left_out.append(name)
    return {"pod_id": control.pod_id(), "files": files, "left_out": left_out}


def pack(base: Path, names: list[str], target: BinaryIO) -> None:
    """Write the named files, relative to `base`, as a tar stream. Raises ValueError for a name that leaves `base`."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            path = base / name
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise ValueError(f"not under the base directory: {name!r}")
            if path.is_file() and not path.is_symlink():
                archive.add(str(path), arcname=name, recursive=False)


def unpack(folder: Path, source: BinaryIO) -> None:
    """Write a tar stream of regular files into a folder. Raises ValueError for anything else in it."""
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            if not member.isfile() or os.path.isabs(member.name) or ".." in Path(member.name).parts:
                raise ValueError(f"not a plain file under the code folder: {member.name!r}")
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            partial = path.with_name(f".{path.name}.part")
            with open(partial, "wb") as target:
                shutil.copyfileobj(content, target, BLOCK)
            os.chmod(partial, member.mode & 0o755)
            os.utime(partial, (member.mtime, member.mtime))
            os.replace(partial, path)


def folder_of(base: Path, named: list[str]) -> Path:
    """The folder that a push or an input fills: `code`, or `inputs/NAME`. Raises ValueError for any other."""
    name = named[0] if named else "code"
    if name != "code" and not re.fullmatch(r"inputs/[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ValueError(f"nothing is sent into {name!r}")
    return base / name


def tree(folder: Path, names: list[str]) -> Tree:
    """Remove what is not in `names` from a folder that was sent (never `.git`), and hash what remains.

    Returns `sha256` (of the sorted "hash  path" lines), the count of `files`, and `missing` names.
    """
    pushed: set[str] = set(names)
    for path, status in sorted(_walk(folder), reverse=True):
        name = os.path.relpath(path, folder)
        if name == ".git" or name.startswith(".git" + os.sep):
            continue
        if stat.S_ISDIR(status.st_mode):
            if not os.listdir(path):
                path.rmdir()
        elif name not in pushed:
            path.unlink()
    digest = hashlib.sha256()
    missing = []
    for name in sorted(pushed):
        try:
            digest.update((f"{hash_of(folder / name)}  {name}\n").encode("utf-8", "surrogateescape"))
        except OSError:
            missing.append(name)
    return {"sha256": digest.hexdigest(), "files": len(pushed) - len(missing), "missing": missing}
