"""One engine over several GPUs: the batches that one GPU would decode, shared out to one worker process a GPU.

Batches, padding and seeds are planned as for one GPU (`TransformersEngine`), so a completion does not depend on how
many there are, nor on which of them made it; only the time does. A call with fewer batches than GPUs leaves some idle.
"""

import contextlib
import os
import pickle
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.transformers_engine import LoadedModel, TransformersEngine, is_out_of_memory
from cai_bootstrap.interpreter import python_command, python_environment

QUEUED_FOR_EACH = 2  # batches planned ahead of the one that is decoded


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker loads: the same model in the same way as the process that asks it.

    `eager`, `exact` and `tensor_parallel` (GPUs for each copy of the model) are for vLLM.
    """

    prepared: PreparedModel
    precision: str
    batch_size: int
    adapter: Path | None
    merge: bool
    threads: int
    attention: str | None = None
    engine: str = "transformers"
    eager: bool = True
    exact: bool = False
    tensor_parallel: int = 1


class Worker:
    """A process with a model of its own, on one device or on a few that share it.

    It ends when the process that started it does.
    """

    def __init__(self, number: int, settings: WorkerSettings, device: str | None) -> None:
        self.number = number
        ours, theirs = socket.socketpair()
        environment = python_environment({} if device is None else {"CUDA_VISIBLE_DEVICES": device})
        command = python_command("cai_bootstrap.inference.worker", str(theirs.fileno()))
        # What it prints goes where this process's own messages go, never among results on stdout.
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._pipe.send(settings)

    def ready(self) -> None:
        """Wait until the model is loaded. Raises EngineError if it cannot be."""
        self._answer()

    def ask(self, method: str, adapted: bool, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the worker's engine, with its adapter on or off. Raises what it raised."""
        try:
            self._pipe.send((method, adapted, arguments))
        except OSError as error:
            raise self._gone() from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            sound, value = self._pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._gone() from error
        if not sound:
            raise value
        return value

    def _gone(self) -> EngineError:
        code = self._process.wait()
        return EngineError(f"generating process {self.number} ended with exit code {code}; its messages say why")

    def close(self) -> None:
        """End the process at once."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()


class ParallelEngine(TransformersEngine):
    """`TransformersEngine` whose batches are decoded by this process and by `workers`, at the same time."""

    def __init__(self, loaded: LoadedModel, prepared: PreparedModel, workers: Sequence[Worker], **options: Any) -> None:
        super().__init__(loaded, prepared, **options)
        self._workers = list(workers)
        self._adapted = True
        self._free: SimpleQueue[Worker | None] = SimpleQueue()
        for worker in (None, *self._workers):  # None is this process itself
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(len(workers) + 1, thread_name_prefix="decode")

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The workers' adapters are switched off too."""
        self._adapted = False
        try:
            yield
        finally:
            self._adapted = True

    def close(self) -> None:
        """End the workers. They also end with this process."""
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _window(self, prompts: Sequence[str], sampling: Sampling, offset: int) -> Iterator[Completion]:
        encoded = self._encode_shared(prompts)
        order = sorted(range(len(prompts)), key=lambda i: (-len(encoded[i]), i))
        running: deque[tuple[list[int], Future[list[Completion]]]] = deque()
        try:
            yield from self._share_out(encoded, order, sampling, offset, running)
        finally:
            _forget(running)

    def _encode_shared(self, prompts: Sequence[str]) -> list[list[int]]:
        """`encode`, each process a part: no batch is planned before all lengths are known, and GPUs would wait."""
        part = max(self.batch_size, -(-len(prompts) // (len(self._workers) + 1)))
        parts = [prompts[start : start + part] for start in range(0, len(prompts), part)]
        futures = [self._threads.submit(self._anywhere, "encode", (list(texts),)) for texts in parts]
        return [ids for future in futures for ids in future.result()]

    def _share_out(
        self,
        encoded: list[list[int]],
        order: list[int],
        sampling: Sampling,
        offset: int,
        running: "deque[tuple[list[int], Future[list[Completion]]]]",
    ) -> Iterator[Completion]:
        done: dict[int, Completion] = {}
        released = 0
        position = 0  # of the first batch that is not running yet
        while running or position < len(order):
            while position < len(order) and len(running) < QUEUED_FOR_EACH * (len(self._workers) + 1):
                chosen = order[position : position + self.batch_size]
                arguments = ([encoded[i] for i in chosen], sampling, offset + position)
                running.append((chosen, self._threads.submit(self._anywhere, "_decode", arguments)))
                position += len(chosen)
            chosen, future = running.popleft()
            try:
                completions = future.result()
            except Exception as error:
                # As one GPU would: all from this batch on is planned anew with half the size.
                position -= len(chosen) + sum(len(rest) for rest, _ in running)
                _forget(running)
                if not is_out_of_memory(error):
                    raise EngineError(f"decoding failed: {type(error).__name__}: {error}") from error
                self._reduce(error)
                continue
            done.update(zip(chosen, completions, strict=True))
            while released in done:
                yield done.pop(released)
                released += 1

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        return self._shared("choice_logprobs", len(prompts), lambda part: (prompts[part], choices))

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        return self._shared("text_logprobs", len(prompts), lambda part: (prompts[part], texts[part]))

    def _shared(self, method: str, count: int, arguments: Callable[[slice], tuple[Any, ...]]) -> list[Any]:
        parts = [slice(start, start + self.batch_size) for start in range(0, count, self.batch_size)]
        futures = [self._threads.submit(self._anywhere, method, arguments(part)) for part in parts]
        return [row for future in futures for row in future.result()]

    def _anywhere(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Run one batch on whichever device is free."""
        worker = self._free.get()
        try:
            if worker is not None:
                return worker.ask(method, self._adapted, arguments)
            return getattr(super(), method)(*arguments)
        finally:
            self._free.put(worker)


def _forget(running: "deque[tuple[list[int], Future[list[Completion]]]]") -> None:
    """Drop batches that nobody waits for any more; returns when none of them is being decoded."""
    for _, future in running:
        future.cancel()
    wait([future for _, future in running])
    running.clear()


def start_workers(count: int, settings: WorkerSettings) -> list[Worker]:
    """Start `count` - 1 workers beside this process, each on the next visible GPUs, or all on the CPU."""
    import torch

    visible: list[str | None] = [None] * count
    if torch.cuda.is_available():
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = named.split(",") if named else [str(n) for n in range(torch.cuda.device_count())]
        each = settings.tensor_parallel
        visible = [",".join(device.strip() for device in devices[n * each : (n + 1) * each]) for n in range(count)]
    return [Worker(number, settings, visible[number]) for number in range(1, count)]
