"""How long a quick test takes, step by step, and how fast it writes beside plain transformers at batch 1.

Run: python benchmarks/quick_test.py [--prompts 16] [--json FILE]. Needs the embedded model in the cache (cai prepare).
The rates are of one process, one after the other, on the same prompts: the quick suite's, and few-shot prompts of the
run's own instructions. Times are wall time.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cai_bootstrap.config import resolve
from cai_bootstrap.files import read_jsonl, write_json
from cai_bootstrap.generation.candidates import exemplars_for
from cai_bootstrap.generation.prompts import respond_prompt
from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.transformers_engine import LoadedModel, TransformersEngine, load
from cai_bootstrap.interpreter import python_command, python_environment
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import Instruction

CAI = python_command("cai_bootstrap")
WHOLE_RUN_LIMIT = 300.0
HELP_LIMIT = 0.5
INSTRUCTIONS_LIMIT = 3.0
BATCH = 8


@dataclass(frozen=True)
class StepTime:
    """A step's wall time in seconds, and the new tokens a second it wrote while it wrote, if it wrote any."""

    step: str
    seconds: float
    tokens_per_second: float | None


@dataclass(frozen=True)
class Rate:
    """New tokens a second on the same prompts: the product's engine, and transformers one prompt at a time."""

    prompts: str
    count: int
    engine: float
    transformers_batch_1: float


def timed_command(arguments: list[str]) -> float:
    """Seconds of a `cai` command's whole life. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    subprocess.run([*CAI, *arguments], check=True, stdout=subprocess.DEVNULL, env=python_environment())
    return time.perf_counter() - start


def run_steps(base: Path) -> tuple[float, list[StepTime]]:
    """A quick test from an empty base directory: its wall time and that of each step."""
    seconds = timed_command(["run", "--quick-test", "--train-anyway", "--base-dir", str(base)])
    told = json.loads((base / "results/run.json").read_text())
    rates: dict[str, float] = {}
    for line in (base / "logs" / f"{told['run']}.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "progress" and "tokens_per_second" in event:
            rates[event["step"]] = event["tokens_per_second"]
    return seconds, [StepTime(n, s["seconds"], rates.get(n)) for n, s in told["steps"].items()]


def engine_rate(loaded: LoadedModel, prepared: Any, prompts: list[str], tokens: int) -> float:
    """New tokens a second of the product's engine at the quick test's batch size."""
    engine = TransformersEngine(loaded, prepared, precision="fp32", batch_size=BATCH)
    start = time.perf_counter()
    written = sum(completion.tokens for completion in engine.stream(prompts, Sampling(tokens)))
    return written / (time.perf_counter() - start)


def plain_rate(loaded: LoadedModel, prompts: list[str], tokens: int) -> float:
    """New tokens a second of `model.generate`, one prompt at a time."""
    import torch

    start = time.perf_counter()
    written = 0
    for prompt in prompts:
        inputs = loaded.tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            output = loaded.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        written += output.shape[1] - inputs["input_ids"].shape[1]
    return written / (time.perf_counter() - start)


def compare(base: Path, count: int) -> list[Rate]:
    """Both rates on the quick suite's prompts and on few-shot prompts of the run's instructions."""
    config = resolve({}, preset="quick-test", environment={}).config
    prepared = prepare(config.model, say=lambda _: None)
    loaded = load(prepared, precision="fp32")
    made = list(read_jsonl(base / "data/stage1/instructions.jsonl", Instruction))[:count]
    shots = config.generation.shots
    few_shot = [respond_prompt(i.instruction, exemplars_for(i, shots, seed=0, use="respond:0")) for i in made]
    asked = [plain_prompt(item.instruction) for item in load_suite(config.evaluation.suite).items[:count]]
    tokens = config.generation.max_new_tokens
    engine_rate(loaded, prepared, asked[:2], 4)  # the first call pays for the others
    return [
        Rate(name, len(prompts), engine_rate(loaded, prepared, prompts, tokens), plain_rate(loaded, prompts, tokens))
        for name, prompts in (("suite, plain", asked), ("few-shot", few_shot))
    ]


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    steps = Table(title="quick test, from an empty base directory")
    for heading in ("step", "seconds", "tokens/s"):
        steps.add_column(heading, justify="right" if heading != "step" else "left")
    for row in figures["steps"]:
        rate = "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:.1f}"
        steps.add_row(row["step"], f"{row['seconds']:.1f}", rate)
    steps.add_row(
        "whole run", f"{figures['whole_run_seconds']:.1f}", f"limit {WHOLE_RUN_LIMIT:.0f} s", end_section=True
    )
    rates = Table(title="tokens/s on the same prompts, in the same process")
    for heading in ("prompts", "count", f"engine, batch {BATCH}", "transformers, batch 1", "times"):
        rates.add_column(heading, justify="right" if heading != "prompts" else "left")
    for row in figures["rates"]:
        times = row["engine"] / row["transformers_batch_1"]
        rates.add_row(
            row["prompts"],
            str(row["count"]),
            f"{row['engine']:.1f}",
            f"{row['transformers_batch_1']:.1f}",
            f"{times:.1f}",
        )
    console.print(steps)
    console.print(rates)
    console.print(f"cai --help: {figures['help_seconds']:.2f} s (limit {HELP_LIMIT} s)")
    console.print(
        f"cai instructions --count 10000: {figures['instructions_seconds']:.2f} s (limit {INSTRUCTIONS_LIMIT} s)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16, help="prompts of each kind for the rates")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        help_seconds = min(timed_command(["--help"]) for _ in range(5))
        out = Path(folder) / "instructions.jsonl"
        instructions_seconds = timed_command(["instructions", "--count", "10000", "--out", str(out)])
        seconds, steps = run_steps(base)
        rates = compare(base, given.prompts)
    figures = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "whole_run_seconds": round(seconds, 2),
        "steps": [asdict(step) for step in steps],
        "rates": [asdict(rate) for rate in rates],
        "help_seconds": round(help_seconds, 3),
        "instructions_seconds": round(instructions_seconds, 2),
    }
    show(figures)
    if given.json:
        write_json(given.json, figures)
    within = seconds <= WHOLE_RUN_LIMIT and help_seconds <= HELP_LIMIT and instructions_seconds <= INSTRUCTIONS_LIMIT
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
