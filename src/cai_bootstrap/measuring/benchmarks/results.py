"""`results/ifeval.json` and `results/ifbench.json`, as types: what a benchmark gave before and after training.

The verdicts are the checkers'; every figure is computed from them, when a file is written and when it is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cai_bootstrap.files import fingerprint, write_json
from cai_bootstrap.judging import statistics as stats
from cai_bootstrap.measuring.benchmarks.checkers import BENCHMARKS
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.declared import Count, Factors, Name, Sha256
from cai_bootstrap.measuring.figures import Figures, Interval

SCHEMA_VERSION: Literal[2] = 2
SideName = Literal["base", "trained", "base_bare", "trained_bare"]
SIDES: tuple[SideName, ...] = ("base", "trained", "base_bare", "trained_bare")
# Before and after, each pair asked in the same way.
PAIRS: dict[str, tuple[SideName, SideName]] = {
    "with a line break": ("base", "trained"),
    "bare": ("base_bare", "trained_bare"),
}


class Share(Figures):
    """`{"rate": 0.25, "successes": 2, "total": 8, "interval": [0.07, 0.59]}`; the interval is Wilson's of 95%."""

    rate: float
    successes: int
    total: int
    interval: Interval


class SideShares(Figures):
    """One side's strict accuracy: prompts all of whose instructions were followed, and instructions that were.

    `finished` counts answers that the model ended by itself; the checkers do not ask for it.
    """

    prompts: Share
    instructions: Share
    finished: int


class Change(Figures):
    """Prompts that are followed after training and were not before, and the other way; McNemar's exact p-value."""

    gained: int
    lost: int
    mcnemar_p: float


class BenchmarkAnswer(Figures):
    """One answer, and for each instruction of its prompt whether it is followed."""

    response: str
    finished: bool
    followed: list[bool]


class BenchmarkItem(Figures):
    """A prompt with its instructions and their checkers' arguments, and each side's answer."""

    id: str
    prompt: str
    instructions: Annotated[list[str], Field(min_length=1)]
    kwargs: list[dict[str, Any]]
    answers: dict[SideName, BenchmarkAnswer]


class Package(Figures):
    """Whose checkers judged: `{"package": "lm_eval", "version": "0.4.13"}`."""

    package: Name
    version: Name


class AskedPrompts(Figures):
    """Which prompts there were: `n` in `source`, of which `left_out` have checkers that lack their data.

    `limit`: only so many of the others were asked.
    """

    source: Name
    sha256: Sha256
    n: Count
    left_out: Count
    limit: Count | None


class BenchmarkResults(Figures):
    """What one benchmark gave. `factors` are declared by side, `shares` and `changes` computed from the items.

    `seal` is `seal_of` the rest, empty until the file is written.
    """

    schema_version: Literal[2]
    benchmark: Literal["ifeval", "ifbench"]
    checkers: Package
    prompts: AskedPrompts
    conditions: Conditions
    adapter: Sha256
    ledger_opening: Count | None
    factors: dict[SideName, Factors]
    shares: dict[SideName, SideShares]
    changes: dict[str, Change]
    items: Annotated[list[BenchmarkItem], Field(min_length=1)]
    seal: str = ""

    @property
    def title(self) -> str:
        return BENCHMARKS[self.benchmark].title

    @property
    def unlike_published(self) -> str | None:
        """Why the figures cannot be compared with published ones, or None.

        None is no proof of the contrary: whether these are the published prompts is not known here.
        """
        benchmark, reasons = BENCHMARKS[self.benchmark], []
        if len(self.items) != benchmark.published:
            why = [f"{self.prompts.left_out} left out, whose checkers lack data of nltk"] * (self.prompts.left_out > 0)
            why += [f"only {self.prompts.limit} asked"] if self.prompts.limit is not None else []
            reason = f" ({', '.join(why)})" if why else ""
            reasons.append(f"{len(self.items)} prompts{reason}; the published set has {benchmark.published}")
        instructions = sum(len(item.instructions) for item in self.items)
        if benchmark.instructions not in (None, instructions):
            reasons.append(f"{instructions} instructions; the published set has {benchmark.instructions}")
        if benchmark.tokens not in (None, self.conditions.max_new_tokens):
            reasons.append(f"at most {self.conditions.max_new_tokens} tokens; usual are {benchmark.tokens}")
        return "; ".join(reasons) or None


def shares_of(items: list[BenchmarkItem], side: SideName) -> SideShares:
    """One side's strict accuracy over all items."""
    answers = [item.answers[side] for item in items]
    verdicts = [verdict for answer in answers for verdict in answer.followed]
    return SideShares(
        prompts=_share(sum(all(answer.followed) for answer in answers), len(answers)),
        instructions=_share(sum(verdicts), len(verdicts)),
        finished=sum(answer.finished for answer in answers),
    )


def changes_of(items: list[BenchmarkItem], sides: Mapping[SideName, object]) -> dict[str, Change]:
    """Before against after, for each way of asking that both sides were asked in."""
    changes = {}
    for name, (before, after) in PAIRS.items():
        if before in sides and after in sides:
            pairs = [(all(item.answers[before].followed), all(item.answers[after].followed)) for item in items]
            gained, lost = sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
            changes[name] = Change(gained=gained, lost=lost, mcnemar_p=stats.mcnemar_exact(gained, lost))
    return changes


def write_benchmark(path: Path, results: BenchmarkResults) -> None:
    """Write the file atomically, under its seal."""
    write_json(path, results.model_copy(update={"seal": seal_of(results)}).model_dump(mode="json"))


def seal_of(results: BenchmarkResults) -> str:
    """The hash of all that stands in a file but the seal: an edit by hand shows; it is no proof against a forger."""
    return fingerprint(results.model_dump(mode="json", exclude={"seal"}))


def _share(successes: int, total: int) -> Share:
    return Share(rate=successes / total, successes=successes, total=total, interval=stats.wilson(successes, total))
