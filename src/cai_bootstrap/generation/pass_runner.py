"""How a pass is run: chunk by chunk with the planned batch sizes, asked to stop between chunks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cai_bootstrap.batches import BatchPlan, ChunkFile, seed_of
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import InterruptedRunError
from cai_bootstrap.events import Progress
from cai_bootstrap.inference.engine import Completion, Engine, Sampling
from cai_bootstrap.records import Record

RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True)
class PassRunner:
    """What the passes of one generation share."""

    config: RunConfig
    engine: Engine
    plan: BatchPlan
    progress: Progress
    stopping: Callable[[], bool]
    say: Callable[[str], None]

    def each(self, name: str, file: ChunkFile[RecordT], make: Callable[[int], list[RecordT]]) -> None:
        """Make the chunks of a pass that are not on disk yet, each with the plan's batch size.

        Raises InterruptedRunError between two chunks when asked to stop.
        """
        total = len(file.sizes)
        for chunk in range(file.complete_chunks(), total):
            if self.stopping():
                raise InterruptedRunError(
                    f"stopped during '{name}' after {chunk} of {total} batches; start again to go on"
                )
            begun = self.progress.mark
            while True:
                self.engine.batch_size = self.plan.batch_size(name, chunk)
                records = make(chunk)
                if self.engine.batch_size == self.plan.batch_size(name, chunk):
                    break
                self.plan.reduce(name, chunk, self.engine.batch_size)
                self.progress.rewind(begun)
                self.say(f"out of memory: from here on {self.engine.batch_size} prompts are decoded together")
            file.append(records, chunk)

    def complete(
        self,
        name: str,
        chunk: int,
        prompts: Sequence[str],
        tokens: int,
        temperature: float = 0.0,
        stop: tuple[str, ...] = (),
    ) -> list[Completion]:
        """Complete a chunk's prompts with the seed that belongs to the pass and the chunk."""
        sampling = Sampling(
            tokens,
            temperature=temperature,
            top_p=self.config.generation.top_p,
            stop=stop,
            seed=seed_of(self.config.seed, name, chunk),
        )
        return complete(self.engine, prompts, sampling, self.progress)


def complete(engine: Engine, prompts: Sequence[str], sampling: Sampling, progress: Progress) -> list[Completion]:
    """The completions in the order of the prompts; `progress` is told of each."""
    completions: list[Completion] = []
    for completion in engine.stream(prompts, sampling):
        completions.append(completion)
        progress.advance(tokens=completion.tokens)
    return completions
