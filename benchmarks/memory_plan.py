"""The memory plan against measured peaks: generation and training of gemma-3-270m on this machine's GPU.

Run on a GPU: python benchmarks/memory_plan.py [--model gemma-3-270m] [--json FILE]; under 90 s. A row of the table is
one step at one size: what the plan says, the peak of `torch.cuda.max_memory_allocated`, and their ratio (aim: 0.85 to
1.15).
Without a GPU only the plan is printed, and nothing is called measured.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference.engine import Sampling, plain_prompt
from cai_bootstrap.inference.fast.fixed_steps import FEWEST_ROWS
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.planning.memory import GIB, generating, training
from cai_bootstrap.planning.shape import read_shape
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.training.train import TrainingRun

PROMPT_TOKENS, NEW_TOKENS = 224, 48
GENERATION = [(256, 0.0), (1024, 0.0), (256, 0.7), (1024, 0.7)]
TRAINING = [(8, False), (32, False), (32, True)]
PAIR_TOKENS = 96


def text_of(prepared: PreparedModel, tokens: int) -> str:
    """A text that is `tokens` tokens long with BOS."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared.path)
    ids = tokenizer(" ".join(["The boat went down the river to the sea."] * tokens))["input_ids"][:tokens]
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text


def peak_of(work: Callable[[], object]) -> int | None:
    """Peak bytes that `work` allocates on the GPU beside what was there before; None without one."""
    if not torch.cuda.is_available():
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return int(torch.cuda.max_memory_allocated() - before)


def generation_work(prepared: PreparedModel, batch: int, temperature: float, new: int) -> Callable[[], object]:
    def work() -> None:
        opened = open_model(
            prepared, engine="transformers", precision="bf16", batch_size=batch, tokens_asked=0, say=lambda _: None
        )
        # EOS may end a row early, which frees nothing: the longest row decides. A job leaves rows of every shape, half
        # of the batch, a quarter and so on, and then reads the next whole batch beside them.
        text, sizes = text_of(prepared, PROMPT_TOKENS), [batch]
        while sizes[-1] > FEWEST_ROWS:
            sizes.append(sizes[-1] // 2)
        for size in [*sizes, batch]:
            list(opened.engine.stream([text] * size, Sampling(new, temperature, 0.95)))

    return work


def training_work(prepared: PreparedModel, config: RunConfig) -> Callable[[], object]:
    words = text_of(prepared, PAIR_TOKENS * 2 // 3)
    pairs = [
        PreferencePair(
            id=f"p{n}", instruction_id=f"i{n}", type="question", template="t", prompt=plain_prompt(words),
            chosen=f"{text_of_answer(words)} {n}", rejected=f"{text_of_answer(words)} no {n}", chosen_source="response",
            chosen_id="c", rejected_id="r", rejected_finished=True, principle_id="clear", label_source="constraint",
        )
        for n in range(config.training.batch_size * 2)
    ]  # fmt: skip

    def work() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            progress = Progress(EventLog(folder / "events.jsonl", "bench"), "train")
            TrainingRun(config, prepared, folder / "run", "0" * 64, progress, lambda: False).run(pairs)

    return work


def text_of_answer(words: str) -> str:
    """About half as many tokens as the prompt."""
    return " ".join(words.split()[: len(words.split()) // 2 - 4])


def config_of(batch: int, checkpointing: bool) -> RunConfig:
    values = {
        "precision": "bf16", "training.batch_size": batch, "training.max_steps": 3, "training.watch_every": 0,
        "training.gradient_checkpointing": checkpointing, "training.processes": 1, "training.save_every": 100,
    }  # fmt: skip
    return resolve(values, environment={}).config


def row(what: str, planned: int, measured: int | None) -> dict[str, Any]:
    ratio = round(planned / measured, 3) if measured else None
    return {
        "what": what, "planned_gib": round(planned / GIB, 3), "measured_gib": measured and round(measured / GIB, 3),
        "ratio": ratio, "within_15_percent": ratio and 0.85 <= ratio <= 1.15,
    }  # fmt: skip


def measure(model: str, quick: bool) -> list[dict[str, Any]]:
    """All rows. `quick` takes the smallest sizes."""
    prepared = prepare(model, say=lambda _: None)
    shape = read_shape(str(prepared.path))
    rows = []
    for batch, temperature in GENERATION[:1] if quick else GENERATION:
        new = 4 if quick else NEW_TOKENS
        planned = generating(
            shape, precision="bf16", batch=batch, prompt=PROMPT_TOKENS, new=new, sampled=temperature > 0
        )
        measured = peak_of(generation_work(prepared, batch, temperature, new))
        rows.append(row(f"generation, batch {batch}, temperature {temperature}", planned.peak, measured))
    for batch, checkpointing in TRAINING[:1] if quick else TRAINING:
        config = config_of(batch, checkpointing)
        planned = training(shape, config.training, precision="bf16", tokens=PAIR_TOKENS)
        measured = peak_of(training_work(prepared, config))
        name = f"training, {batch} pairs of {PAIR_TOKENS} tokens" + (", checkpointing" if checkpointing else "")
        rows.append(row(name, planned.peak, measured))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--json", type=Path, default=Path("memory_plan.json"))
    parser.add_argument("--quick", action="store_true", help="the smallest sizes")
    arguments = parser.parse_args()
    start = time.perf_counter()
    rows = measure(arguments.model, arguments.quick)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: not measured"
    for found in rows:
        measured = "not measured" if found["measured_gib"] is None else f"{found['measured_gib']:8.2f} GiB"
        print(f"{found['what']:<48} plan {found['planned_gib']:7.2f} GiB   peak {measured}   ratio {found['ratio']}")
    seconds = round(time.perf_counter() - start, 1)
    print(f"{device}; {seconds} s")
    found_all = {
        "device": device,
        "model": arguments.model,
        "seconds": seconds,
        "torch": torch.__version__,
        "rows": rows,
    }
    arguments.json.write_text(json.dumps(found_all, indent=2) + "\n")


if __name__ == "__main__":
    main()
