"""The figures of a results file, as types: all of them follow from the judged responses (`summary` computes them).

A figure's optional part is absent from the file where it was not computed, so a file is written with `exclude_unset`.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict

from cai_bootstrap.files import JsonObject

Interval = Annotated[tuple[float, float], Strict(False)]  # lower and upper end; JSON has it as a list


class Figures(BaseModel):
    """A frozen block of figures that refuses unknown fields and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def as_dict(self) -> JsonObject:
        """The block as JSON has it, without the parts that were not computed."""
        return self.model_dump(mode="json", exclude_unset=True)


class Tally(Figures):
    """How many of `total` items were followed: `{"success_rate": 0.975, "successes": 39, "total": 40}`."""

    success_rate: float | None
    successes: int
    total: int


class FirstLine(Tally):
    """A side's tally by first line, over all and by type."""

    by_type: dict[str, Tally]


class FactTallies(Figures):
    """Items that need knowledge of the world, parted by whether the untrained base can be brought to tell them."""

    elicitable: Tally
    others: Tally


class SideFigures(Tally):
    """One side's tallies: over all, by each cut, by first line; how many outputs finished, and why the others failed.

    `facts` is None without flags for this base, and in files that were measured before there were flags.
    """

    by_type: dict[str, Tally]
    by_difficulty: dict[str, Tally]
    by_skill: dict[str, Tally]
    by_tier: dict[str, Tally]
    held_out_skills: Tally
    facts: FactTallies | None = None
    first_line: FirstLine
    finished: int
    reasons: dict[str, int]


class RateStatistics(Tally):
    """A rate with its 95% Wilson interval, one-sided bounds, and whether ≥ 95% is shown."""

    wilson: Interval
    exact_lower: float
    cluster_lower: float
    shown_95: bool
    by_type: dict[str, Interval]


class Length(Figures):
    """Success against length in words."""

    mean_words_followed: float | None
    mean_words_failed: float | None
    correlation: float | None


class LiftFigures(Figures):
    """A paired lift with its 95% interval, all in shares (0.1 is ten points)."""

    estimate: float
    low: float
    high: float
    samples: int


class Flips(Figures):
    """The flips of one type of item; the adjusted p is Benjamini–Hochberg's over the types."""

    gained: int
    lost: int
    mcnemar_p: float
    mcnemar_p_adjusted: float


class Paired(Figures):
    """A paired comparison of two sides on the same items; `gained` and `lost` hold the items' ids."""

    what: str | None = None
    rate_before: float
    rate_after: float
    lift: LiftFigures
    cohens_h: float
    discordant: int
    mcnemar_p: float
    template_flip_p: float
    by_type: dict[str, Flips]
    gained: list[str]
    lost: list[str]


class Statistics(Figures):
    """Every interval and test. `rates`, `first_line_rates` and `length` are by side.

    `comparison` (the whole output) and `first_line` put the trained model against the raw base; `headline` puts its
    first line against the best prompted base's. `bare` puts the trained model, asked without the line
    break after the instruction, against itself asked with it (the whole output).
    """

    confidence: float
    templates: int
    rates: dict[str, RateStatistics]
    first_line_rates: dict[str, RateStatistics]
    length: dict[str, Length]
    comparison: Paired | None = None
    first_line: Paired | None = None
    headline: Paired | None = None
    bare: Paired | None = None
