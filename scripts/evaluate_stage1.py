#!/usr/bin/env python
"""Measure base and trained model on the same held-out suite, and judge the result. The same as `cai evaluate`."""

from cai_bootstrap.__main__ import main

if __name__ == "__main__":
    main(command="evaluate", name="evaluate_stage1.py")
