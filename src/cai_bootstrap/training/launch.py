"""Several processes that train together, one for each GPU: started, told to stop, ended, and heard.

They are started like those of `torchrun` (the same variables in the environment), but in this process's own group, so
that what ends a step ends them; and each dies by itself when the process that started it is gone. The first of them
writes checkpoints, events and the marker.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cai_bootstrap import errors
from cai_bootstrap.errors import CaiError, DeviceMemoryError
from cai_bootstrap.files import read_json
from cai_bootstrap.interpreter import python_command, python_environment
from cai_bootstrap.supervise import PARENT_PIPE
from cai_bootstrap.training.checkpoints import Checkpoint, read_success
from cai_bootstrap.training.rank_job import OUT_OF_MEMORY, RankJob, outcome_file, stop_file

POLL_SECONDS = 0.1


def launch(job: RankJob, say: Callable[[str], None], stopping: Callable[[], bool]) -> Checkpoint:
    """Train in `job.share.processes` processes, with half the batch from where one of them runs out of memory.

    Raises what the training raised in the process that failed first; nothing of them is left then.
    """
    job_file = job.folder / "work" / "job.json"
    say(f"{job.share.processes} processes train together, each {job.share.batch_size} pairs at once")
    while True:
        failed = _together(job, job_file, stopping)
        if failed is None:
            return read_success(job.folder)
        if failed[1] != OUT_OF_MEMORY:
            raise _error(job_file, *failed)
        share = job.share.halved()
        if share is None:
            raise DeviceMemoryError(
                "a GPU has not enough memory for its smallest batch of pairs; lower training.max_length"
            )
        say(f"out of memory: going on with {share.batch_size} pairs in each process, {share.accumulate} steps added up")
        job = replace(job, share=share)


def _together(job: RankJob, job_file: Path, stopping: Callable[[], bool]) -> tuple[int, int] | None:
    """Start all and wait for all. Returns the rank and exit code of the one that failed first, or None."""
    for stale in [stop_file(job_file), *job_file.parent.glob("outcome-*.json")]:
        stale.unlink(missing_ok=True)
    job.write(job_file)
    read_end, write_end = os.pipe()
    port, count = _free_port(), job.share.processes
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            environment = {
                "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
                **python_environment(
                    {
                        PARENT_PIPE: str(read_end),
                        "RANK": str(rank),
                        "LOCAL_RANK": str(rank),
                        "WORLD_SIZE": str(count),
                        "LOCAL_WORLD_SIZE": str(count),
                        "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": str(port),
                    }
                ),
            }
            command = python_command("cai_bootstrap.training.rank_main", str(job_file))
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[read_end]))
        return _wait(started, stopping, stop_file(job_file))
    finally:
        for process in started:
            process.kill()
            process.wait()
        os.close(read_end)
        os.close(write_end)


def _wait(
    started: "Sequence[subprocess.Popen[bytes]]", stopping: Callable[[], bool], stop: Path
) -> tuple[int, int] | None:
    while True:
        codes = [process.poll() for process in started]
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        if failed:
            # One that ran out of memory lets the others fail too.
            return next((failure for failure in failed if failure[1] == OUT_OF_MEMORY), failed[0])
        if None not in codes:
            return None
        if stopping() and not stop.exists():
            stop.touch()
        time.sleep(POLL_SECONDS)


def _error(job_file: Path, rank: int, code: int) -> CaiError:
    outcome = outcome_file(job_file, rank)
    if not outcome.exists():
        return CaiError(f"training process {rank} ended with exit code {code}, without saying why; start again")
    failure = read_json(outcome)
    error: CaiError = getattr(errors, failure["kind"], CaiError)(failure["message"])
    return error


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
