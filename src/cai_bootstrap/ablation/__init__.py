"""Ablations: a named set of variations of a run, measured on dev, that says what the gain comes from.

Start reading at `run.py`.
"""
