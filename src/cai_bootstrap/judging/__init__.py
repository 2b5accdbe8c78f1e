"""Judging: one answer in, one verdict out. The frozen suite, its scorers, and the statistics of verdicts.

Start reading at `scorers/__init__.py`.
"""
