#!/usr/bin/env python
"""All of Stage 1: baseline, generate, train, evaluate, gate, report. The same as `cai run`."""

import sys

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.run import run

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], run, "run_stage1_pipeline.py"))
