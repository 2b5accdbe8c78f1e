#!/usr/bin/env python
"""Measure the untrained base model on the held-out suite. The same as `cai baseline`."""

import sys

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.run import baseline

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], baseline, "baseline_assessment.py"))
