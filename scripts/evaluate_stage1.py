#!/usr/bin/env python
"""Measure base and trained model on the same held-out suite, and judge the result. The same as `cai evaluate`."""

import sys

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.run import evaluate

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], evaluate, "evaluate_stage1.py"))
