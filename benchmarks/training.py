"""Training speed: the product's trainer against TRL's `DPOTrainer` with its default settings, same pairs, same run.

Run with one visible GPU: python benchmarks/training.py [--model gemma-3-270m] [--json FILE]; under 120 s. Both train
LoRA adapters of the same rank with DPO alone, at the same batch, learning rate and number of steps. TRL's side keeps
the defaults that cost time: gradient checkpointing, the reference computed at every step, full logits. Pairs a second
are those of the steps after the first `WARM`; the loss is the mean of the last ten. The seeds are the same, the kernels
are not: losses agree within noise, not bit by bit. `--quick` is for a CPU and a tiny model.
"""

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.training.train import TrainingRun

WARM = 3
LAST = 10


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
                prompt=f"{asked.instruction}\n", chosen=" ".join(words[-4:]) + f" {n}",
                rejected=" ".join((words * 6)[:36]) + f" {n}", chosen_source="response", chosen_id="c", rejected_id="r",
                rejected_finished=True, principle_id="clear", label_source="constraint",
            )
        )  # fmt: skip
    return made


def config_of(batch: int, steps: int, precision: str) -> RunConfig:
    values = {
        "precision": precision, "training.method": "dpo", "training.batch_size": batch, "training.max_steps": steps,
        "training.epochs": 100, "training.watch_every": 0, "training.save_every": 10_000,
        "training.learning_rate": 5e-5, "training.processes": 1, "pairs.min_pairs": 1,
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

    def figures(self, batch: int) -> dict[str, Any]:
        steps = len(self.ends) - WARM
        seconds = self.ends[-1] - self.ends[WARM - 1]
        tail = self.losses[-LAST:]
        return {
            "pairs_per_second": steps * batch / seconds, "steps": steps, "seconds": seconds,
            "final_loss": sum(tail) / len(tail), "losses": self.losses,
        }  # fmt: skip


class Listener(Progress):
    """The product's own events, timed."""

    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self._watch = watch
        super().__init__(EventLog(folder / "events.jsonl", "bench"), "train")

    def record(self, event: str, **fields: Any) -> None:
        if event == "train_step":
            self._watch.heard(fields["figures"]["loss"])
        super().record(event, **fields)


def ours(prepared: PreparedModel, config: RunConfig, pairs: list[PreferencePair]) -> dict[str, Any]:
    """Train with the product, reference log-probabilities measured beforehand; that time is in `whole_seconds`."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        run = TrainingRun(
            config, prepared, Path(scratch) / "run", "0" * 64, Listener(Path(scratch), watch), lambda: False
        )
        run.run(pairs)
        whole = time.perf_counter() - start
    return {**watch.figures(config.training.batch_size), "whole_seconds": whole}


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
    return {**watch.figures(settings.batch_size), "whole_seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--precision", default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--batch", type=int, default=0, help="pairs a step; 0: 32, or 4 with --quick")
    parser.add_argument("--steps", type=int, default=0, help="0: 33, or 6 with --quick")
    parser.add_argument("--json", type=Path, default=Path("training.json"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    batch, steps = given.batch or (4 if given.quick else 32), given.steps or (6 if given.quick else 33)
    prepared = prepare(given.model)
    config = config_of(batch, steps, given.precision)
    pairs = pairs_of(batch * steps)
    sides = {}
    for name, side in (("product", ours), ("TRL defaults", trl_defaults)):
        sides[name] = side(prepared, config, pairs)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(f"\n{'':<16}{'pairs/s':>10}{'final loss':>12}{'whole s':>10}")
    for name, found in sides.items():
        print(
            f"{name:<16}{found['pairs_per_second']:>10.1f}{found['final_loss']:>12.4f}{found['whole_seconds']:>10.1f}"
        )
    ratio = sides["product"]["pairs_per_second"] / sides["TRL defaults"]["pairs_per_second"]
    print(f"ratio {ratio:.2f} (aim: 3); {steps} steps of {batch} pairs, {given.precision}; {device}")
    found_all = {
        "device": device, "model": given.model, "precision": given.precision, "batch": batch, "ratio": ratio,
        "torch": torch.__version__, "sides": sides,
    }  # fmt: skip
    given.json.write_text(json.dumps(found_all, indent=2) + "\n")


if __name__ == "__main__":
    main()
