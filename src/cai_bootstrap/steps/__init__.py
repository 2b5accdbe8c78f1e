"""The body of each step, one file each: read files, do the work, write files. A step runs in a process of its own.

Start reading at `context.py`, then the step.
"""
