"""Training speed: the product's trainer against TRL's `DPOTrainer` with its default settings, same pairs, same run.

Run on a GPU: python benchmarks/training.py [--model gemma-3-270m] [--json FILE]; under 120 s. Sides, one after another:
    product             as `cai train` trains: up to 64 pairs a step, recorded as CUDA graphs (`training.fast.graphs`)
    TRL defaults        gradient checkpointing, the reference computed at every step, each pair's rows masked
    not recorded        the product with steps that the host starts kernel by kernel
All train LoRA adapters of the same rank with DPO alone, at the same batch, learning rate and number of steps. Pairs a
second are those of the steps after the first `WARM`; the loss is the mean of the last ten. The seeds are the same, the
kernels are not: losses agree within noise, not bit by bit. `--quick` is for a CPU and a tiny model. `--processes 2`
trains on two GPUs, `--batch` times `--accumulate` pairs a step in all; the product's sides alone can.
"""

import argparse
import gc
import json
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.training.train import TrainingRun

WARM = 15
LAST = 10
POLL_SECONDS = 0.003
SIDES = ("product", "TRL defaults", "not recorded")


def pairs_of(count: int) -> list[PreferencePair]:
    """Pairs of shipped instructions: the chosen answer is short, the rejected one runs on, as a base model's does."""
    instructions = sample(min(count, 1000), seed=0)
    made = []
    for n in range(count):
        asked = instructions[n % len(instructions)]
        words = asked.instruction.split()
        made.append(
            PreferencePair(
                id=f"p{n}", instruction_id=f"i{n}", type=asked.type, template=asked.template,
                prompt=plain_prompt(asked.instruction), chosen=" ".join(words[-4:]) + f" {n}",
                rejected=" ".join((words * 6)[:36]) + f" {n}", chosen_source="response", chosen_id="c", rejected_id="r",
                rejected_finished=True, principle_id="clear", label_source="constraint",
            )
        )  # fmt: skip
    return made


def config_of(batch: int, steps: int, precision: str, processes: int = 1, accumulate: int = 1) -> RunConfig:
    values = {
        "precision": precision, "training.method": "dpo", "training.batch_size": batch,
        "training.accumulate": accumulate, "training.max_steps": steps,
        "training.epochs": 100, "training.watch_every": 0, "training.save_every": 10_000,
        "training.learning_rate": 5e-5, "training.processes": processes, "pairs.min_pairs": 1,
    }  # fmt: skip
    return resolve(values, environment={}).config


class Stopwatch:
    """When each step ended, read on the CPU after the step's loss was logged."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def heard(self, loss: float) -> None:
        self.ends.append(time.perf_counter())
        self.losses.append(loss)

    def figures(self, batch: int, asked: int) -> dict[str, Any]:
        """Raises RuntimeError if there were more steps than asked for: it began again, with smaller ones."""
        if len(self.ends) != asked:
            raise RuntimeError(
                f"{len(self.ends)} steps were made where {asked} were asked for: out of memory, most likely"
            )
        steps = len(self.ends) - WARM
        seconds = self.ends[-1] - self.ends[WARM - 1]
        tail = self.losses[-LAST:]
        return {
            "pairs_per_second": steps * batch / seconds, "steps": steps, "seconds": seconds,
            "final_loss": sum(tail) / len(tail), "losses": self.losses,
        }  # fmt: skip


class Following(threading.Thread):
    """Hears a training's steps from its events file, whichever process writes it."""

    def __init__(self, path: Path, watch: Stopwatch) -> None:
        super().__init__(daemon=True)
        self._path, self._watch, self.ended = path, watch, threading.Event()

    def run(self) -> None:
        offset, last = 0, False
        while not last:
            last = self.ended.wait(POLL_SECONDS)
            if not self._path.exists():
                continue
            with self._path.open("rb") as source:
                source.seek(offset)
                for line in source:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    event = json.loads(line)
                    if event["event"] == "train_step":
                        self._watch.heard(event["figures"]["loss"])


