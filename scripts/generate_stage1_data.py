#!/usr/bin/env python
"""Let the model make its own preference pairs. The same as `cai generate`."""

import sys

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.run import generate

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], generate, "generate_stage1_data.py"))
