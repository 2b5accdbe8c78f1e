"""What a results file says beside the rates, as types: what training cost, and what else it changed.

Nobody can compute these again without the model, so a reader checks only that they do not contradict themselves. The
dataclasses of `beside.py` become blocks by `Content.model_validate(content, from_attributes=True)`.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from pydantic import Field, Strict

from cai_bootstrap.measuring.declared import Count, Name, Rate
from cai_bootstrap.measuring.figures import Figures
from cai_bootstrap.measuring.principles.figures import Arm
from cai_bootstrap.measuring.wording import short

Names = Annotated[list[Name], Strict(False)]
Perplexity = Annotated[float, Field(ge=1)]
_DIGITS = 1e-4


class Content(Figures):
    """Known answers that the base and the trained model give, of `total` questions; the fall in points."""

    base: Count
    trained: Count
    total: Count
    fall_points: float
    lost: Names = Field(default_factory=list)
    gained: Names = Field(default_factory=list)


class NeutralText(Figures):
    """The perplexity of neutral text, by token."""

    base: Perplexity
    trained: Perplexity


class Beginning(Figures):
    """The first words of answers, and the share of an arm's answers that begin with them."""

    words: str
    share: Rate


class Obeying(Figures):
    """How many of `total` judged answers obey by their first line."""

    rate: Rate
    successes: Count
    total: Annotated[int, Field(ge=1)]


class Following(Figures):
    """How many of Stage 1's items a model follows, strictly, before this stage and after it."""

    before: Count
    after: Count
    total: Annotated[int, Field(ge=1)]


class Beside(Figures):
    """What was measured beside; None where it was not.

    `opposite`: the prompt asks for the opposite; `line_break`: the prompt ends without a line break. Both by arm and
    principle: `{"trained": {"thanks": {"rate": 0.4, "successes": 8, "total": 20}}}`.
    """

    content: Content | None = None
    perplexity: NeutralText | None = None
    openings: dict[Arm, Annotated[list[Beginning], Strict(False)]] | None = None
    opposite: dict[Arm, dict[Name, Obeying]] | None = None
    stage1: Following | None = None
    line_break: dict[Arm, dict[Name, Obeying]] | None = None


def beside_faults(beside: Beside, principles: Collection[str]) -> Iterator[str]:
    """Where what was measured beside contradicts itself or names a principle that is not there."""
    if (content := beside.content) is not None:
        yield from _content_faults(content)
    for name, arms in (("opposite", beside.opposite), ("line_break", beside.line_break)):
        yield from _obeying_faults(f"beside.{name}", arms or {}, principles)
    if (stage1 := beside.stage1) is not None and max(stage1.before, stage1.after) > stage1.total:
        yield f"beside.stage1: more than {stage1.total} of {stage1.total} items are followed"


def _content_faults(content: Content) -> Iterator[str]:
    if max(content.base, content.trained) > content.total or not content.total:
        yield f"beside.content: more known answers than the {content.total} that were asked for"
        return
    fall = 100 * (content.base - content.trained) / content.total
    if not math.isclose(content.fall_points, fall, abs_tol=_DIGITS):
        yield f"beside.content.fall_points is {content.fall_points}, its counts give {fall}"
    if content.base - len(content.lost) + len(content.gained) != content.trained:
        yield "beside.content: base, less what was lost, with what was gained, is not what is trained"


def _obeying_faults(
    where: str, arms: Mapping[Arm, Mapping[str, Obeying]], principles: Collection[str]
) -> Iterator[str]:
    for arm, rates in arms.items():
        for id, share in rates.items():
            if id not in principles:
                yield f"{where}.{arm} names {short(id)}, which is no principle here"
            if not math.isclose(share.rate, share.successes / share.total, abs_tol=_DIGITS):
                yield f"{where}.{arm}.{id}.rate is {share.rate}, {share.successes} of {share.total} is another rate"
