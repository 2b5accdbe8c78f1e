"""Generation speed: 4,096 few-shot prompts × 64 tokens, with the product's engines and with the libraries as they come.

Run on a GPU: python benchmarks/generation.py [--model gemma-3-270m] [--json FILE]; about six minutes with vLLM there.
Every row is a process of its own, so that start-ups are whole (imports included) and memory is free again:
    vllm                the product's engine, compiled; also `LLM.generate` of that very vLLM on the same token ids
    raw vllm            `LLM.generate` with vLLM's own settings (its scheduler in a process of its own), same token ids
    transformers        the product's engine; then with recorded steps (`inference.fixed_steps`)
    raw transformers    `generate`, batches sorted by length; and one prompt at a time, a few of them, extrapolated
Two measurements of each, on different prompts of the same kind (other examples, so that a prefix cache helps no more
than in a run):
    warm                all prompts in one call, 64 tokens or the end of the text
    passes              four calls of a quarter of them, one after the other, with generation's own stop strings where
                        the library has them (transformers' own take half a minute to prepare for Gemma's vocabulary, so
                        it writes on and is cut); with the start-up before, this is the whole time of 1,000 instructions
                        in four passes
A row that cannot run here says why and is left out of the ratios. `--quick` takes 16 prompts × 8 tokens, for a CPU and
a tiny model; its ratios mean nothing. `--workers 2` lets the product's rows take two GPUs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai_bootstrap.config import Generation
from cai_bootstrap.generation.candidates import exemplars_for
from cai_bootstrap.generation.prompts import NEXT_EXAMPLE, respond_prompt
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.models import PreparedModel, load_tokenizer, prepare
from cai_bootstrap.inference.open import open_model
from cai_bootstrap.inference.vllm_engine import sample_without_flashinfer_if_missing
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.interpreter import python_environment, script_command

ROWS = ("vllm", "raw vllm", "transformers", "raw transformers")
MORE_TOKENS = 10**8  # of so many these prompts would be a part: vLLM is compiled, as the raw one is
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ROW_SECONDS = 300.0  # then a row is ended and said to be too slow
PASSES = 4
Writer = Callable[[list[str], Sequence[str]], int]  # completes prompts up to stop strings, returns the new tokens


def few_shot_prompts(count: int) -> list[str]:
    """Few-shot prompts as generation makes them, of shipped instructions."""
    shots = Generation().shots
    instructions = sample(min(count, 1000), seed=0)
    return [
        respond_prompt(i.instruction, exemplars_for(i, shots, seed=0, use=f"respond:{n}"))
        for n in range(-(-count // len(instructions)))
        for i in instructions
    ][:count]


class Clock:
    """Measures one writer after another on prompts that none of them had before."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._prompts = few_shot_prompts(2 * given.count)
        self.found: dict[str, Any] = {}

    @property
    def warm_prompts(self) -> list[str]:
        return self._prompts[: self._given.count]

    def ready(self, write: Writer) -> None:
        write(self._prompts[:1], ())
        self.found["startup_seconds"] = time.time() - self._given.began

    def passes(self, write: Writer, name: str = "passes") -> None:
        size = self._given.count // PASSES
        start, made = time.perf_counter(), 0
        for n in range(PASSES):
            made += write(self._prompts[self._given.count + n * size :][:size], NEXT_EXAMPLE)
        seconds = time.perf_counter() - start
        whole = self.found["startup_seconds"] + seconds
        self.found[name] = {"seconds": seconds, "tokens": made, "whole_seconds": whole}

    def warm(self, write: Writer, name: str = "warm", stop: Sequence[str] = ()) -> None:
        start = time.perf_counter()
        made = write(self.warm_prompts, stop)
        seconds = time.perf_counter() - start
        self.found[name] = {"seconds": seconds, "tokens": made, "tokens_per_second": made / seconds}


def streaming(engine: Any, given: argparse.Namespace) -> Writer:
    return lambda prompts, stop: sum(
        made.tokens for made in engine.stream(prompts, Sampling(given.tokens, stop=tuple(stop)))
    )


def vllm(prepared: PreparedModel, given: argparse.Namespace, clock: Clock) -> None:
    opened = opening(prepared, "vllm", given, MORE_TOKENS)
    engine = opened.engine
    write = streaming(engine, given)
    clock.ready(write)
    clock.passes(write)
    clock.warm(write)
    if given.workers == "1" and os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "0") == "0":
        clock.warm(generating(engine._llm, prepared, given), "warm_raw_generate_of_the_same_vllm")
    engine.close()


