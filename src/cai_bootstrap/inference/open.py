"""Open a prepared model with the engine that suits it; the one place where an engine is chosen."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.guard import BaseModelReport, inspect_base
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.parallel import ParallelEngine, WorkerSettings, start_workers
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.workspace import sha256_file


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
        if self.peft_model is None:
            raise UsageError("no adapter is loaded that could be switched off")
        with contextlib.ExitStack() as off:
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
) -> OpenedModel:
    """Load a model into the engine that was asked for, or that `auto` chooses, which says why.

    `tokens_asked` is the number of new tokens this process will ask for. `merge` folds the adapter into the weights
    (faster; only for generation, in 16 bit or more: an evaluation applies it unmerged). With several `workers` the
    batches are shared out to as many processes, each with a GPU and the whole model. Raises UsageError if the engine,
    or that many GPUs, are not there.
    """
    chosen, reason = choose_engine(engine, precision=precision, tokens_asked=tokens_asked)
    say(f"engine {chosen}: {reason}")
    count = worker_count(workers, engine)
    if count > 1:
        say(f"{count} processes generate, each with the whole model")
        threads = max(1, (threads or os.cpu_count() or 1) // count)
    settings = WorkerSettings(prepared, precision, batch_size, adapter, merge, threads)
    others = start_workers(count, settings)  # they load while this process does
    loaded = load(prepared, precision=precision, adapter=adapter, threads=threads)
    if merge and adapter is not None and precision in {"fp32", "bf16", "fp16"}:
        loaded.model = loaded.model.merge_and_unload()
    adapter_hash = sha256_file(adapter / "adapter_model.safetensors") if adapter is not None else None
    options: dict[str, Any] = {"precision": precision, "batch_size": batch_size, "adapter": adapter_hash}
    for other in others:
        other.ready()
    made = (
        ParallelEngine(loaded, prepared, others, **options)
        if others
        else TransformersEngine(loaded, prepared, **options)
    )
    return OpenedModel(made, loaded.has_chat_template, loaded.model if adapter is not None and not merge else None)


def worker_count(asked: Literal["auto"] | int, engine: str) -> int:
    """How many processes generate: as many as asked for; `auto` takes every visible GPU where the engine is free too.

    Raises UsageError for more processes than GPUs (on a machine without one they share its processors).
    """
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return max(1, devices) if engine == "auto" else 1
    if devices and asked > devices:
        raise UsageError(f"workers={asked}: only {devices} GPUs are visible; use auto")
    return asked


def choose_engine(engine: str, *, precision: str, tokens_asked: int) -> tuple[str, str]:
    """The engine's name and the reason for it. Raises UsageError for one that this version cannot run."""
    if engine == "vllm":
        raise UsageError("--engine vllm: this version generates with transformers only; use --engine auto")
    if engine == "transformers":
        return engine, "as asked"
    return "transformers", f"no start-up to pay for {tokens_asked} tokens in {precision}"
