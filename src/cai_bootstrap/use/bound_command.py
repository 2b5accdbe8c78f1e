"""Run as a file: run a Python script that ends when the process that started it does, however that one ends.

`python bound_command.py PARENT SCRIPT ARGUMENT …`, with the parent's process id. It is for scripts of others, which
know nothing of `supervise.die_with_parent`; only the standard library is imported.
"""

import contextlib
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # of Linux

if __name__ == "__main__":
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(128 + signal.SIGKILL)
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
