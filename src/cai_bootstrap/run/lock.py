"""One run at a time holds a base directory."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cai_bootstrap.errors import DataError, LockedError, UsageError
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.run.folder import RunFolder

SILENT_WAIT = 5.0  # seconds


@contextlib.contextmanager
def hold(workspace: RunFolder, what: str, *, name: str = "run", patience: float = 0.0) -> Iterator[None]:
    """Hold the base directory for one run; the lock ends with the process, however that ends.

    `name` tells apart the two locks of a base directory: `run` is held by the command, `step` by the process that does
    a step's work, so that a new run cannot start while a step of a killed one still dies. `patience` is in seconds.
    Raises LockedError naming the holder.
    """
    path = workspace.base / f".{name}.lock"
    holder = workspace.base / f".{name}.holder.json"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise LockedError(f"{workspace.base}: {_describe_holder(holder)}; wait for it or stop it first") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be locked: {error.strerror}") from error
    try:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "what": what, "started": started})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def waiting_lock(path: Path, what: str, *, patience: float = 600.0) -> Iterator[None]:
    """Hold a lock that others hold for a short while; `what` it guards. After 5 s of waiting stderr says for whom.

    Raises LockedError after `patience` seconds, and OSError where no lock can be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=min(SILENT_WAIT, patience))
    except Timeout:
        print(f"waiting for {what}: another process holds {path}", file=sys.stderr, flush=True)
        try:
            lock.acquire(timeout=max(0.0, patience - SILENT_WAIT))
        except Timeout as error:
            raise LockedError(
                f"{path}: another process has held {what} for {patience:.0f} s; stop it, or remove that file if none "
                "is there (a file system without locks keeps it after a kill)"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _describe_holder(path: Path) -> str:
    try:
        known = read_json(path)
        return f"held by {known['what']} (process {known['pid']} on {known['host']}, since {known['started']})"
    except (DataError, KeyError, TypeError):
        return "held by another run that has just started or is ending"
