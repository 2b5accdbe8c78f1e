"""A rented GPU pod: ssh, the detached job, watchdog, money, RunPod. What a pod sends is read by `answers.py` alone.

Start reading at `deploy.py`.
"""
