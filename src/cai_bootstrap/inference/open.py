"""Open a prepared model with the engine that suits it; the one place where an engine is chosen."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.inference.devices import gpu_count, visible_gpus
from cai_bootstrap.inference.engine import Engine, EngineSpec
from cai_bootstrap.inference.engine_choice import choose_engine, tensor_parallel, weights_of
from cai_bootstrap.inference.guard import BaseModelReport, inspect_base
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.openai_engine import OpenAIEngine
from cai_bootstrap.inference.parallel import ParallelEngine, Worker, start_workers
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.inference.vllm_engine import VllmEngine, vllm_version
from cai_bootstrap.inference.vllm_parallel import ParallelVllm
from cai_bootstrap.servers import NOT_CHECKED


@dataclass(frozen=True)
class OpenedModel:
    """An engine with the model behind it."""

    engine: Engine
    has_chat_template: bool

    def inspect(self) -> BaseModelReport:
        """Ask the sentinels whether this "base" behaves like a tuned model."""
        return inspect_base(self.engine, has_chat_template=self.has_chat_template)


def _open_transformers(spec: EngineSpec) -> TransformersEngine:
    adapter = spec.adapter
    loaded = load(spec.prepared, precision=spec.precision, adapter=adapter, threads=spec.threads)
    if spec.merge and adapter is not None and spec.precision in {"fp32", "bf16", "fp16"}:
        loaded.model = loaded.model.merge_and_unload()
    return TransformersEngine(
        loaded,
        spec.prepared,
        precision=spec.precision,
        batch_size=spec.batch_size,
        adapter=sha256_file(adapter / "adapter_model.safetensors") if adapter is not None else None,
        fast=spec.fast,
    )


def _open_vllm(spec: EngineSpec) -> VllmEngine:
    """vLLM applies an adapter beside the weights at little cost, so nothing is merged."""
    return VllmEngine(
        spec.prepared,
        precision=spec.precision,
        batch_size=spec.batch_size,
        adapter=spec.adapter,
        eager=spec.eager,
        exact=spec.exact,
        tensor_parallel=spec.tensor_parallel,
    )


def _open_server(spec: EngineSpec) -> OpenAIEngine:
    """A server knows no adapter of ours, so it answers as the untrained base alone."""
    if spec.server is None or spec.adapter is not None:
        raise UsageError("--engine openai answers as the untrained base at an address: give one with --endpoint")
    return OpenAIEngine(spec.server, spec.prepared, precision=spec.precision, batch_size=spec.batch_size)


# How each engine is opened, by the name that `--engine` gives. Those with a pool can be had in several processes.
OPENERS: dict[str, Callable[[EngineSpec], Engine]] = {
    "transformers": _open_transformers,
    "vllm": _open_vllm,
    "openai": _open_server,
}
POOLS: dict[str, Callable[[Any, Sequence[Worker]], Engine]] = {"transformers": ParallelEngine, "vllm": ParallelVllm}


def open_engine(spec: EngineSpec) -> Engine:
    """One engine in this process. Raises UsageError or EngineError if it cannot be loaded."""
    return OPENERS[spec.engine](spec)


def open_model(
    prepared: PreparedModel,
    *,
    engine: str,
    precision: str,
    batch_size: int,
    tokens_asked: int,
    say: Callable[[str], None],
    adapter: Path | None = None,
    merge: bool = False,
    threads: int = 0,
    workers: Literal["auto"] | int = 1,
    exact: bool = False,
    fast: bool = True,
    server: CompletionsServer | None = None,
) -> OpenedModel:
    """Load a model into the engine that was asked for, or that `auto` chooses, which says why.

    `tokens_asked` is the number of new tokens this process will ask for. `merge` folds the adapter into the weights
    (faster; only for generation, in 16 bit or more: an evaluation applies it unmerged). With several `workers` the
    batches are shared out to as many processes, each with a GPU and the whole model (with vLLM: with as many GPUs as
    the model needs). `exact`: the same call must give the same answers again, at the cost of speed (vLLM only; the
    other engine always does). Without `fast` nothing is recorded, and `auto` weighs no engines. `server`: who answers
    where the engine is openai. Raises UsageError if the engine, or that many GPUs, are not there.
    """
    prepared_weights, gpus = weights_of(prepared.path), visible_gpus()[1]
    choice = choose_engine(
        engine,
        precision=precision,
        tokens=tokens_asked,
        weights=prepared_weights,
        gpus=gpus,
        vllm=vllm_version(),
        adapter=adapter is not None,
        fast=fast,
    )
    where = "" if server is None else f", {server.model} at {server.endpoint}, {precision}: {NOT_CHECKED}"
    say(f"engine {choice.name}: {choice.reason}{where}")
    each, free = 1, engine
    if choice.name == "vllm":
        each, free = tensor_parallel(prepared_weights, precision, gpus), "auto"
    count = worker_count(workers, free, each) if choice.name in POOLS else 1
    if count > 1:
        say(f"{count} processes generate, each with the whole model" + (f" on {each} GPUs" if each > 1 else ""))
        threads = max(1, (threads or os.cpu_count() or 1) // count)
    spec = EngineSpec(
        choice.name, prepared, precision, batch_size, adapter, merge, threads, fast, choice.eager, exact, each, server
    )
    others = start_workers(count, spec)  # they load while this process does
    opened = open_engine(spec)
    for other in others:
        other.ready()
    if others:
        opened = POOLS[choice.name](opened, others)
    return OpenedModel(opened, opened.has_chat_template or prepared.chat_template)


def worker_count(asked: Literal["auto"] | int, engine: str, each: int = 1) -> int:
    """How many processes generate: as many as asked for; `auto` takes every visible GPU where the engine is free too.

    `each` is the number of GPUs that one copy of the model takes. Raises UsageError for more processes than GPUs (on a
    machine without one they share its processors).
    """
    devices = gpu_count()
    if asked == "auto":
        return max(1, devices // each) if engine == "auto" else 1
    if devices and asked * each > devices:
        taken = f", each with {each} GPUs" if each > 1 else ""
        raise UsageError(f"workers={asked}{taken}: only {devices} GPUs are visible; use auto")
    return asked
