"""The whole of Stage 1, from weights on disk to the verdict, and how much of it its engines worked.

Run on a GPU: python benchmarks/stage1.py [--count 1000] [--json FILE]. It is `cai run --preset gemma-270m-gpu` with
this many instructions and one round, in an empty base directory; the model is converted before. Every step's process
notes how long it loaded, answered prompts and trained: the sum is the engines' time, the rest is the product's own
(starting Python, importing, instructions, files, scores, statistics). Aim: the whole is at most 1.25 times the sum,
120 s, and never more than 300 s.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NOTES = "BENCHMARK_NOTES"  # the folder where the steps' processes write
BOUND, AIM, SHARE = 300.0, 120.0, 1.25


class Notes:
    """Seconds by kind of work in one process; work within other work is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    @contextlib.contextmanager
    def noting(self, kind: str) -> Iterator[None]:
        if self._inside:
            yield
            return
        self._inside, start = True, time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - start

    def note(self, owner: Any, name: str, kind: str) -> None:
        """Time every call of a function, or every next value of a generator."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def noted(*args: Any, **kwargs: Any) -> Any:
            with self.noting(kind):
                found = original(*args, **kwargs)
            return self._stepping(found, kind) if isinstance(found, Iterator) else found

        setattr(owner, name, noted)

    def _stepping(self, values: Iterator[Any], kind: str) -> Iterator[Any]:
        while True:
            with self.noting(kind):
                try:
                    value = next(values)
                except StopIteration:
                    return
            yield value


def step(arguments: list[str], began: float) -> int:
    """`cai step ...` in this process, with notes."""
    from cai_bootstrap.cli import main as cai
    from cai_bootstrap.inference import open as opening
    from cai_bootstrap.inference.transformers_engine import TransformersEngine
    from cai_bootstrap.inference.vllm_engine import VllmEngine
    from cai_bootstrap.inference.vllm_parallel import ParallelVllm

    notes = Notes()
    notes.note(opening, "load", "load")
    notes.note(VllmEngine, "__init__", "load")
    for engine in (TransformersEngine, VllmEngine, ParallelVllm):
        for method in ("stream", "choice_logprobs", "text_logprobs"):
            notes.note(engine, method, "answer")
    if arguments[0] == "train":
        from cai_bootstrap.training.train import TrainingRun

        notes.note(TrainingRun, "_load", "load")
        notes.note(TrainingRun, "_train_phase", "train")
    sys.argv = ["cai", "step", *arguments]
    try:
        cai()
    finally:
        notes.seconds["process"] = time.time() - began
        (Path(os.environ[NOTES]) / f"{arguments[0]}.json").write_text(json.dumps(notes.seconds))
    return 0


def run(model: str, count: int, preset: str, folder: Path) -> dict[str, Any]:
    """The run and its notes."""
    from cai_bootstrap import pipeline, standby
    from cai_bootstrap.config import resolve
    from cai_bootstrap.interpreter import script_command
    from cai_bootstrap.run.folder import RunFolder

    notes = folder / "notes"
    notes.mkdir()
    os.environ[NOTES] = str(notes)
    this = script_command(__file__)
    pipeline.step_command = standby.step_command = lambda arguments: [*this, "--step", *arguments]
    standby.waiting_command = lambda base: [*this, "--standby", str(base)]
    resolved = resolve(
        {
            "model": model, "generation.count": count, "training.rounds": 1, "evaluation.train_anyway": True,
            "evaluation.enforce_gate": False, "paths.base_dir": folder / "work",
        },
        preset=preset, environment={},
    )  # fmt: skip
    start = time.perf_counter()
    outcome = pipeline.run_pipeline(resolved, RunFolder.at(folder / "work"))
    whole = time.perf_counter() - start
    said = [
        json.loads(line).get("message", "")
        for path in sorted((folder / "work" / "logs").glob("*.jsonl"))
        for line in path.read_text().splitlines()
        if '"notice"' in line
    ]
    noted = {path.stem: json.loads(path.read_text()) for path in sorted(notes.glob("*.json"))}
    engines = sum(sum(v for kind, v in step.items() if kind != "process") for step in noted.values())
    return {
        "whole_seconds": whole, "engines_seconds": engines, "whole_by_engines": whole / engines if engines else None,
        "verdict": outcome.verdict, "message": outcome.message, "count": count, "preset": preset,
        "steps": {
            name: {**step.model_dump(), **noted.get(name.split("-")[0], {})} for name, step in outcome.steps.items()
        },
        "engine_choices": [message for message in said if message.startswith("engine ")],
        "aims": {"share": SHARE, "seconds": AIM, "bound": BOUND},
    }  # fmt: skip


def main() -> int:
    if sys.argv[1:2] == ["--step"]:
        return step(sys.argv[2:], time.time())
    if sys.argv[1:2] == ["--standby"]:
        from cai_bootstrap.cli.waiting import wait

        arguments = wait()
        return 0 if arguments is None else step(arguments, time.time())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--preset", default="gemma-270m-gpu")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=Path("stage1.json"))
    given = parser.parse_args()
    from cai_bootstrap.inference.models import prepare

    prepare(given.model)
    with tempfile.TemporaryDirectory() as scratch:
        found = run(given.model, given.count, given.preset, Path(scratch))
    from cai_bootstrap.inference.devices import visible_gpus

    found["device"] = [gpu.name for gpu in visible_gpus()[1]] or "cpu"
    given.json.write_text(json.dumps(found, indent=2) + "\n")
    for name, seconds in found["steps"].items():
        print(name, {key: round(v, 1) for key, v in seconds.items() if isinstance(v, float)})
    print(
        f"{found['verdict']}: whole {found['whole_seconds']:.1f} s (aim {AIM:g}, bound {BOUND:g}), engines "
        f"{found['engines_seconds']:.1f} s, ratio {found['whole_by_engines'] or 0:.2f} (aim at most {SHARE})"
    )
    if found["message"]:
        print(found["message"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
