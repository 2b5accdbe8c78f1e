"""vLLM on several GPUs: one engine for each, this process's and its workers', and every call shared out among them.

A part is larger than what one engine decodes at once, so that its slow rows have others beside them. Seeds belong to
places in the call; how many engines there are changes who has which neighbours, and nothing else. bf16 answers may
depend on those, so the number stands in the conditions, as part of the device.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.parallel import Worker
from cai_bootstrap.inference.vllm_engine import VllmEngine

PART_BATCHES = 4
PARTS_FOR_EACH = 4  # of a call are planned at a time; their answers wait in memory for the slowest


class ParallelVllm(VllmEngine):
    """`VllmEngine` whose prompts are answered by this process and by `workers`, at the same time."""

    def __init__(self, prepared: PreparedModel, workers: Sequence[Worker], **options: Any) -> None:
        self._workers = list(workers)
        self._off = False
        super().__init__(prepared, **options)
        # Not "4 x": that is one engine on four GPUs.
        self._info = replace(self._info, device=f"{len(self._workers) + 1} engines x {self._info.device}")

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        with super().without_adapter():
            self._off = True
            try:
                yield
            finally:
                self._off = False

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        super().close()

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        size = self.batch_size * PART_BATCHES
        window = size * PARTS_FOR_EACH * (len(self._workers) + 1)
        for start in range(0, len(prompts), window):
            stop = min(start + window, len(prompts))
            yield from self._shared("complete", start, stop, size, lambda a, b: (prompts[a:b], sampling, a))

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        size = self.batch_size * PART_BATCHES
        return self._shared("choice_logprobs", 0, len(prompts), size, lambda a, b: (prompts[a:b], choices))

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        size = self.batch_size * PART_BATCHES
        return self._shared("text_logprobs", 0, len(prompts), size, lambda a, b: (prompts[a:b], texts[a:b]))

    def _shared(
        self, method: str, start: int, stop: int, size: int, arguments: Callable[[int, int], tuple[Any, ...]]
    ) -> list[Any]:
        """Rows `start` to `stop` of a call, in order; each engine takes the next part when it is free."""
        size = min(size, -(-(stop - start) // (len(self._workers) + 1)) or 1)
        parts = [(at, min(at + size, stop)) for at in range(start, stop, size)]
        waiting = deque(range(len(parts)))
        made: dict[int, list[Any]] = {}
        failed: list[BaseException] = []

        def work(ask: Callable[[tuple[Any, ...]], Any]) -> None:
            try:
                while not failed:
                    try:
                        number = waiting.popleft()
                    except IndexError:
                        return
                    made[number] = list(ask(arguments(*parts[number])))
            except BaseException as error:
                failed.append(error)

        def asking(worker: Worker) -> Callable[[tuple[Any, ...]], Any]:
            return lambda given: worker.ask(method, not self._off, given)

        own = getattr(super(), method)
        others = [threading.Thread(target=work, args=(asking(worker),), daemon=True) for worker in self._workers]
        for thread in others:
            thread.start()
        work(lambda given: own(*given))
        for thread in others:
            thread.join()
        if failed:
            raise failed[0]
        return [row for number in range(len(parts)) for row in made[number]]
