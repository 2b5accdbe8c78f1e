"""The steps of the constitution stage, one file each: answers → revisions → pairs → adapter → measured principles.

Start reading at `inputs.py`, then the step.
"""