def raw_vllm(prepared: PreparedModel, given: argparse.Namespace, clock: Clock) -> None:
    import torch

    sample_without_flashinfer_if_missing()
    # Its own process is forked unless told otherwise, and CUDA is known to this one already.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    from vllm import LLM

    room = {} if torch.cuda.is_available() else {"kv_cache_memory_bytes": 1024**3, "enforce_eager": True}
    llm = LLM(str(prepared.path), dtype=DTYPES[given.precision], max_model_len=4096, **room)
    write = generating(llm, prepared, given)
    clock.ready(write)
    clock.passes(write)
    clock.warm(write)


def generating(llm: Any, prepared: PreparedModel, given: argparse.Namespace) -> Writer:
    from vllm import SamplingParams

    tokenizer = load_tokenizer(prepared)

    def write(prompts: list[str], stop: Sequence[str]) -> int:
        asked = SamplingParams(temperature=0.0, max_tokens=given.tokens, stop=list(stop) or None)
        ids = tokenizer(prompts)["input_ids"]
        made = llm.generate([{"prompt_token_ids": row} for row in ids], asked, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in made)

    return write


def transformers(prepared: PreparedModel, given: argparse.Namespace, clock: Clock) -> None:
    import torch

    opened = opening(prepared, "transformers", given, 0)
    write = streaming(opened.engine, given)
    clock.ready(write)
    clock.passes(write)
    clock.warm(write)
    if torch.cuda.is_available() and given.workers == "1" and opened.engine._shapes is None:
        given.json.write_text(json.dumps(described("transformers", given, clock)))  # whatever comes of the next
        try:
            recorded(opened.engine, write, given, clock)
        except Exception as error:
            clock.found["recorded_failed"] = f"{type(error).__name__}: {error}"[:300]


def recorded(engine: Any, write: Writer, given: argparse.Namespace, clock: Clock) -> None:
    """The same engine with recorded steps, and how many of its answers stay what they were."""
    from cai_bootstrap.inference.transformers_engine import fixed_shapes

    engine._shapes = fixed_shapes(engine._model)
    clock.passes(write, "passes_recorded")
    clock.warm(write, "warm_recorded")
    sampling, some = Sampling(given.tokens, stop=NEXT_EXAMPLE), clock.warm_prompts[:512]
    fixed = [made.text for made in engine.stream(some, sampling)]
    engine._shapes = None
    same = sum(a == b.text for a, b in zip(fixed, engine.stream(some, sampling), strict=True))
    clock.found["recorded_answers_the_same"] = {"of": len(some), "same": same}


def opening(prepared: PreparedModel, engine: str, given: argparse.Namespace, tokens: int) -> Any:
    return open_model(
        prepared, engine=engine, precision=given.precision, batch_size=given.batch, say=print, tokens_asked=tokens,
        workers=given.workers if given.workers == "auto" else int(given.workers),
    )  # fmt: skip


