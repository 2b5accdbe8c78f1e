#!/usr/bin/env python
"""Let the model make its own preference pairs. The same as `cai generate`."""

from cai_bootstrap.__main__ import main

if __name__ == "__main__":
    main(command="generate", name="generate_stage1_data.py")
