"""`python -m cai_bootstrap.cli.following TRACKER CONFIG RUN`: tells a run to a tracker while it goes on.

The other side of `tracking.live`: stdin is the line to the run's process, which says there that the run is over.
"""

import os
import signal
import sys
from pathlib import Path

NICENESS = 10  # the run has the machine


def main() -> int:
    """Follow one run to its end; 0 if all was told."""
    name, config_file, run = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    from cai_bootstrap.cli.options import folder_of
    from cai_bootstrap.config import resolve
    from cai_bootstrap.run.lock import hold
    from cai_bootstrap.tracking.follow import ORPHAN_SECONDS, Follower

    config = resolve(config_file=Path(config_file), environment={}).config
    workspace = folder_of(config)
    # The process of a killed run may still close its tracker.
    with hold(workspace, f"telling run {run} to {name}", name="track", patience=2 * ORPHAN_SECONDS):
        return Follower(name, workspace, config, run).follow(sys.stdin.buffer)


if __name__ == "__main__":
    sys.exit(main())
