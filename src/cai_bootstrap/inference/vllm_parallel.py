"""vLLM on several GPUs: one engine for each, this process's and its workers', and every call shared out among them.

A part is larger than what one engine decodes at once, so that its slow rows have others beside them. Seeds belong to
places in the call; how many engines there are changes who has which neighbours, and nothing else. bf16 answers may
depend on those, so the number stands in the conditions, as part of the device.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.inference.parallel import EnginePool
from cai_bootstrap.inference.requests import Complete, Request, ScoreChoices, ScoreTexts

PART_BATCHES = 4
PARTS_FOR_EACH = 4  # of a call are planned at a time; their answers wait in memory for the slowest


class ParallelVllm(EnginePool):
    """`VllmEngine` whose prompts are answered by this process and by `workers`, at the same time."""

    @property
    def info(self) -> EngineInfo:
        # Not "4 x": that is one engine on four GPUs.
        info = super().info
        return replace(info, device=f"{len(self._workers) + 1} engines x {info.device}")

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        size = self.batch_size * PART_BATCHES
        window = size * PARTS_FOR_EACH * (len(self._workers) + 1)
        for start in range(0, len(prompts), window):
            stop = min(start + window, len(prompts))
            yield from self._shared(start, stop, size, lambda a, b: Complete(prompts[a:b], sampling, a))

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        size = self.batch_size * PART_BATCHES
        return self._shared(0, len(prompts), size, lambda a, b: ScoreChoices(prompts[a:b], choices))

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        size = self.batch_size * PART_BATCHES
        return self._shared(0, len(prompts), size, lambda a, b: ScoreTexts(prompts[a:b], texts[a:b]))

    def _shared(self, start: int, stop: int, size: int, request: Callable[[int, int], Request]) -> list[Any]:
        """Rows `start` to `stop` of a call, in order; each engine takes the next part when it is free."""
        size = min(size, -(-(stop - start) // (len(self._workers) + 1)) or 1)
        parts = [(at, min(at + size, stop)) for at in range(start, stop, size)]
        waiting = deque(range(len(parts)))
        answers: dict[int, list[Any]] = {}
        errors: list[BaseException] = []

        def work(perform: Callable[[Request], list[Any]]) -> None:
            try:
                while not errors:
                    try:
                        number = waiting.popleft()
                    except IndexError:
                        return
                    answers[number] = perform(request(*parts[number]))
            except BaseException as error:
                errors.append(error)

        others = [
            threading.Thread(target=work, args=(partial(worker.ask, adapted=self._adapted),), daemon=True)
            for worker in self._workers
        ]
        for thread in others:
            thread.start()
        work(self._own.perform)
        for thread in others:
            thread.join()
        if errors:
            raise errors[0]
        return [row for number in range(len(parts)) for row in answers[number]]
