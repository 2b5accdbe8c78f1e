"""One self-contained HTML file of a run, two runs side by side, the live page.

Start reading at `build.py`.
"""
