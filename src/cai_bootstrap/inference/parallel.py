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
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference.devices import gpu_count
from cai_bootstrap.inference.engine import Completion, EngineInfo, EngineSpec, Sampling
from cai_bootstrap.inference.memory import is_out_of_memory
from cai_bootstrap.inference.requests import Decode, Encode, PooledEngine, Request, ScoreChoices, ScoreTexts
from cai_bootstrap.inference.transformers_engine import WINDOW_BATCHES, TransformersEngine
from cai_bootstrap.interpreter import python_command, python_environment

QUEUED_FOR_EACH = 2  # batches planned ahead of the one that is decoded


class Worker:
    """A process with a model of its own, on one device or on a few that share it.

    It ends when the process that started it does.
    """

    def __init__(self, number: int, spec: EngineSpec, device: str | None) -> None:
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
        self._pipe.send(spec)

    def ready(self) -> None:
        """Wait until the model is loaded. Raises EngineError if it cannot be."""
        self._answer()

    def ask(self, request: Request, *, adapted: bool) -> list[Any]:
        """What the worker's engine answers, with its adapter on or off. Raises what it raised."""
        try:
            self._pipe.send((request, adapted))
        except OSError as error:
            raise self._gone() from error
        answer: list[Any] = self._answer()
        return answer

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


class EnginePool:
    """This process's engine and those of `workers`, behind the one interface (`inference.engine.Engine`).

    How calls are cut into requests is the engine's affair: `ParallelEngine` for transformers, `ParallelVllm` for vLLM.
    """

    def __init__(self, own: PooledEngine, workers: Sequence[Worker]) -> None:
        self._own, self._workers, self._adapted = own, list(workers), True
        self.has_chat_template = own.has_chat_template

    @property
    def batch_size(self) -> int:
        return self._own.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._own.batch_size = size

    @property
    def info(self) -> EngineInfo:
        return self._own.info

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        return self._own.complete_live(prompt, sampling, on_text)

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The workers' adapters are switched off too."""
        with self._own.without_adapter():
            self._adapted = False
            try:
                yield
            finally:
                self._adapted = True

    def rising_end(self, slope: float) -> AbstractContextManager[None]:  # noqa: ARG002 - of no use here
        raise UsageError("the rising end-of-sequence rule needs --engine transformers in one process: workers=1")

    def close(self) -> None:
        """End the workers. They also end with this process."""
        for worker in self._workers:
            worker.close()
        self._own.close()


class ParallelEngine(EnginePool):
    """`TransformersEngine` whose batches are decoded by this process and by `workers`, at the same time."""

    def __init__(self, own: TransformersEngine, workers: Sequence[Worker]) -> None:
        super().__init__(own, workers)
        self._reduce = own.reduce
        self._free: SimpleQueue[Worker | None] = SimpleQueue()
        for worker in (None, *self._workers):  # None is this process itself
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(len(workers) + 1, thread_name_prefix="decode")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        super().close()

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        window = self.batch_size * WINDOW_BATCHES
        for start in range(0, len(prompts), window):
            yield from self._window(prompts[start : start + window], sampling, start)

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
        futures = [self._threads.submit(self._anywhere, Encode(list(texts))) for texts in parts]
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
                request = Decode([encoded[i] for i in chosen], sampling, offset + position)
                running.append((chosen, self._threads.submit(self._anywhere, request)))
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
        return self._shared([ScoreChoices(prompts[part], choices) for part in self._batches(len(prompts))])

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        return self._shared([ScoreTexts(prompts[part], texts[part]) for part in self._batches(len(prompts))])

    def _batches(self, count: int) -> list[slice]:
        return [slice(start, start + self.batch_size) for start in range(0, count, self.batch_size)]

    def _shared(self, requests: Sequence[Request]) -> list[Any]:
        futures = [self._threads.submit(self._anywhere, request) for request in requests]
        return [row for future in futures for row in future.result()]

    def _anywhere(self, request: Request) -> list[Any]:
        """Run one request on whichever device is free."""
        worker = self._free.get()
        try:
            if worker is not None:
                return worker.ask(request, adapted=self._adapted)
            return self._own.perform(request)
        finally:
            self._free.put(worker)


def _forget(running: "deque[tuple[list[int], Future[list[Completion]]]]") -> None:
    """Drop batches that nobody waits for any more; returns when none of them is being decoded."""
    for _, future in running:
        future.cancel()
    wait([future for _, future in running])
    running.clear()


def start_workers(count: int, spec: EngineSpec) -> list[Worker]:
    """Start `count` - 1 workers beside this process, each on the next visible GPUs, or all on the CPU."""
    visible: list[str | None] = [None] * count
    if devices_here := gpu_count():
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = named.split(",") if named else [str(n) for n in range(devices_here)]
        each = spec.tensor_parallel
        visible = [",".join(device.strip() for device in devices[n * each : (n + 1) * each]) for n in range(count)]
    return [Worker(number, spec, visible[number]) for number in range(1, count)]
