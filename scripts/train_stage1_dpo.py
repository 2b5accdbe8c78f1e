#!/usr/bin/env python
"""Train LoRA adapters with DPO on the preference pairs. The same as `cai train`."""

from cai_bootstrap.__main__ import main

if __name__ == "__main__":
    main(command="train", name="train_stage1_dpo.py")
