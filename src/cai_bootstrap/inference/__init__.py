"""Running a causal language model: one `Engine` protocol and the engines behind it.

Start reading at `engine.py`, then `open.py`.
"""
