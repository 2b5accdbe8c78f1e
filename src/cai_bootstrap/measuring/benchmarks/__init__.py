"""IFEval and IFBench: other people's prompts, judged by their own strict checkers, before and after training.

Start reading at `checkers.py`.
"""
