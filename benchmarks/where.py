"""Where the time of writing and of training goes on a GPU, and what the card could do at most.

Run on a GPU: python benchmarks/where.py [--model gemma-3-270m] [--json FILE]; about a minute. For one batch of answers
and for some training steps, plain and recorded (CUDA graphs): wall time, the time in which the GPU ran a kernel, the
number of kernels, and the kernels that took longest. Beside them the limits: the card's copy bandwidth and matrix rate,
measured here, and the bytes and operations that the work cannot do without.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parent))  # a safe path (-P) leaves out the script's own folder

from generation import few_shot_prompts
from training import config_of, pairs_of

from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.planning.memory import kv_cache, weights
from cai_bootstrap.planning.shape import read_shape
from cai_bootstrap.training.train import TrainingRun

SHOWN = 12
BATCH, TOKENS, STEPS, PAIRS = 1024, 16, 12, 32


def ceilings() -> dict[str, float]:
    """Bytes a second of a copy on the device (read and written), operations a second of a bf16 matrix product."""

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(6):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1000)
        return min(times[2:])

    source = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    left, right = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    return {
        "copy_bytes_per_second": 2 * source.numel() / best(lambda: target.copy_(source)),
        "bf16_operations_per_second": 2 * 8192**3 / best(lambda: left @ right),
    }


def profiled(work: Callable[[], object]) -> dict[str, Any]:
    """The work once without the profiler for its wall time, once with it for its kernels."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    wall = time.perf_counter() - start
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    kernels = [row for row in seen.key_averages() if row.self_device_time_total > 0]
    kernels.sort(key=lambda row: -row.self_device_time_total)
    busy = sum(row.self_device_time_total for row in kernels) / 1e6
    return {
        "wall_seconds": wall, "gpu_busy_seconds": busy, "gpu_busy_share": busy / wall,
        "kernels": sum(row.count for row in kernels),
        "longest": [
            {"kernel": row.key[:90], "seconds": row.self_device_time_total / 1e6, "count": row.count}
            for row in kernels[:SHOWN]
        ],
    }  # fmt: skip


def writing(prepared: PreparedModel, limits: dict[str, float]) -> dict[str, Any]:
    loaded = load(prepared, precision="bf16")
    prompts = few_shot_prompts(BATCH)
    found: dict[str, Any] = {}
    for name, recorded in (("plain", False), ("recorded", True)):
        engine = TransformersEngine(loaded, prepared, precision="bf16", batch_size=BATCH, recorded=recorded)
        sampling = Sampling(TOKENS, pinned=True)
        list(engine.stream(prompts, sampling))
        found[name] = profiled(lambda engine=engine, sampling=sampling: list(engine.stream(prompts, sampling)))
    shape = read_shape(str(prepared.path))
    longest = max(len(ids) for ids in engine.encode(prompts))
    read = weights(shape, "bf16") + kv_cache(shape, longest, BATCH, "bf16")
    operations = 2 * BATCH * (shape.block_parameters + shape.vocabulary * shape.hidden)
    found["a_step"] = {
        "bytes": read, "seconds_for_bytes": read / limits["copy_bytes_per_second"], "operations": operations,
        "seconds_for_operations": operations / limits["bf16_operations_per_second"],
    }  # fmt: skip
    return {"batch": BATCH, "tokens": TOKENS, "longest_prompt": longest, **found}


def training(prepared: PreparedModel, limits: dict[str, float]) -> dict[str, Any]:
    pairs = pairs_of(PAIRS * STEPS)

    def run(recorded: bool, steps: int) -> Callable[[], object]:
        def work() -> None:
            with tempfile.TemporaryDirectory() as scratch:
                progress = Progress(EventLog(Path(scratch) / "events.jsonl", "bench"), "train")
                config = config_of(PAIRS, steps, "bf16")
                TrainingRun(
                    config, prepared, Path(scratch) / "run", "0" * 64, progress, lambda: False, graphed=recorded
                ).run(pairs)

        return work

    found: dict[str, Any] = {}
    run(False, 1)()
    for name, recorded in (("plain", False), ("recorded", True)):
        found[name] = profiled(run(recorded, STEPS))
    shape = read_shape(str(prepared.path))
    tokens = PAIRS * 2 * 64
    operations = 4 * tokens * shape.block_parameters
    found["a_step"] = {
        "operations": operations, "seconds_for_operations": operations / limits["bf16_operations_per_second"],
    }  # fmt: skip
    return {"pairs": PAIRS, "steps": STEPS, "note": "whole trainings, with loading and the reference", **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--json", type=Path, default=Path("where.json"))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU")
    prepared = prepare(given.model)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "limits": ceilings()}
    print(json.dumps(found))
    for name, part in (("writing", writing), ("training", training)):
        try:
            found[name] = part(prepared, found["limits"])
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(name, json.dumps(found[name], indent=1))
        given.json.write_text(json.dumps(found, indent=2) + "\n")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
