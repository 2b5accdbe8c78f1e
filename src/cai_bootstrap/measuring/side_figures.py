"""The figures that stand beside a rate and never gate: untrained skills, facts, and success against length."""

from collections.abc import Sequence
from dataclasses import dataclass

from cai_bootstrap.files import JsonObject
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.figures import FactTallies, Length, Tally
from cai_bootstrap.measuring.results import percent

NOTE = (
    "Whole output (of a prompted base: what its stop rule left). None of these gates. Facts are parted by whether the "
    "untrained base can be brought to tell them by prompting. A scorer that length pleases would show a correlation."
)


@dataclass(frozen=True)
class Beside:
    """What stands beside one side's rate; `facts` is None without flags for the base."""

    held_out_skills: Tally
    facts: FactTallies | None
    length: Length

    def as_dict(self) -> JsonObject:
        """The JSON object of it."""
        facts = None if self.facts is None else self.facts.as_dict()
        return {"held_out_skills": self.held_out_skills.as_dict(), "facts": facts, "length": self.length.as_dict()}


def beside(results: Results, side: str) -> Beside:
    """What stands beside the rate of one side that was measured."""
    figures = results.models.present()[side]
    return Beside(figures.held_out_skills, figures.facts, results.statistics.length[side])


def bare_line(results: Results) -> str | None:
    """How the trained model fares without the line break after the instruction, in a line; None where it was not asked.

    `asked without the line break: 93.1%, with it 95.4% (−2.3 points, 95% interval −4.0 to −0.6)`
    """
    bare, trained, paired = results.models.trained_bare, results.models.trained, results.statistics.bare
    if bare is None or trained is None or paired is None:
        return None
    estimate, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (paired.lift.estimate, paired.lift.low, paired.lift.high)
    )
    return (
        f"asked without the line break: {percent(bare.successes, bare.total)}, "
        f"with it {percent(trained.successes, trained.total)} ({estimate} points, 95% interval {low} to {high})"
    )


def beside_rows(sides: Sequence[Beside]) -> list[list[str]]:
    """A row for each figure, with a cell for each of the sides; no row where no side has one."""
    rows = [
        ["Held-out skills", *(_rate(side.held_out_skills) for side in sides)],
        [
            "Facts that prompting brings out",
            *(_rate(None if side.facts is None else side.facts.elicitable) for side in sides),
        ],
        ["Other facts", *(_rate(None if side.facts is None else side.facts.others) for side in sides)],
        ["Mean words, followed", *(_words(side.length.mean_words_followed) for side in sides)],
        ["Mean words, failed", *(_words(side.length.mean_words_failed) for side in sides)],
        ["Correlation of success with length", *(_correlation(side.length.correlation) for side in sides)],
    ]
    return [row for row in rows if any(cell != "–" for cell in row[1:])]


def _rate(tally: Tally | None) -> str:
    if tally is None or not tally.total:
        return "–"
    return f"{percent(tally.successes, tally.total)} ({tally.successes}/{tally.total})"


def _words(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.1f}"


def _correlation(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
