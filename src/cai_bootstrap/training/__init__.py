"""From pairs to an adapter: token ids, preflight, DPO and SFT, the watch for collapse, checkpoints.

Start reading at `train.py`.
"""