def raw_transformers(prepared: PreparedModel, given: argparse.Namespace, clock: Clock) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, DTYPES[given.precision])
    model = AutoModelForCausalLM.from_pretrained(prepared.path, dtype=dtype).to(device).eval()
    tokenizer = load_tokenizer(prepared)
    tokenizer.padding_side = "left"
    eos = model.generation_config.eos_token_id
    ends = torch.tensor(eos if isinstance(eos, list) else [eos], device=device)

    def write(prompts: list[str], _stop: Sequence[str]) -> int:
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

    clock.ready(write)
    clock.passes(write)
    clock.warm(write)
    # Evenly spread over the prompts, so that their lengths are those of all of them.
    some = clock.warm_prompts[:: max(1, given.count // given.alone)][: given.alone]
    start = time.perf_counter()
    made = sum(write([prompt], ()) for prompt in some)
    seconds = time.perf_counter() - start
    clock.found["one_at_a_time"] = {
        "prompts": len(some), "seconds": seconds, "tokens_per_second": made / seconds,
        "extrapolated_seconds": seconds / len(some) * given.count,
    }  # fmt: skip


def run_row(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One row, in this process, which began at `given.began` (seconds since the epoch)."""
    measure = {"vllm": vllm, "raw vllm": raw_vllm, "transformers": transformers, "raw transformers": raw_transformers}
    clock = Clock(given)
    measure[name](prepare(given.model), given, clock)
    return described(name, given, clock)


def described(name: str, given: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    return {
        "row": name, "prompts": given.count, "tokens_each": given.tokens, "batch": given.batch,
        "workers": given.workers, "precision": given.precision, **clock.found,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "memory_gib": torch.cuda.max_memory_allocated() / 1024**3 if gpu else None,
    }  # fmt: skip


def in_own_process(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """A row from a process of its own; `{"row": …, "failed": why}` if it gives none."""
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "row.json", Path(folder) / "log"
        command = script_command(
            __file__, "--row", name, "--json", str(file), "--began", str(time.time()),
            "--model", given.model, "--precision", given.precision, "--batch", str(given.batch),
            "--workers", given.workers, "--count", str(given.count), "--tokens", str(given.tokens),
            "--alone", str(given.alone),
        )  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=python_environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
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
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ratios(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rows say of the aims; only of rows that ran."""
    found: list[dict[str, Any]] = []

    def add(what: str, value: float, aim: float, *, at_most: bool = False) -> None:
        reached = value <= aim if at_most else value >= aim
        found.append({"what": what, "value": value, "aim": aim, "at_most": at_most, "reached": reached})

    sound = {name: row for name, row in rows.items() if "failed" not in row}
    rates = {
        (name, key): value["tokens_per_second"]
        for name, row in sound.items()
        for key, value in row.items()
        if key.startswith("warm")
    }
    if raw := rates.get(("raw vllm", "warm")):
        for name, key in rates:
            if not name.startswith("raw") and (name, key) != ("vllm", "warm_raw_generate_of_the_same_vllm"):
                add(f"tokens/s warm, {name} ({key}) against raw vLLM", rates[name, key] / raw, 0.95)
    if same := rates.get(("vllm", "warm_raw_generate_of_the_same_vllm")):
        add("tokens/s warm, vllm against `generate` of the same vLLM", rates["vllm", "warm"] / same, 0.95)
    wholes = {
        (name, key): value["whole_seconds"]
        for name, row in sound.items()
        for key, value in row.items()
        if key.startswith("passes")
    }
    ours = {place: seconds for place, seconds in wholes.items() if not place[0].startswith("raw")}
    raws = [seconds for place, seconds in wholes.items() if place[0].startswith("raw")]
    if ours and raws:
        best = min(ours, key=lambda place: ours[place])
        add(f"whole time with start-up, {best[0]} ({best[1]}) against the better raw library",
            ours[best] / min(raws), 0.8, at_most=True)  # fmt: skip
    alone = sound.get("raw transformers", {}).get("one_at_a_time")
    mine = [rates[place] for place in rates if not place[0].startswith("raw") and "raw" not in place[1]]
    if alone and mine:
        add("tokens/s, the best engine against one prompt at a time", max(mine) / alone["tokens_per_second"], 300)
    return found


def show(rows: dict[str, dict[str, Any]], found: list[dict[str, Any]]) -> None:
    print(f"{'':<52}{'seconds':>10}{'tokens/s':>11}{'whole s':>10}")
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:<52}{'-':>10}  {row['failed']}")
            continue
        for key, value in row.items():
            if isinstance(value, dict) and "seconds" in value:
                rate = value.get("tokens_per_second") or value["tokens"] / value["seconds"]
                whole = f"{value['whole_seconds']:.1f}" if "whole_seconds" in value else ""
                print(f"{name + ' ' + key:<52}{value['seconds']:>10.2f}{rate:>11.1f}{whole:>10}")
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
    parser.add_argument("--workers", default="1", help="GPUs for the product's rows: auto or a number")
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, joined by commas")
    parser.add_argument("--limit", type=float, default=ROW_SECONDS, help="seconds for each row")
    parser.add_argument("--json", type=Path, default=Path("generation.json"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--alone", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--row", choices=ROWS, help="one row, in this process")
    parser.add_argument("--began", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.began = given.began or time.time()
    usual = (16, 8, 4, 8) if given.quick else (4096, 64, 8, 1024)
    names = ("count", "tokens", "alone", "batch")
    for name, value in zip(names, usual, strict=True):
        setattr(given, name, getattr(given, name) or value)
    if given.row is not None:
        given.json.write_text(json.dumps(run_row(given.row, given)))
        sys.stdout.flush()
        os._exit(0)  # an engine that takes its time to end would be measured with the next row
    unknown = [name for name in given.rows.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"--rows: {unknown[0]!r} is none of: {', '.join(ROWS)}")
    rows = {name: in_own_process(name, given) for name in given.rows.split(",")}
    found = ratios(rows)
    show(rows, found)
    given.json.write_text(json.dumps({"rows": rows, "ratios": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
