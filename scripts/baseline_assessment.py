#!/usr/bin/env python
"""Measure the untrained base model on the held-out suite. The same as `cai baseline`."""

from cai_bootstrap.__main__ import main

if __name__ == "__main__":
    main(command="baseline", name="baseline_assessment.py")
