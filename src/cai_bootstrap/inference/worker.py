"""`python -m cai_bootstrap.inference.worker FD`: a process that decodes batches on one GPU for a `ParallelEngine`.

It is asked and answers through the socket that it inherits; when that closes, it ends, in the middle of a batch too.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from cai_bootstrap.errors import CaiError, EngineError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.inference.parallel import WorkerSettings
from cai_bootstrap.inference.transformers_engine import TransformersEngine, is_out_of_memory, load, release_memory
from cai_bootstrap.inference.vllm_engine import VllmEngine

Request = tuple[str, bool, tuple[Any, ...]]


def serve(pipe: Connection) -> None:
    """Load what the first message names, then answer requests until the asking process is gone."""
    requests: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, requests), daemon=True).start()
    settings: WorkerSettings = requests.get()
    try:
        engine, adapter_off = _open(settings)
    except Exception as error:
        pipe.send((False, _sendable(error)))
        return
    pipe.send((True, None))
    while True:
        method, adapted, arguments = requests.get()
        off: AbstractContextManager[Any] = nullcontext() if adapted else adapter_off()
        try:
            with off:
                made = getattr(engine, method)(*arguments)
                answer = (True, list(made) if isinstance(made, Iterator) else made)
        except Exception as error:
            answer = (False, _sendable(error))
            if is_out_of_memory(error):
                if isinstance(engine, TransformersEngine):
                    engine.forget_recorded()
                release_memory()
        pipe.send(answer)


def _open(settings: WorkerSettings) -> tuple[Any, Callable[[], AbstractContextManager[Any]]]:
    """The engine, and what switches its adapter off."""
    if settings.engine == "vllm":
        other = VllmEngine(
            settings.prepared,
            precision=settings.precision,
            batch_size=settings.batch_size,
            adapter=settings.adapter,
            eager=settings.eager,
            exact=settings.exact,
            tensor_parallel=settings.tensor_parallel,
        )
        return other, other.without_adapter
    loaded = load(
        settings.prepared,
        precision=settings.precision,
        adapter=settings.adapter,
        threads=settings.threads,
    )
    adapter = settings.adapter
    if settings.merge and adapter is not None and settings.precision in {"fp32", "bf16", "fp16"}:
        loaded.model = loaded.model.merge_and_unload()
    known = sha256_file(adapter / "adapter_model.safetensors") if adapter is not None else None
    engine = TransformersEngine(
        loaded,
        settings.prepared,
        precision=settings.precision,
        batch_size=settings.batch_size,
        adapter=known,
        fast=settings.fast,
    )
    return engine, lambda: loaded.model.disable_adapter()


def _sendable(error: Exception) -> Exception:
    """The error as the asking process knows it: its own kind where that can be sent, else an EngineError."""
    if is_out_of_memory(error):
        return MemoryError(str(error))
    return error if isinstance(error, CaiError) else EngineError(f"{type(error).__name__}: {error}")


def _listen(pipe: Connection, requests: "SimpleQueue[Any]") -> None:
    while True:
        try:
            requests.put(pipe.recv())
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)  # the asking process is told too, and ends this one
    serve(Connection(int(sys.argv[1])))
