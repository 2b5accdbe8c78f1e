"""A run on disk: its files by round and name, the markers of its steps, its lock, and what it was made of.

Start reading at `folder.py`.
"""
