"""What is known of an instruction before it is asked: by which rules its answers are judged, and how to prompt it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cai_bootstrap.records import Verdict

SideName = Literal["base", "prompted", "trained"]
JudgedBy = Literal["whole output", "first line"]


@dataclass(frozen=True)
class Judged:
    """How an answer was judged, and by what of it: the verdict on an instruction, or which principles it keeps."""

    by: JudgedBy
    verdict: Verdict | None = None
    principles: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """An instruction whose answers are judged by rule: its id, where it stands, and the judge.

    `judge` takes a side, its answer, and whether the answer ended by itself or by its side's stop rule.
    """

    id: str
    source: str
    judge: Callable[[SideName, str, bool], Judged]


@dataclass(frozen=True)
class Way:
    """The way to prompt the base that served it best on dev: the prompt of an instruction, and what ends its answer."""

    name: str
    prompt: Callable[[str], str]
    stop: tuple[str, ...]
