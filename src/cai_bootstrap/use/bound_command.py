"""Run as a file: become a command that ends when the process that started it does, however that one ends.

`python bound_command.py PARENT COMMAND …`, with the parent's process id. It is for commands of others, which know
nothing of `supervise.die_with_parent`; only the standard library is imported.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of Linux; it outlives `execv`

if __name__ == "__main__":
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(128 + signal.SIGKILL)
    os.execv(sys.argv[2], sys.argv[2:])
