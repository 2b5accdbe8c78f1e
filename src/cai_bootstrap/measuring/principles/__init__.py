"""Measuring principles: the arms asked, the judges calibrated, what each principle's rates show, what changed beside.

Start reading at `arms.py`, then `results.py`.
"""
