"""`python -m cai_bootstrap.cli.waiting BASE`: a process that waits for a step of a run in BASE and becomes it.

The other side of `standby`: on stdin it has a line to the run's process.
"""

import json
import signal
import socket
import sys
from importlib import import_module

from cai_bootstrap.cli import main as cai
from cai_bootstrap.standby import READY
from cai_bootstrap.supervise import die_with_parent

# What every step imports, by name: the command line itself loads no model.
MODULES = (
    "transformers", "peft", "cai_bootstrap.inference.open", "cai_bootstrap.training.trainer", "cai_bootstrap.steps.run",
)  # fmt: skip
IMPORTED_LATE = ("AutoModelForCausalLM", "AutoTokenizer")  # transformers imports these when they are asked for


def wait() -> list[str] | None:
    """Import, say that all is there, and wait for a step's arguments; None if there is nothing to do.

    Raises what an import raised: half of a library cannot be imported once more, so this process is no good.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an exception in the middle of anything could be swallowed there
    for name in MODULES:
        module = import_module(name)
        if name == "transformers":
            _ = [getattr(module, late) for late in IMPORTED_LATE]
    with socket.socket(fileno=sys.stdin.fileno()) as line:
        line.sendall(READY)
        asked = line.makefile("r", encoding="utf-8").readline()
        line.detach()  # stdin stays open, and ended, as a step has it
    arguments: list[str] | None = json.loads(asked) if asked.endswith("\n") else None
    return arguments


def main() -> None:
    """Wait, then be the step."""
    arguments = wait()
    if arguments is not None:
        sys.argv[1:] = ["step", *arguments]
        cai()


if __name__ == "__main__":
    main()
