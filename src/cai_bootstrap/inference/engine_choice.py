"""Which engine, and on how many GPUs at once: rules that can be read and tested, without loading anything.

Where several engines can do the work, `inference.fast.costs` weighs their seconds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference.devices import Gpu
from cai_bootstrap.inference.fast import costs
from cai_bootstrap.inference.weight_files import read_headers

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1, "fp8": 1}
WEIGHTS_SHARE = 0.8  # of a GPU's memory; cache and logits need the rest
GPUS_FOR_ONE_MODEL = (1, 2, 4, 8)
MARGIN_BYTES = 1024**3
MOST_OF_THE_MEMORY = 0.9


@dataclass(frozen=True)
class Choice:
    """An engine and why. `eager` (vLLM only): started without compiling, which is faster for few tokens."""

    name: str
    reason: str
    eager: bool = False


@dataclass(frozen=True)
class Weights:
    """A model's size: all its parameters, and the attention heads that tensor parallelism divides."""

    parameters: int
    heads: int


def choose_engine(
    asked: str,
    *,
    precision: str,
    tokens: int,
    weights: Weights,
    gpus: Sequence[Gpu],
    vllm: str | None,
    adapter: bool = False,
    fast: bool = True,
) -> Choice:
    """The engine for `tokens` new tokens in one process life, on these GPUs, with this version of vLLM if any.

    Without `fast`, `auto` takes transformers wherever that can do the work.

    Raises UsageError for what was asked for and cannot be: vLLM that is not installed, a precision that it lacks (with
    an `adapter` beside the weights fp32 too), a model that does not fit.
    """
    no_adapters = adapter and precision == "fp32" and bool(gpus)  # vLLM 0.26 asserts 16 bits in its LoRA kernels
    if asked == "vllm":
        _refuse_vllm(vllm, precision, no_adapters)
        mode = costs.vllm_mode(tokens, weights.parameters, _processes(weights, precision, gpus)) if gpus else "eager"
        return Choice("vllm", f"as asked, {vllm}, {mode}", mode == "eager")
    if asked != "auto":
        return Choice(asked, "as asked")
    if vllm is None:
        return Choice("transformers", "vLLM is not installed here")
    if not gpus:
        return Choice("transformers", "vLLM's costs are known for GPUs only, and there is none")
    if precision == "int8":
        return Choice("transformers", "vLLM has no 8-bit integers for plain weights")
    if no_adapters:
        return Choice("transformers", "on a GPU vLLM applies adapters in 16 bits only")
    try:
        processes = _processes(weights, precision, gpus)
    except UsageError as error:
        return Choice("transformers", str(error))
    mode = costs.vllm_mode(tokens, weights.parameters, processes)
    if precision == "fp8":
        return Choice("vllm", f"{vllm}, {mode}: fp8 is vLLM's alone", mode == "eager")
    if processes < len(gpus):
        return Choice("vllm", f"{vllm}, {mode}: the weights need {len(gpus) // processes} GPUs", mode == "eager")
    if not fast:
        return Choice("transformers", "the plain path (fast=false) weighs no engines")
    vllm_seconds, plain_seconds = (
        costs.seconds(name, tokens, weights.parameters, processes) for name in (mode, "transformers")
    )
    figures = (
        f"{tokens:,} tokens and the start take about {plain_seconds:.0f} s, with vLLM {vllm}, {mode}, "
        f"{vllm_seconds:.0f} s"
    )
    if vllm_seconds <= costs.WORTH_IT * plain_seconds:
        return Choice("vllm", f"{figures}: a fifth less, or better", mode == "eager")
    return Choice("transformers", f"{figures}: not a fifth less")


def _refuse_vllm(vllm: str | None, precision: str, no_adapters: bool) -> None:
    if vllm is None:
        raise UsageError(
            "--engine vllm: vLLM is not installed here; pip install 'cai-bootstrap[gpu]', or --engine transformers"
        )
    refuse_precision(precision)
    if no_adapters:
        raise UsageError(
            "--engine vllm with precision fp32: on a GPU vLLM applies adapters in 16 bits only; use bf16, "
            "--engine transformers, or a merged export (`cai export --merge`)"
        )


def refuse_precision(precision: str) -> None:
    """Raise UsageError for a precision that vLLM does not have."""
    if precision == "int8":
        raise UsageError(
            "--engine vllm with precision int8: vLLM quantises plain weights with bitsandbytes to 4 bit only, which is "
            "refused; use fp8 (Hopper or newer), bf16, or --engine transformers"
        )
    if precision not in BYTES:
        raise UsageError(f"precision '{precision}' is not available with vLLM; use fp8, bf16, fp16 or fp32")


def tensor_parallel(weights: Weights, precision: str, gpus: Sequence[Gpu]) -> int:
    """How many GPUs share one copy of the model: the fewest whose memory holds it; 1 without a GPU.

    Raises UsageError if all of them together do not, or the model's heads cannot be divided among enough of them.
    """
    if not gpus:
        return 1
    needed, least = weights.parameters * BYTES[precision], min(gpu.memory for gpu in gpus)
    for size in GPUS_FOR_ONE_MODEL:
        if size <= len(gpus) and weights.heads % size == 0 and needed / size <= WEIGHTS_SHARE * least:
            return size
    raise UsageError(
        f"{needed / 1024**3:.0f} GiB of weights in {precision} do not fit {len(gpus)} GPUs of {least / 1024**3:.0f} "
        "GiB with room for the cache; use fp8, a smaller model, or larger GPUs"
    )


def memory_share(free: int, total: int) -> float:
    """What vLLM may take of a GPU's memory, weights included, as a share of all of it; bytes.

    Raises EngineError if others have taken nearly all.
    """
    share = min(MOST_OF_THE_MEMORY, (free - MARGIN_BYTES) / total)
    if share < 0.05:
        raise EngineError(
            f"only {free / 1024**3:.1f} of {total / 1024**3:.1f} GiB of the GPU's memory are free; end what else runs "
            "there, or choose another GPU with CUDA_VISIBLE_DEVICES"
        )
    return round(share, 3)


def weights_of(folder: Path) -> Weights:
    """A prepared model's size, from the headers of its safetensors and its config.json; nothing is loaded."""
    parameters = sum(prod(tensor.shape) for tensor in read_headers(folder).values())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    return Weights(parameters, int(text.get("num_attention_heads") or 1))


def _processes(weights: Weights, precision: str, gpus: Sequence[Gpu]) -> int:
    return max(1, len(gpus) // tensor_parallel(weights, precision, gpus))
