"""What a variation gave: rates with intervals, one verdict for each item, and paired comparisons between variations.

Two files hold it: each variation's `outcome.json`, and `results/ablation.json`, the table of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cai_bootstrap.ablation.plan import Contrast
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import JsonObject, read_json, write_json
from cai_bootstrap.judging import statistics
from cai_bootstrap.measuring.figures import Interval

Status = Literal["done", "failed", "left_out", "not_run"]
OUTCOME = "outcome.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class RateRow(_Part):
    """A row's rate with its 95% Wilson interval.

    `{"row": "strict", "successes": 84, "total": 208, "rate": 0.4038, "wilson": [0.339493, 0.471687]}`
    """

    row: str
    successes: int
    total: int
    rate: float
    wilson: Interval


class Comparison(_Part):
    """A contrast, measured: items gained and lost from `before` to `after`, the lift in shares (0.1 is ten points).

    `adjusted_p` is Benjamini-Hochberg's over all comparisons of the table.
    """

    name: str
    before: str
    after: str
    n: int
    lift: float
    interval: Interval
    gained: int
    lost: int
    mcnemar_p: float
    adjusted_p: float


class Entry(_Part):
    """A variation in the table: what it is, how it ended after how many seconds, its rows and its other figures."""

    name: str
    group: str
    what: str
    kind: str
    status: Status
    message: str | None
    seconds: float
    device: str
    rows: list[RateRow]
    figures: dict[str, Any]


class MeasuredSuite(_Part):
    """The dev suite that every variation was measured on."""

    name: str
    sha256: str
    n: int


class Origin(_Part):
    """The code, the model and the settings that all variations share; `started` is a time in UTC."""

    commit: str | None
    version: str
    scorer_version: str
    model: str
    preset: str | None
    seed: int
    at_once: int
    started: str


class AblationTable(_Part):
    """`results/ablation.json`: the variations that were to run or had ended, and what one gains over another."""

    schema_version: int
    set: str
    suite: MeasuredSuite
    made: Origin
    finished: str
    variations: list[Entry]
    contrasts: list[Comparison]

    def as_json(self) -> JsonObject:
        """The table as the file holds it."""
        return self.model_dump(mode="json")


@dataclass
class Outcome:
    """How a variation ended. `verdicts` maps a row to each item's verdict, `templates` an item to its template.

    `figures` holds what is no rate (a perplexity, token counts); `seconds` is wall time of the variation's process.
    `out_of_memory`: it failed for want of memory, which others on its card may have taken.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    status: Status
    fingerprint: str = ""
    message: str | None = None
    seconds: float = 0.0
    device: str = ""
    adapter: str | None = None
    out_of_memory: bool = False
    verdicts: dict[str, dict[str, bool]] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, row: str, verdicts: Mapping[str, bool]) -> None:
        """Add a row of verdicts by item id; a row without items is left out, it has no rate."""
        if verdicts:
            self.verdicts[row] = dict(verdicts)

    def rows(self) -> list[RateRow]:
        """Each row with its counts, rate and Wilson interval."""
        return [rate_row(name, list(verdicts.values())) for name, verdicts in self.verdicts.items()]


def rate_row(name: str, verdicts: Sequence[bool]) -> RateRow:
    """A row from its verdicts, at least one."""
    successes, total = sum(verdicts), len(verdicts)
    low, high = statistics.wilson(successes, total)
    wilson = (round(low, 6), round(high, 6))
    return RateRow(row=name, successes=successes, total=total, rate=successes / total, wilson=wilson)


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Keep an outcome in its variation's folder."""
    write_json(folder / OUTCOME, asdict(outcome))


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome in a variation's folder, or None if there is none that can be read."""
    try:
        return TypeAdapter(Outcome).validate_python(read_json(folder / OUTCOME))
    except (DataError, ValidationError):
        return None


def compare(contrasts: Sequence[Contrast], outcomes: Mapping[str, Outcome]) -> list[Comparison]:
    """The paired comparisons whose two rows were measured on the same items, p-values adjusted for their number."""
    pairs: list[tuple[Contrast, dict[str, bool], dict[str, bool]]] = []
    for contrast in contrasts:
        before, after = _verdicts(contrast.before, outcomes), _verdicts(contrast.after, outcomes)
        if before and after and before.keys() == after.keys():
            pairs.append((contrast, before, after))
    flips = {contrast.name: _flips(before, after) for contrast, before, after in pairs}
    p_values = {name: statistics.mcnemar_exact(gained, lost) for name, (gained, lost) in flips.items()}
    adjusted = statistics.benjamini_hochberg(p_values)
    comparisons: list[Comparison] = []
    for contrast, before, after in pairs:
        templates = outcomes[contrast.after.partition(":")[0]].templates
        lift = statistics.paired_lift(
            list(before.values()), [after[id] for id in before], [templates.get(id, id) for id in before]
        )
        gained, lost = flips[contrast.name]
        comparisons.append(
            Comparison(
                name=contrast.name,
                before=contrast.before,
                after=contrast.after,
                n=len(before),
                lift=lift.estimate,
                interval=(lift.low, lift.high),
                gained=gained,
                lost=lost,
                mcnemar_p=p_values[contrast.name],
                adjusted_p=adjusted[contrast.name],
            )
        )
    return comparisons


def _flips(before: Mapping[str, bool], after: Mapping[str, bool]) -> tuple[int, int]:
    """How many items were gained, and how many lost."""
    gained = sum(after[id] and not success for id, success in before.items())
    lost = sum(success and not after[id] for id, success in before.items())
    return gained, lost


def _verdicts(place: str, outcomes: Mapping[str, Outcome]) -> dict[str, bool] | None:
    name, _, row = place.partition(":")
    return outcomes[name].verdicts.get(row) if name in outcomes else None
