"""`python -m cai_bootstrap.cli.waiting BASE`: a process that waits for a step of a run in BASE and becomes it."""

import sys

from cai_bootstrap.cli import main as cai
from cai_bootstrap.standby import wait


def main() -> None:
    """Wait, then be the step."""
    arguments = wait()
    if arguments is not None:
        sys.argv[1:] = ["step", *arguments]
        cai()


if __name__ == "__main__":
    main()
