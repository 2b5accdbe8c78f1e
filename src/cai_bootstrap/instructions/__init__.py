"""The training pool: templates and words (data), sampler, exemplars, leakage, diversity.

Start reading at `sampler.py`.
"""
