"""What a variation gave: rates with intervals, one verdict for each item, and paired comparisons between variations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cai_bootstrap.ablation.plan import Contrast
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.judging import statistics

Status = Literal["done", "failed", "left_out", "not_run"]
OUTCOME = "outcome.json"


@dataclass
class Outcome:
    """How a variation ended. `verdicts` maps a row to each item's verdict, `templates` an item to its template.

    `figures` holds what is no rate (a perplexity, token counts); `seconds` is wall time of the variation's process.
    `out_of_memory`: it failed for want of memory, which others on its card may have taken.
    """

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

    def rows(self) -> list[dict[str, Any]]:
        """Each row with its counts, rate and Wilson interval."""
        return [rate_row(name, list(verdicts.values())) for name, verdicts in self.verdicts.items()]


def rate_row(name: str, verdicts: Sequence[bool]) -> dict[str, Any]:
    """Counts, rate and 95% Wilson interval of some verdicts."""
    low, high = statistics.wilson(sum(verdicts), len(verdicts))
    right = sum(verdicts)
    return {
        "row": name,
        "successes": right,
        "total": len(verdicts),
        "rate": right / len(verdicts),
        "wilson": [round(low, 6), round(high, 6)],
    }


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Keep an outcome in its variation's folder."""
    write_json(folder / OUTCOME, asdict(outcome))


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome that was kept, or None if there is none that can be read."""
    try:
        return Outcome(**read_json(folder / OUTCOME))
    except (DataError, TypeError):
        return None


def compare(contrasts: Sequence[Contrast], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """The paired comparisons whose two rows were measured on the same items, p-values adjusted for their number."""
    found: list[dict[str, Any]] = []
    for contrast in contrasts:
        before, after = _verdicts(contrast.before, outcomes), _verdicts(contrast.after, outcomes)
        if before is None or after is None:
            continue
        ids = [id for id in before if id in after]
        if not ids or len(ids) != len(before) or len(ids) != len(after):
            continue
        templates = outcomes[contrast.after.partition(":")[0]].templates
        left, right = [before[id] for id in ids], [after[id] for id in ids]
        lift = statistics.paired_lift(left, right, [templates.get(id, id) for id in ids])
        gained = sum(b and not a for a, b in zip(left, right, strict=True))
        lost = sum(a and not b for a, b in zip(left, right, strict=True))
        found.append(
            {
                "name": contrast.name,
                "before": contrast.before,
                "after": contrast.after,
                "n": len(ids),
                "lift": lift.estimate,
                "interval": [lift.low, lift.high],
                "gained": gained,
                "lost": lost,
                "mcnemar_p": statistics.mcnemar_exact(gained, lost),
            }
        )
    adjusted = statistics.benjamini_hochberg({row["name"]: row["mcnemar_p"] for row in found})
    return [{**row, "adjusted_p": adjusted[row["name"]]} for row in found]


def _verdicts(place: str, outcomes: Mapping[str, Outcome]) -> dict[str, bool] | None:
    name, _, row = place.partition(":")
    return outcomes[name].verdicts.get(row) if name in outcomes else None
