"""`python -m cai_bootstrap.training.rank_main JOB`: one of several processes that train together (see `launch`)."""

import os
import signal
import sys
import traceback
from pathlib import Path

from cai_bootstrap.errors import CaiError
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.files import write_json
from cai_bootstrap.inference.memory import is_out_of_memory
from cai_bootstrap.supervise import die_with_parent
from cai_bootstrap.training.rank_job import OUT_OF_MEMORY, RankJob, outcome_file, stop_file
from cai_bootstrap.training.train import TrainingRun


def work_together(job_file: Path) -> int:
    """Train this process's share; returns its exit code."""
    die_with_parent(whole_group=False)
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)  # the process that started this one is told too, and says when to stop
    rank = int(os.environ["RANK"])
    outcome = outcome_file(job_file, rank)
    try:
        _train(RankJob.read(job_file), stop_file(job_file), rank)
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


def _train(job: RankJob, stop: Path, rank: int) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    events = EventLog(job.events if rank == 0 else Path(os.devnull), job.run)
    TrainingRun(
        config=job.config,
        prepared=job.prepared,
        folder=job.folder,
        fingerprint=job.fingerprint,
        progress=Progress(events, job.step),
        stopping=stop.exists,
        dev_items=job.dev_items,
        details=job.details,
        graphed=job.graphed,
        share=job.share,
        start=job.start,
    ).run(job.pairs)


if __name__ == "__main__":
    code = work_together(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: the others may be gone already, and taking leave of them would wait.
    os._exit(code)
