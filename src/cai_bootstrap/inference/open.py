"""Open a prepared model with the engine that suits it; the one place where an engine is chosen."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.inference.devices import visible_gpus
from cai_bootstrap.inference.engine_choice import Choice, choose_engine, tensor_parallel, weights_of
from cai_bootstrap.inference.guard import BaseModelReport, inspect_base
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.parallel import ParallelEngine, WorkerSettings, start_workers
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.inference.vllm_engine import VllmEngine, vllm_version
from cai_bootstrap.inference.vllm_parallel import ParallelVllm


@dataclass
class OpenedModel:
    """An engine with the model behind it."""

    engine: Any
    has_chat_template: bool
    peft_model: Any = None

    def inspect(self) -> BaseModelReport:
        """Ask the sentinels whether this "base" behaves like a tuned model."""
        return inspect_base(self.engine, has_chat_template=self.has_chat_template)

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The same engine with the adapter switched off: the base under the very same conditions."""
        with contextlib.ExitStack() as off:
            if isinstance(self.engine, VllmEngine):
                off.enter_context(self.engine.without_adapter())
            elif self.peft_model is None:
                raise UsageError("no adapter is loaded that could be switched off")
            else:
                off.enter_context(self.peft_model.disable_adapter())
            if isinstance(self.engine, ParallelEngine):
                off.enter_context(self.engine.without_adapter())
            yield


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
) -> OpenedModel:
    """Load a model into the engine that was asked for, or that `auto` chooses, which says why.

    `tokens_asked` is the number of new tokens this process will ask for. `merge` folds the adapter into the weights
    (faster; only for generation, in 16 bit or more: an evaluation applies it unmerged). With several `workers` the
    batches are shared out to as many processes, each with a GPU and the whole model (with vLLM: with as many GPUs as
    the model needs). `exact`: the same call must give the same answers again, at the cost of speed (vLLM only; the
    other engine always does). Without `fast` nothing is recorded, and `auto` weighs no engines. Raises UsageError if
    the engine, or that many GPUs, are not there.
    """
    choice = choose_engine(
        engine,
        precision=precision,
        tokens=tokens_asked,
        weights=weights_of(prepared.path),
        gpus=visible_gpus()[1],
        vllm=vllm_version(),
        adapter=adapter is not None,
        fast=fast,
    )
    say(f"engine {choice.name}: {choice.reason}")
    if choice.name == "vllm":
        return _open_vllm(prepared, choice, precision, batch_size, adapter, workers, exact, say)
    count = worker_count(workers, engine)
    if count > 1:
        say(f"{count} processes generate, each with the whole model")
        threads = max(1, (threads or os.cpu_count() or 1) // count)
    settings = WorkerSettings(prepared, precision, batch_size, adapter, merge, threads, fast=fast)
    others = start_workers(count, settings)  # they load while this process does
    loaded = load(prepared, precision=precision, adapter=adapter, threads=threads)
    if merge and adapter is not None and precision in {"fp32", "bf16", "fp16"}:
        loaded.model = loaded.model.merge_and_unload()
    adapter_hash = sha256_file(adapter / "adapter_model.safetensors") if adapter is not None else None
    options: dict[str, Any] = {"precision": precision, "batch_size": batch_size, "adapter": adapter_hash, "fast": fast}
    for other in others:
        other.ready()
    made = (
        ParallelEngine(loaded, prepared, others, **options)
        if others
        else TransformersEngine(loaded, prepared, **options)
    )
    templated = loaded.has_chat_template or prepared.chat_template
    return OpenedModel(made, templated, loaded.model if adapter is not None and not merge else None)


def _open_vllm(
    prepared: PreparedModel,
    choice: Choice,
    precision: str,
    batch_size: int,
    adapter: Path | None,
    workers: Literal["auto"] | int,
    exact: bool,
    say: Callable[[str], None],
) -> OpenedModel:
    """vLLM applies an adapter beside the weights at little cost, so nothing is merged."""
    each = tensor_parallel(weights_of(prepared.path), precision, visible_gpus()[1])
    count = worker_count(workers, "auto", each)
    if count > 1:
        say(f"{count} processes generate, each with the whole model" + (f" on {each} GPUs" if each > 1 else ""))
    settings = WorkerSettings(
        prepared, precision, batch_size, adapter, merge=False, threads=0, engine="vllm", eager=choice.eager,
        exact=exact, tensor_parallel=each,
    )  # fmt: skip
    others = start_workers(count, settings)
    made = ParallelVllm(
        prepared, others, precision=precision, batch_size=batch_size, adapter=adapter, eager=choice.eager, exact=exact,
        tensor_parallel=each,
    ) if others else VllmEngine(
        prepared, precision=precision, batch_size=batch_size, adapter=adapter, eager=choice.eager, exact=exact,
        tensor_parallel=each,
    )  # fmt: skip
    for other in others:
        other.ready()
    return OpenedModel(made, made.has_chat_template or prepared.chat_template)


def worker_count(asked: Literal["auto"] | int, engine: str, each: int = 1) -> int:
    """How many processes generate: as many as asked for; `auto` takes every visible GPU where the engine is free too.

    `each` is the number of GPUs that one copy of the model takes. Raises UsageError for more processes than GPUs (on a
    machine without one they share its processors).
    """
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return max(1, devices // each) if engine == "auto" else 1
    if devices and asked * each > devices:
        taken = f", each with {each} GPUs" if each > 1 else ""
        raise UsageError(f"workers={asked}{taken}: only {devices} GPUs are visible; use auto")
    return asked
