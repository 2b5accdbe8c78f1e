"""What a pool of engines asks of one of them, in this process or in a worker's (then sent by pickle).

Each engine's `perform` matches the requests that its pool makes, and returns one row for each prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cai_bootstrap.inference.engine import Engine, Sampling


@dataclass(frozen=True)
class Encode:
    """The token ids of prompts."""

    prompts: Sequence[str]


@dataclass(frozen=True)
class Decode:
    """Complete one planned batch of token ids; `position` is its place in the plan, to which its seed belongs."""

    batch: list[list[int]]
    sampling: Sampling
    position: int


@dataclass(frozen=True)
class Complete:
    """Complete prompts that stand from place `offset` of a call on; a drawn answer's seed belongs to its place."""

    prompts: Sequence[str]
    sampling: Sampling
    offset: int


@dataclass(frozen=True)
class ScoreChoices:
    """`Engine.choice_logprobs`."""

    prompts: Sequence[str]
    choices: Sequence[str]


@dataclass(frozen=True)
class ScoreTexts:
    """`Engine.text_logprobs`."""

    prompts: Sequence[str]
    texts: Sequence[str]


Request = Encode | Decode | Complete | ScoreChoices | ScoreTexts


class PooledEngine(Engine, Protocol):
    """An engine that a pool can share work out to."""

    def perform(self, request: Request) -> list[Any]:
        """One row for each prompt. Raises EngineError for a request that is none of this engine's."""
        ...

    def make_room(self) -> None:
        """Give back what memory can be given back, after running out of it."""
        ...
