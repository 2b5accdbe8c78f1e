"""What a run needs before anything of it is loaded: memory by arithmetic, time and money from measured rates.

Start reading at `plan.py`.
"""
