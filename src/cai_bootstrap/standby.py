"""The next step's process, started while a step works: Python and the libraries take seconds to be there.

Each step is a process of its own, so that a time limit, a crash or a full device ends that step alone. What every one
of them imports first (torch, transformers, PEFT: 5 to 9 s on a GPU machine) is the same, needs no GPU and no
configuration, and is imported meanwhile (`cli.waiting`). That process then says that it is ready and waits for a line
with the step's arguments. One that is not ready, or not sound, is ended, and the step starts as it would without.
"""

import contextlib
import json
import os
import socket
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from cai_bootstrap.interpreter import python_command
from cai_bootstrap.supervise import Child, start_child, step_command

AFTER_SECONDS = 8.0  # earlier, the standby's imports would slow the running step, which is importing the same
NEEDED_BYTES = 4 * 2**30  # of free memory, to start a process that waits; it takes about 0.8 GiB
SCARCE_BYTES = 2**30  # with less it is ended again
READY = b"\n"  # what a process says when all is imported
CGROUP = Path("/sys/fs/cgroup")


def waiting_command(base: Path) -> list[str]:
    """The command of a process that waits; `base` tells a reader of the process list whose it is."""
    return python_command("cai_bootstrap.cli.waiting", str(base))


class Standby:
    """At most one process that waits for a step, its output going to `log` until it has one; none if not `enabled`."""

    def __init__(self, base: Path, log: Path, *, enabled: bool = True) -> None:
        self._base, self._log, self._enabled = base, log, enabled
        self._waiting: Child | None = None
        self._line: socket.socket | None = None  # to its stdin, which is the other end
        self._since = 0.0

    def __enter__(self) -> "Standby":
        return self

    def __exit__(self, *_: object) -> None:
        """End a process that still waits."""
        self.end()

    def prepare(self, seconds: float) -> None:
        """After so many seconds of a step, once it is past its own start: a process that waits for the next one,
        where there is memory for it. It is ended when memory becomes scarce."""
        if not self._enabled or seconds < AFTER_SECONDS:
            return
        with contextlib.suppress(OSError):  # nothing depends on it
            free = free_memory()
            if self._waiting is not None and free < SCARCE_BYTES:
                self.end()
            elif self._waiting is None and free > NEEDED_BYTES:
                self._start()

    def start(self, command: Sequence[str], log: Path) -> Child:
        """`supervise.start_child`, by the process that waits where it is ready and the command is a step's."""
        child, self._waiting = self._waiting, None
        handed = False
        try:
            handed = child is not None and self._hand(child, command, log)
        except OSError:
            log.unlink(missing_ok=True)
        finally:
            self._clear(None if handed else child)
        return child if child is not None and handed else start_child(command, log)

    def end(self) -> None:
        """End a process that waits."""
        child, self._waiting = self._waiting, None
        self._clear(child)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._since = time.time()
                self._waiting = start_child(waiting_command(self._base), self._log, stdin=theirs.fileno())
        except OSError:
            ours.close()
            raise
        self._line = ours

    def _is_ready(self, child: Child) -> bool:
        if self._line is None or child.process.poll() is not None:
            return False
        self._line.setblocking(False)
        try:
            return self._line.recv(1) == READY
        except BlockingIOError:
            return False

    def _hand(self, child: Child, command: Sequence[str], log: Path) -> bool:
        """Whether the process has become the command, its log `log`. After an OSError neither is to be used."""
        prefix = step_command([])
        fits = list(command[: len(prefix)]) == prefix and not log.exists() and not changed_since(self._since)
        if not fits or self._line is None or not self._is_ready(child):
            return False
        self._log.replace(log)
        self._line.setblocking(True)
        self._line.sendall(json.dumps(list(command[len(prefix) :])).encode() + b"\n")
        return True

    def _clear(self, child: Child | None) -> None:
        """Close the line, and leave nothing of a process that nobody needs any more."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if child is not None:
            try:
                child.end()
            finally:
                os.close(child.lifeline)
        with contextlib.suppress(OSError):
            self._log.unlink(missing_ok=True)


def free_memory() -> int:
    """Bytes that this process could still take: of the machine, and of its container where that has a limit."""
    import psutil

    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no second version of control groups, or no limit: "max"
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        cached = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(cached.get("inactive_file", 0)))
    with contextlib.suppress(OSError, ValueError):  # the first version
        limit = int((CGROUP / "memory/memory.limit_in_bytes").read_text())
        used = int((CGROUP / "memory/memory.usage_in_bytes").read_text())
        free = min(free, limit - used)
    return free


def changed_since(moment: float) -> bool:
    """This package's code, or what is installed beside it, has changed after `moment` (`time.time`)."""
    code = Path(__file__).parent.rglob("*.py")
    installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    return any(path.stat().st_mtime > moment for path in (*code, *installed) if path.exists())
