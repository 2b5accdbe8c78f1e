"""What a pod lists for fetching, entry by entry: good ones are fetched, bad ones named."""

import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from cai_bootstrap.pod.answers import Entry, Listing, excerpt, read
from cai_bootstrap.pod.errors import PodError, UnreadableError
from cai_bootstrap.pod.onpod.files import FOLDERS
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.printable import one_line

LIMIT_SECONDS = 3600.0
RECORD = "pulled.json"
MOST_NAME_BYTES, MOST_PATH_BYTES = 240, 3000  # rsync's temporary names are longer by some


@dataclass
class Listed:
    """A listing whose files can be fetched, and what of it is unreadable (one sentence each)."""

    pod_id: str | None
    job: str | None
    state: str
    files: dict[str, Entry] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def listing_of(remote: Remote) -> Listed:
    """What the pod has for fetching.

    Raises UnreadableError for an answer that is no listing, PodError for a path that leaves the fetched folders.
    """
    answer = remote.call("manifest", timeout=LIMIT_SECONDS)
    listing = read(Listing, answer, f"{remote.settings.address}: the listing of files")
    listed = Listed(listing.pod_id, listing.job, listing.state)
    listed.left_out = [one_line(name, 300) if isinstance(name, str) else excerpt(name) for name in listing.left_out]
    for number, fields in enumerate(listing.files):
        try:
            entry = _entry(fields, number)
        except UnreadableError as problem:
            listed.unreadable.append(str(problem))
            continue
        if entry.path == f"logs/{RECORD}":
            listed.left_out.append(entry.path)  # our own record of a pull has this place
        elif listed.files.setdefault(entry.path, entry) != entry:
            listed.unreadable.append(f"{shown_name(entry.path)}: listed twice, with another size or hash")
    _refuse_files_as_folders(listed)
    return listed


def _entry(fields: Any, number: int) -> Entry:
    path = fields.get("path") if isinstance(fields, dict) else None
    if isinstance(path, str):
        safe_name(path)
    what = f"entry {number} of the listing" + (f" ({shown_name(path)})" if isinstance(path, str) else "")
    entry = read(Entry, fields, what)
    try:
        parts = [os.fsencode(part) for part in PurePosixPath(entry.path).parts]
    except UnicodeEncodeError:
        raise UnreadableError(f"{what} is unreadable: its name cannot be that of a file") from None
    if max(map(len, parts)) > MOST_NAME_BYTES or sum(map(len, parts)) + len(parts) > MOST_PATH_BYTES:
        raise UnreadableError(f"{what} is unreadable: its name is too long for a file here")
    return entry


def _refuse_files_as_folders(listed: Listed) -> None:
    """`results/a` cannot be a file beside `results/a/b`."""
    for name in list(listed.files):
        for parent in PurePosixPath(name).parents:
            if str(parent) in listed.files:
                listed.unreadable.append(f"{shown_name(name)}: listed inside of {shown_name(str(parent))}, a file")
                del listed.files[name]
                break


def safe_name(name: Any) -> str:
    """A path from the pod, if it stays inside the fetched folders. Raises PodError otherwise."""
    if isinstance(name, str) and "\0" not in name:
        path = PurePosixPath(name)
        inside = not path.is_absolute() and ".." not in path.parts and len(path.parts) > 1 and path.parts[0] in FOLDERS
        if inside and str(path) == name:
            return name
    raise PodError(
        f"the pod lists {excerpt(name)}, which is not inside {', '.join(FOLDERS)}; nothing of it was fetched"
    )


def shown_name(name: str) -> str:
    """A pod's file name in a message: one line, of bounded length."""
    return one_line(name, 200)
