"""Several processes that train together, one for each GPU: started, told to stop, ended, and heard.

They are started like those of `torchrun` (the same variables in the environment), but in this process's own group, so
that what ends a step ends them; and each dies by itself when the process that started it is gone. The first of them
writes checkpoints, events and the marker.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_bootstrap import errors
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import CaiError
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.transformers_engine import is_out_of_memory
from cai_bootstrap.interpreter import python_command, python_environment
from cai_bootstrap.records import EvalItem, PreferencePair
from cai_bootstrap.supervise import PARENT_PIPE, die_with_parent
from cai_bootstrap.training.batch_split import Share, share_of
from cai_bootstrap.training.checkpoints import Checkpoint, read_success

if TYPE_CHECKING:
    from cai_bootstrap.training.train import TrainingRun

POLL_SECONDS = 0.1
OUT_OF_MEMORY = 70  # a process's exit code


def launch(run: "TrainingRun", pairs: Sequence[PreferencePair], processes: int) -> Checkpoint:
    """Train in `processes` processes, with half the batch from where one of them runs out of memory.

    Raises what the training raised in the process that failed first; nothing of them is left then.
    """
    share: Share | None = share_of(run.config.training, processes)
    run.progress.say(f"{processes} processes train together, each {share.batch_size if share else 0} pairs at once")
    while share is not None:
        failed = _together(run, pairs, share)
        if failed is None:
            return read_success(run.folder)
        if failed[1] != OUT_OF_MEMORY:
            raise _error(run.folder / "work", *failed)
        share = share.halved()
        if share is not None:
            run.progress.say(
                f"out of memory: going on with {share.batch_size} pairs in each process, {share.accumulate} steps "
                "added up"
            )
    raise CaiError("a GPU has not enough memory for its smallest batch of pairs; lower training.max_length")


def _together(run: "TrainingRun", pairs: Sequence[PreferencePair], share: Share) -> tuple[int, int] | None:
    """Start all and wait for all. Returns the rank and exit code of the one that failed first, or None."""
    work = run.folder / "work"
    for stale in [work / "stop", *work.glob("outcome-*.json")]:
        stale.unlink(missing_ok=True)
    write_json(
        work / "job.json",
        {
            "config": run.config.model_dump(mode="json"),
            "prepared": asdict(run.prepared) | {"path": str(run.prepared.path)},
            "folder": str(run.folder),
            "fingerprint": run.fingerprint,
            "events": [str(run.progress.log.path), run.progress.log.run, run.progress.step],
            "dev_items": [item.model_dump(mode="json") for item in run.dev_items],
            "pairs": [pair.model_dump(mode="json") for pair in pairs],
            "details": run.details,
            "graphed": run.graphed,
            "share": asdict(share),
        },
    )
    read_end, write_end = os.pipe()
    port = _free_port()
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(share.processes):
            environment = {
                "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // share.processes)),
                **python_environment(
                    {
                        PARENT_PIPE: str(read_end),
                        "RANK": str(rank),
                        "LOCAL_RANK": str(rank),
                        "WORLD_SIZE": str(share.processes),
                        "LOCAL_WORLD_SIZE": str(share.processes),
                        "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": str(port),
                    }
                ),
            }
            command = python_command(__name__, str(work / "job.json"))
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[read_end]))
        return _wait(started, run, work / "stop")
    finally:
        for process in started:
            process.kill()
            process.wait()
        os.close(read_end)
        os.close(write_end)


def _wait(started: "Sequence[subprocess.Popen[bytes]]", run: "TrainingRun", stop: Path) -> tuple[int, int] | None:
    while True:
        codes = [process.poll() for process in started]
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        if failed:
            # One that ran out of memory lets the others fail too.
            return next((found for found in failed if found[1] == OUT_OF_MEMORY), failed[0])
        if None not in codes:
            return None
        if run.stopping() and not stop.exists():
            stop.touch()
        time.sleep(POLL_SECONDS)


def _error(work: Path, rank: int, code: int) -> CaiError:
    outcome = work / f"outcome-{rank}.json"
    if not outcome.exists():
        return CaiError(f"training process {rank} ended with exit code {code}, without saying why; start again")
    told = read_json(outcome)
    kind = getattr(errors, told["kind"], CaiError)
    error: CaiError = kind(told["message"])
    return error


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def work_together(job_file: Path) -> int:
    """The body of one of the processes; returns its exit code."""
    die_with_parent(whole_group=False)
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)  # the process that started this one is told too, and says when to stop
    rank = int(os.environ["RANK"])
    outcome = job_file.with_name(f"outcome-{rank}.json")
    try:
        _train(json.loads(job_file.read_text(encoding="utf-8")), job_file.with_name("stop"), rank)
    except CaiError as error:
        write_json(outcome, {"kind": type(error).__name__, "message": str(error)})
        return error.exit_code
    except Exception as error:
        if is_out_of_memory(error):
            return OUT_OF_MEMORY
        traceback.print_exc()
        message = f"training process {rank} failed: {type(error).__name__}: {error}"
        write_json(outcome, {"kind": "CaiError", "message": message})
        return 1
    return 0


def _train(job: dict[str, Any], stop: Path, rank: int) -> None:
    import torch

    from cai_bootstrap.training.train import TrainingRun

    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    path, name, step = job["events"]
    TrainingRun(
        config=RunConfig.model_validate(job["config"]),
        prepared=PreparedModel(**{**job["prepared"], "path": Path(job["prepared"]["path"])}),
        folder=Path(job["folder"]),
        fingerprint=job["fingerprint"],
        progress=Progress(EventLog(Path(path if rank == 0 else os.devnull), name), step),
        stopping=stop.exists,
        dev_items=[EvalItem.model_validate(item) for item in job["dev_items"]],
        details=job["details"],
        graphed=job["graphed"],
        share=Share(**job["share"]),
    ).run([PreferencePair.model_validate(pair) for pair in job["pairs"]])


if __name__ == "__main__":
    code = work_together(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: the others may be gone already, and taking leave of them would wait.
    os._exit(code)
