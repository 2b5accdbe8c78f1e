"""The trained model in hand: ask it, take it elsewhere, and see whether this machine can do either.

Start reading at `export.py`.
"""
