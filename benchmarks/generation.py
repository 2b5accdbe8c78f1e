"""Generation speed: 4,096 few-shot prompts × 64 tokens with the product's engine, against one prompt at a time.

Run on a GPU: python benchmarks/generation.py [--model gemma-3-270m] [--json FILE]; under 120 s. The slow side is
measured on 32 prompts and extrapolated, which the table says.
`--quick` takes 16 prompts × 8 tokens, for a CPU and a tiny model.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from cai_bootstrap.config import Generation
from cai_bootstrap.generation.candidates import exemplars_for
from cai_bootstrap.generation.prompts import respond_prompt
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.instructions.sampler import sample


def few_shot_prompts(count: int) -> list[str]:
    """Few-shot prompts as generation makes them, of shipped instructions."""
    shots = Generation().shots
    instructions = sample(min(count, 1000), seed=0)
    return [
        respond_prompt(i.instruction, exemplars_for(i, shots, seed=0, use=f"respond:{n}"))
        for n in range(-(-count // len(instructions)))
        for i in instructions
    ][:count]


def timed(engine: Any, calls: list[list[str]], tokens: int) -> dict[str, float]:
    """Seconds and new tokens of calls one after the other; each prompt is decoded until EOS or its limit."""
    synchronise()
    start = time.perf_counter()
    made = [completion for prompts in calls for completion in engine.stream(prompts, Sampling(tokens))]
    synchronise()
    seconds = time.perf_counter() - start
    new = sum(completion.tokens for completion in made)
    return {"prompts": len(made), "tokens": new, "seconds": seconds, "tokens_per_second": new / seconds}


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--precision", default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--batch", type=int, default=0, help="prompts decoded together; 0: 1024, or 8 with --quick")
    parser.add_argument("--workers", default="auto", help="GPUs: auto or a number")
    parser.add_argument("--json", type=Path, default=Path("generation.json"))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    count, alone, tokens = (16, 4, 8) if given.quick else (4096, 32, 64)
    batch = given.batch or (8 if given.quick else 1024)
    prompts = few_shot_prompts(count)
    start = time.perf_counter()
    opened = open_model(
        prepare(given.model), engine="auto", precision=given.precision, batch_size=batch, tokens_asked=count * tokens,
        say=print, workers=given.workers if given.workers == "auto" else int(given.workers),
    )  # fmt: skip
    list(opened.engine.stream(prompts[:batch], Sampling(4)))
    synchronise()
    startup = time.perf_counter() - start
    ours = timed(opened.engine, [prompts], tokens)
    # Evenly spread over the prompts, so that their lengths are those of all of them.
    slow = timed(opened.engine, [[prompt] for prompt in prompts[:: max(1, count // alone)][:alone]], tokens)
    extrapolated = slow["seconds"] / slow["prompts"] * count
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    print(f"{'':<34}{'prompts':>9}{'seconds':>10}{'tokens/s':>11}")
    print(f"{f'product engine, batch {batch}':<34}{count:>9}{ours['seconds']:>10.2f}{ours['tokens_per_second']:>11.0f}")
    print(f"{'one at a time, measured':<34}{alone:>9}{slow['seconds']:>10.2f}{slow['tokens_per_second']:>11.1f}")
    print(f"{'one at a time, extrapolated':<34}{count:>9}{extrapolated:>10.0f}{'':>11}")
    ratio = extrapolated / ours["seconds"]
    print(f"ratio {ratio:.0f} (aim: 300); start-up with warm-up {startup:.1f} s; {device}, {gpus} visible GPUs")
    found = {
        "device": device, "gpus": gpus, "model": given.model, "precision": given.precision, "batch": batch,
        "workers": given.workers, "new_tokens": tokens, "startup_seconds": startup, "ours": ours,
        "one_at_a_time": {**slow, "extrapolated_seconds": extrapolated}, "ratio": ratio,
    }  # fmt: skip
    given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
