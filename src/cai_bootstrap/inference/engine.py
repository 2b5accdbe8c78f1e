"""What every inference engine does: complete raw prompts, in order, and give the log-probabilities of choices."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from cai_bootstrap.inference.models import PreparedModel

if TYPE_CHECKING:
    from cai_bootstrap.inference.completions import CompletionsServer


def plain_prompt(instruction: str) -> str:
    """The instruction as a user would send it: its text and a line break. This is how the trained model is asked."""
    return f"{instruction}\n"


def bare_prompt(instruction: str) -> str:
    """The instruction without a line break after it, as a user may send it too: the model has to begin one itself."""
    return instruction


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


@dataclass(frozen=True)
class EngineSpec:
    """What `inference.open.open_engine` opens, here or in a worker process: one engine, with its settings.

    `merge` folds the adapter into the weights. `threads` 0 leaves torch's own number. `fast` allows recorded decoding
    steps. `eager`, `exact` and `tensor_parallel` (GPUs for each copy of the model) are for vLLM, `server` for openai.
    """

    engine: str
    prepared: PreparedModel
    precision: str
    batch_size: int
    adapter: Path | None = None
    merge: bool = False
    threads: int = 0
    fast: bool = True
    eager: bool = True
    exact: bool = False
    tensor_parallel: int = 1
    server: "CompletionsServer | None" = None


class Engine(Protocol):
    """A loaded model. Prompts are plain text, never chat-formatted; BOS is added where the tokenizer wants it.

    `batch_size` is how many prompts are decoded together; it shrinks where the device runs out of memory, and can be
    set. `has_chat_template`: the tokenizer ships one, which is never used.
    """

    batch_size: int
    has_chat_template: bool

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

    def complete_live(self, prompt: str, sampling: Sampling, on_text: Callable[[str], None]) -> Completion:
        """Complete one prompt, telling `on_text` the whole text so far whenever there is more of it."""
        ...

    def without_adapter(self) -> AbstractContextManager[None]:
        """Within it the adapter is off: the base under the very same conditions. Raises UsageError without one."""
        ...

    def rising_end(self, slope: float) -> AbstractContextManager[None]:
        """Within it each new token adds `slope` nats to the end-of-sequence score: the longer an answer is, the
        likelier its end. Raises UsageError for an engine that gives no access to its scores.

        After the first rule of Hewitt et al. (2409.14254, section 5), who raise the score linearly over 250 tokens;
        answers here are shorter, so the slope is an argument.
        """
        ...

    def close(self) -> None:
        """Give memory and processes back; the engine is not used afterwards."""
        ...
