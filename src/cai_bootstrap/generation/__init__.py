"""A base model makes its own preference pairs: prompts, candidates, critiques, revisions, selection.

Start reading at `passes.py`.
"""
