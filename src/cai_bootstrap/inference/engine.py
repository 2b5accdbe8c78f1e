"""What every inference engine does: complete raw prompts, in order, and give the log-probabilities of choices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True)
class Sampling:
    """How to decode. `temperature` 0 is greedy. `stop` strings begin with a line break; a text ends before one.

    `pinned`: the batch keeps its shape until its last row has ended, so that no row's arithmetic depends on when
    another ends (bf16 sums depend on a batch's shape). For measuring; elsewhere ended rows make room.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    pinned: bool = False


@dataclass(frozen=True)
class Completion:
    """One completion. `ended_by` is `eos`, `stop` (a stop string) or `length` (cut off); `tokens` counts new ones."""

    text: str
    ended_by: Literal["eos", "stop", "length"]
    tokens: int

    @property
    def finished(self) -> bool:
        """The model ended by itself: it wrote its end-of-sequence token."""
        return self.ended_by == "eos"


@dataclass(frozen=True)
class EngineInfo:
    """What ran: everything that may change an output, for the record of conditions."""

    engine: str
    model: str
    revision: str
    weights_sha256: str
    tokenizer_sha256: str
    adapter: str | None
    precision: str
    device: str
    attention: str
    batch_size: int
    padding_side: str
    versions: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """A loaded model. Prompts are plain text, never chat-formatted; BOS is added where the tokenizer wants it."""

    @property
    def info(self) -> EngineInfo: ...

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        """Complete each prompt, yielding in input order.

        The same prompts, sampling and batch size give the same completions. Raises EngineError if the engine fails
        for good; what was yielded before is complete.
        """
        ...

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        """Log-probability (nats) of each choice as the next token: one row per prompt, one column per choice.

        Raises EngineError if a choice is not a single token.
        """
        ...

    def text_logprobs(self, prompts: Sequence[str], texts: Sequence[str]) -> list[tuple[float, int]]:
        """Summed log-probability (nats) of `texts[i]` after `prompts[i]`, and of how many tokens: all, or all but the
        first where nothing stands before it (an empty prompt, and a tokenizer without BOS)."""
        ...
