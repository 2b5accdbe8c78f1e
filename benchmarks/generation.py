"""Generation speed: 4,096 few-shot prompts × 64 tokens, with each of the product's engines and the raw libraries.

Run on a GPU: python benchmarks/generation.py [--model gemma-3-270m] [--json FILE]; about six minutes with vLLM there.
Every row is a process of its own, so that start-ups are whole (imports included) and memory is free again:
    product transformers / vllm    `Engine.stream`; vLLM is started as for these tokens alone (uncompiled, sooner)
    product vllm for more          the same, started as for many more tokens (compiled)
    raw vllm                       `LLM.generate` as it comes, on the same token ids
    raw transformers               `generate` on the same token ids, batches sorted by length
    one at a time                  `Engine.stream` of one prompt after the other, 32 of them, extrapolated
The whole time is that of a process that starts and completes the prompts once; the warm rate is of as many others after
them (other examples before the instructions, so that a prefix cache helps no more than in a run).
A row that cannot run here says why and is left out of the ratios. `--quick` takes 16 prompts × 8 tokens, for a CPU and
a tiny model; its ratios mean nothing. With several GPUs the product's rows take all of them (`--workers`), the raw ones
take one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai_bootstrap.config import Generation
from cai_bootstrap.generation.candidates import exemplars_for
from cai_bootstrap.generation.prompts import respond_prompt
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import PreparedModel, load_tokenizer, prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.instructions.sampler import sample

ROWS = (
    "product transformers", "product vllm", "product vllm for more", "raw vllm", "raw transformers", "one at a time",
)  # fmt: skip
MORE_TOKENS = 10**8  # of so many these prompts would be a part: vLLM is compiled, as the raw one is
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ROW_SECONDS = 300.0  # then a row is ended and said to be too slow
Writer = Callable[[list[str]], int]  # completes prompts, returns the number of new tokens


def few_shot_prompts(count: int) -> list[str]:
    """Few-shot prompts as generation makes them, of shipped instructions."""
    shots = Generation().shots
    instructions = sample(min(count, 1000), seed=0)
    return [
        respond_prompt(i.instruction, exemplars_for(i, shots, seed=0, use=f"respond:{n}"))
        for n in range(-(-count // len(instructions)))
        for i in instructions
    ][:count]


def product(prepared: PreparedModel, engine: str, given: argparse.Namespace) -> Writer:
    engine, _, more = engine.partition(" ")
    opened = open_model(
        prepared, engine=engine, precision=given.precision, batch_size=given.batch, say=print,
        tokens_asked=MORE_TOKENS if more else given.count * given.tokens,
        workers=given.workers if given.workers == "auto" else int(given.workers),
    )  # fmt: skip
    return lambda prompts: sum(made.tokens for made in opened.engine.stream(prompts, Sampling(given.tokens)))


def raw_vllm(prepared: PreparedModel, given: argparse.Namespace) -> Writer:
    import torch
    from vllm import LLM, SamplingParams

    room = {} if torch.cuda.is_available() else {"kv_cache_memory_bytes": 1024**3, "enforce_eager": True}
    llm = LLM(str(prepared.path), dtype=DTYPES[given.precision], max_model_len=4096, **room)
    tokenizer, asked = load_tokenizer(prepared), SamplingParams(temperature=0.0, max_tokens=given.tokens)

    def write(prompts: list[str]) -> int:
        ids = tokenizer(prompts)["input_ids"]
        made = llm.generate([{"prompt_token_ids": row} for row in ids], asked, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in made)

    return write


def raw_transformers(prepared: PreparedModel, given: argparse.Namespace) -> Writer:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, DTYPES[given.precision])
    model = AutoModelForCausalLM.from_pretrained(prepared.path, dtype=dtype).to(device).eval()
    tokenizer = load_tokenizer(prepared)
    tokenizer.padding_side = "left"
    eos = model.generation_config.eos_token_id
    ends = torch.tensor(eos if isinstance(eos, list) else [eos], device=device)

    def write(prompts: list[str]) -> int:
        made = 0
        ordered = sorted(prompts, key=len, reverse=True)
        for start in range(0, len(ordered), given.batch):
            batch = tokenizer(ordered[start : start + given.batch], return_tensors="pt", padding=True).to(device)
            with torch.inference_mode():
                output = model.generate(**batch, max_new_tokens=given.tokens, do_sample=False)
            new = output[:, batch["input_ids"].shape[1] :]
            ended = torch.isin(new, ends).cumsum(-1)
            made += int((ended == 0).sum()) + int((ended.max(-1).values > 0).sum())
        return made

    return write


def run_row(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row, in this process, which began at `given.began` (seconds since the epoch)."""
    import torch

    prompts, prepared = few_shot_prompts(2 * given.count), prepare(given.model)
    if name == "raw vllm":
        write = raw_vllm(prepared, given)
    elif name == "raw transformers":
        write = raw_transformers(prepared, given)
    else:
        write = product(
            prepared, name.removeprefix("product ") if name.startswith("product") else "transformers", given
        )
    write(prompts[:1])
    startup = time.time() - given.began
    start = time.perf_counter()
    cold = write(prompts[: given.count]) if name != "one at a time" else 0
    whole = startup + time.perf_counter() - start
    asked = prompts[given.count :]
    if name == "one at a time":  # evenly spread over the prompts, so that their lengths are those of all of them
        asked = asked[:: max(1, given.count // given.alone)][: given.alone]
    start = time.perf_counter()
    made = sum(write([prompt]) for prompt in asked) if name == "one at a time" else write(asked)
    seconds = time.perf_counter() - start
    return {
        "row": name, "prompts": len(asked), "tokens": made, "seconds": seconds, "tokens_per_second": made / seconds,
        "startup_seconds": startup, "whole_seconds": whole if cold else None,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "gpus": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "memory_gib": torch.cuda.max_memory_allocated() / 1024**3 if torch.cuda.is_available() else None,
    }  # fmt: skip


def in_own_process(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """A row from a process of its own; `{"row": …, "failed": why}` if it gives none."""
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "row.json", Path(folder) / "log"
        command = [
            sys.executable, __file__, "--row", name, "--json", str(file), "--began", str(time.time()),
            "--model", given.model, "--precision", given.precision, "--batch", str(given.batch),
            "--workers", given.workers, "--count", str(given.count), "--tokens", str(given.tokens),
            "--alone", str(given.alone),
        ]  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                process.wait(given.limit)
            except subprocess.TimeoutExpired:
                return {"row": name, "failed": f"not done after {given.limit:.0f} s"}
            finally:
                end_group(process)
        if file.is_file():
            return dict(json.loads(file.read_text()))
        last = log.read_text(errors="replace").strip().splitlines()
        return {"row": name, "failed": last[-1][:300] if last else f"exit code {process.returncode}"}


def end_group(process: "subprocess.Popen[bytes]") -> None:
    import contextlib
    import os
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ratios(rows: dict[str, dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """What the rows say of the aims; only of rows that ran."""
    found: list[dict[str, Any]] = []

    def add(what: str, value: float, aim: float, *, at_most: bool = False) -> None:
        reached = value <= aim if at_most else value >= aim
        found.append({"what": what, "value": value, "aim": aim, "at_most": at_most, "reached": reached})

    sound = {name: row for name, row in rows.items() if "failed" not in row}
    ours = [row for name, row in sound.items() if name.startswith("product")]
    raw = [row for name, row in sound.items() if name.startswith("raw")]
    if "product vllm for more" in sound and "raw vllm" in sound:
        rate = sound["product vllm for more"]["tokens_per_second"] / sound["raw vllm"]["tokens_per_second"]
        add("tokens/s, product's vLLM against raw vLLM, both compiled", rate, 0.95)
    if ours and raw:
        best = min(row["whole_seconds"] for row in ours) / min(row["whole_seconds"] for row in raw)
        add("whole time with start-up, best engine against the better raw library", best, 0.8, at_most=True)
    if ours and "one at a time" in sound:
        slow = sound["one at a time"]
        extrapolated = slow["seconds"] / slow["prompts"] * count
        add("one prompt at a time (extrapolated) against the best engine, warm",
            extrapolated / min(row["seconds"] for row in ours), 300)  # fmt: skip
    return found


def show(rows: dict[str, dict[str, Any]], found: list[dict[str, Any]]) -> None:
    print(f"{'':<24}{'prompts':>9}{'start-up s':>12}{'warm s':>10}{'tokens/s':>11}{'whole s':>10}")
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:<24}{'-':>9}  {row['failed']}")
            continue
        whole = "" if row["whole_seconds"] is None else f"{row['whole_seconds']:.1f}"
        print(
            f"{name:<24}{row['prompts']:>9}{row['startup_seconds']:>12.1f}{row['seconds']:>10.2f}"
            f"{row['tokens_per_second']:>11.1f}{whole:>10}"
        )
    for ratio in found:
        sign = "at most" if ratio["at_most"] else "at least"
        verdict = "reached" if ratio["reached"] else "NOT reached"
        print(f"{ratio['what']}: {ratio['value']:.3g} (aim: {sign} {ratio['aim']:g}; {verdict})")


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--precision", choices=sorted(DTYPES), default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--batch", type=int, default=0, help="prompts decoded together; 0: 1024, or 8 with --quick")
    parser.add_argument("--workers", default="auto", help="GPUs for the product's rows: auto or a number")
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, joined by commas")
    parser.add_argument("--limit", type=float, default=ROW_SECONDS, help="seconds for each row")
    parser.add_argument("--json", type=Path, default=Path("generation.json"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--alone", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    usual = (16, 8, 4, 8) if given.quick else (4096, 64, 32, 1024)
    names = ("count", "tokens", "alone", "batch")
    for name, value in zip(names, usual, strict=True):
        setattr(given, name, getattr(given, name) or value)
    if given.row is not None:
        given.json.write_text(json.dumps(run_row(given.row, given)))
        return
    unknown = [name for name in given.rows.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"--rows: {unknown[0]!r} is none of: {', '.join(ROWS)}")
    rows = {name: in_own_process(name, given) for name in given.rows.split(",")}
    found = ratios(rows, given.count)
    show(rows, found)
    settings = {name: getattr(given, name) for name in ("model", "precision", "workers", *names)}
    given.json.write_text(json.dumps({**settings, "rows": rows, "ratios": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
