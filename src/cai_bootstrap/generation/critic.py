"""The model as its own judge: an A/B choice by single-token log-probabilities, in both orders, prior subtracted.

After RLAIF (Lee et al., 2309.00267, section 2) and PriDe (Zheng et al., 2309.03882): a small model prefers a position
before it prefers an answer, so only a preference that survives swapping the answers counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cai_bootstrap.constitution import Principle
from cai_bootstrap.generation.prompts import Case, choice_prompt
from cai_bootstrap.inference.engine import Engine

CHOICES = (" A", " B")
CONTENT_FREE = ("N/A", "N/A")


@dataclass(frozen=True)
class Comparison:
    """One comparison to make: which of two answers is better, by one principle."""

    instruction: str
    first: str
    second: str
    principle: Principle
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Preference:
    """`margin` > 0 (nats) prefers the first answer. `consistent`: both orders agree once the prior is taken off."""

    margin: float
    consistent: bool


def compare(engine: Engine, comparisons: Sequence[Comparison]) -> list[Preference]:
    """Judge each comparison with three prompts: both orders and a content-free one for the position's prior."""
    prompts: list[str] = []
    for c in comparisons:
        for first, second in ((c.first, c.second), (c.second, c.first), CONTENT_FREE):
            prompts.append(choice_prompt(c.instruction, first, second, c.principle, c.cases))
    rows = engine.choice_logprobs(prompts, CHOICES)
    differences = [a - b for a, b in rows]
    judged: list[Preference] = []
    for place in range(0, len(differences), 3):
        forward, backward, prior = differences[place : place + 3]
        forward, backward = forward - prior, backward - prior
        judged.append(Preference((forward - backward) / 2, forward * backward < 0))
    return judged
