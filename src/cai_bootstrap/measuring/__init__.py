"""Measuring: both sides under recorded conditions, the results file, what the gate demands, the ledger of openings.

Start reading at `results.py`.
"""
