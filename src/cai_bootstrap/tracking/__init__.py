"""A run told to an experiment tracker while it goes on, by a process of its own that reads the run's events.

Start reading at `live.py`, then `follow.py`.
"""