def ours(
    prepared: PreparedModel, config: RunConfig, pairs: list[PreferencePair], *, recorded: bool = True
) -> dict[str, Any]:
    """Train with the product, reference log-probabilities measured beforehand; that time is in `whole_seconds`."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as scratch:
        log = EventLog(Path(scratch) / "events.jsonl", "bench")
        following = Following(log.path, watch)
        following.start()
        start = time.perf_counter()
        run = TrainingRun(
            config, prepared, Path(scratch) / "run", "0" * 64, Progress(log, "train"), lambda: False, graphed=recorded
        )
        run.run(pairs)
        whole = time.perf_counter() - start
        following.ended.set()
        following.join()
    settings = config.training
    return {**watch.figures(settings.batch_size * settings.accumulate, settings.max_steps), "whole_seconds": whole}


def trl_defaults(prepared: PreparedModel, config: RunConfig, pairs: list[PreferencePair]) -> dict[str, Any]:
    """Train with TRL as its defaults have it, apart from what is the same on both sides."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    watch = Stopwatch()

    class Hear(TrainerCallback):  # type: ignore[misc]
        def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                watch.heard(float(logs["loss"]))

    settings = config.training
    cuda = torch.cuda.is_available()
    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(prepared.path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    with tempfile.TemporaryDirectory() as scratch:
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(prepared.path, dtype=dtype),
            args=DPOConfig(
                output_dir=scratch, per_device_train_batch_size=settings.batch_size, max_steps=settings.max_steps,
                learning_rate=settings.learning_rate, lr_scheduler_type="cosine", warmup_steps=settings.warmup_ratio,
                beta=settings.beta, max_length=settings.max_length, bf16=cuda and config.precision == "bf16",
                use_cpu=not cuda, logging_steps=1, save_strategy="no", report_to=[], seed=config.seed,
                data_seed=config.seed, disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(
                [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
            ),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=settings.lora_r, lora_alpha=settings.lora_alpha, target_modules=settings.lora_targets,
                task_type="CAUSAL_LM",
            ),
            callbacks=[Hear()],
        )  # fmt: skip
        trainer.train()
    return {**watch.figures(settings.batch_size, settings.max_steps), "whole_seconds": time.perf_counter() - start}


def peak(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a side found, and its peak of memory in this process."""
    gc.collect()
    if not torch.cuda.is_available():
        return work()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return {**work(), "peak_gib": torch.cuda.max_memory_allocated() / 1024**3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--precision", default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--batch", type=int, default=0, help="pairs a step; 0: 32, or 4 with --quick")
    parser.add_argument("--accumulate", type=int, default=1, help="so many batches make a step (the product's sides)")
    parser.add_argument("--steps", type=int, default=0, help="0: 50, or 20 with --quick")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sides", default=",".join(SIDES), help="which sides, joined by commas")
    parser.add_argument("--json", type=Path, default=Path("training.json"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    batch, steps = given.batch or (4 if given.quick else 32), given.steps or (20 if given.quick else 50)
    prepared = prepare(given.model)
    config = config_of(batch, steps, given.precision, given.processes, given.accumulate)
    pairs = pairs_of(batch * given.accumulate * steps)
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "product": lambda: ours(prepared, config, pairs),
        "not recorded": lambda: ours(prepared, config, pairs, recorded=False),
        "TRL defaults": lambda: trl_defaults(prepared, config, pairs),
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    found: dict[str, Any] = {
        "device": device, "model": given.model, "precision": given.precision, "batch": batch,
        "accumulate": given.accumulate, "steps": steps, "processes": given.processes,
        "torch": torch.__version__, "sides": {},
    }  # fmt: skip
    sides = found["sides"]
    print(f"\n{'':<16}{'pairs/s':>10}{'final loss':>12}{'whole s':>10}")
    for name in given.sides.split(","):
        try:
            side = sides[name] = peak(ways[name])
        except Exception as error:
            traceback.print_exc()
            sides[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            continue
        print(f"{name:<16}{side['pairs_per_second']:>10.1f}{side['final_loss']:>12.4f}{side['whole_seconds']:>10.1f}")
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    rates = {name: side["pairs_per_second"] for name, side in sides.items() if "failed" not in side}
    if {"product", "not recorded"} <= rates.keys():
        both = zip(sides["product"]["losses"], sides["not recorded"]["losses"], strict=True)
        found["largest_loss_difference_recorded"] = max(abs(a - b) for a, b in both)
    if "TRL defaults" in rates:
        found["ratios"] = {n: rate / rates["TRL defaults"] for n, rate in rates.items() if n != "TRL defaults"}
        print(f"against TRL's defaults: {found['ratios']} (aim: 3); {steps} steps of {batch} pairs; {device}")
    given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
