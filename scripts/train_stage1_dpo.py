#!/usr/bin/env python
"""Train LoRA adapters with DPO on the preference pairs. The same as `cai train`."""

import sys

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.run import train

if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], train, "train_stage1_dpo.py"))
