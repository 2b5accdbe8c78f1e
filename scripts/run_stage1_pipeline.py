#!/usr/bin/env python
"""All of Stage 1: baseline, generate, train, evaluate, gate, report. The same as `cai run`."""

from cai_bootstrap.__main__ import main

if __name__ == "__main__":
    main(command="run", name="run_stage1_pipeline.py")
