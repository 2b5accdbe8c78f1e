"""The next step's process, started while a step works: Python and the libraries take seconds to be there.

Each step is a process of its own, so that a time limit, a crash or a full device ends that step alone. What every one
of them imports first (torch, transformers, PEFT, TRL: 5 to 9 s on a GPU machine) is the same, needs no GPU and no
configuration, and is imported meanwhile (`cli.waiting`). That process then waits for a line with the step's arguments;
without one it ends, as it does with its parent.
"""

import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from cai_bootstrap.supervise import Child, die_with_parent, start_child, step_command

AFTER_SECONDS = 8.0  # what works would have to share its processors while it imports the same
NEEDED_BYTES = 4 * 2**30  # of free memory: a waiting process takes about 0.8 GiB
# By name: nothing here depends on them.
MODULES = (
    "transformers", "peft", "cai_bootstrap.inference.open", "cai_bootstrap.training.trainer", "cai_bootstrap.steps.run",
)  # fmt: skip
FOUND_LATE = ("AutoModelForCausalLM", "AutoTokenizer")  # transformers imports these when they are asked for


def waiting_command(base: Path) -> list[str]:
    """The command of a process that waits; `base` tells a reader of the process list whose it is."""
    return [sys.executable, "-m", "cai_bootstrap.cli.waiting", str(base)]


class Standby:
    """At most one process that waits for a step, its output going to `log` until it has one."""

    def __init__(self, base: Path, log: Path) -> None:
        self._base, self._log = base, log
        self._waiting: Child | None = None

    def __enter__(self) -> "Standby":
        return self

    def __exit__(self, *_: object) -> None:
        """End a process that still waits."""
        self.end()

    def prepare(self, began: float) -> None:
        """Once a step that `began` (`time.monotonic`) is past its own start: a process that waits for the next one,
        where none does and there is memory for it."""
        import psutil

        early = time.monotonic() - began < AFTER_SECONDS
        if early or self._waiting is not None or psutil.virtual_memory().available < NEEDED_BYTES:
            return
        with contextlib.suppress(OSError):  # nothing depends on it
            self._waiting = start_child(waiting_command(self._base), self._log, asked=True)

    def start(self, command: Sequence[str], log: Path) -> Child:
        """`supervise.start_child`, by the process that waits where the command is a step's and there is one."""
        prefix = step_command([])
        child = self._waiting
        fits = list(command[: len(prefix)]) == prefix and not log.exists()
        if child is None or not fits or not self._handed(child, command[len(prefix) :]):
            self.end()
            return start_child(command, log)
        self._waiting = None
        self._log.replace(log)
        return child

    def end(self) -> None:
        """End a process that waits."""
        if self._waiting is not None:
            self._waiting.end()
            os.close(self._waiting.lifeline)
            self._log.unlink(missing_ok=True)
        self._waiting = None

    @staticmethod
    def _handed(child: Child, arguments: Sequence[str]) -> bool:
        pipe = child.process.stdin
        if pipe is None or child.process.poll() is not None:
            return False
        try:
            pipe.write(json.dumps(list(arguments)).encode() + b"\n")
            pipe.close()
        except OSError:
            return False
        return True


def wait() -> list[str] | None:
    """Import, then wait for a step's arguments; None if there is nothing to do."""
    die_with_parent()
    gc.disable()  # there is none in what is imported
    for name in MODULES:
        with contextlib.suppress(Exception):  # what is missing is the step's to tell
            module = import_module(name)
            if name == "transformers":
                _ = [getattr(module, found) for found in FOUND_LATE]
    gc.enable()
    asked = sys.stdin.readline()
    arguments: list[str] | None = json.loads(asked) if asked else None
    return arguments
