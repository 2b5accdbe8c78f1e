"""Two runs, compared item by item under equal conditions or not at all."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.measuring.conditions import FACTORS, Conditions, Difference, differences
from cai_bootstrap.measuring.results import answers_of, percent, read_results
from cai_bootstrap.measuring.side_figures import beside
from cai_bootstrap.measuring.summary import compare, first_line, strict


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of side `side_a` of file `a` with `side_b` of `b`, or the `differences` that forbid it.

    `factors` are the declared factors that differ; `strict` and `first_line` hold the figures of `summary.compare`;
    `shown_a` and `shown_b` say whether ≥ 95% is shown for each, `beside_a` and `beside_b` what stands beside.
    """

    a: str
    b: str
    side_a: str
    side_b: str
    differences: list[Difference] = field(default_factory=list)
    factors: list[Difference] = field(default_factory=list)
    strict: dict[str, Any] = field(default_factory=dict)
    first_line: dict[str, Any] = field(default_factory=dict)
    shown_a: str = ""
    shown_b: str = ""
    beside_a: dict[str, Any] = field(default_factory=dict)
    beside_b: dict[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """The two were measured under other conditions."""
        return bool(self.differences)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_files(a: Path, b: Path, *, side: str | None = None, suite: Suite | None = None) -> Comparison:
    """Compare two results files. Both are checked in full first; `side` is `trained` where there is one, else `base`.

    Raises UntrustedResultError if a file cannot be trusted or lacks the side.
    """
    left, right = read_results(a, suite), read_results(b, suite)
    side_a, side_b = _side_of(a, left, side), _side_of(b, right, side)
    found = differences(Conditions.model_validate(left["conditions"]), Conditions.model_validate(right["conditions"]))
    if found:
        return Comparison(str(a), str(b), side_a, side_b, differences=found)
    items = (suite if suite is not None else load_suite(left["suite"]["name"])).items
    before, after = answers_of(left, side_a), answers_of(right, side_b)
    if before is None or after is None:
        raise UntrustedResultError("a side lost its responses between two readings; compare again")
    factors = [
        Difference(name, was, now)
        for name in FACTORS
        if (was := left["models"][side_a]["factors"].get(name)) != (now := right["models"][side_b]["factors"].get(name))
    ]
    return Comparison(
        str(a),
        str(b),
        side_a,
        side_b,
        factors=factors,
        strict=compare(items, before, after, strict),
        first_line=compare(items, before, after, first_line),
        shown_a=_shown(left, side_a),
        shown_b=_shown(right, side_b),
        beside_a=beside(left, side_a),
        beside_b=beside(right, side_b),
    )


def _side_of(path: Path, results: dict[str, Any], side: str | None) -> str:
    present = [name for name in ("trained", "base", "rival") if results["models"].get(name) is not None]
    if side is None:
        return present[0]
    if side not in present:
        raise UntrustedResultError(f"{path}: holds no {side} side; it holds {', '.join(present)}")
    return side


def _shown(results: dict[str, Any], side: str) -> str:
    rate = results["statistics"]["rates"][side]
    return (
        f"{percent(rate['successes'], rate['total'])} of {rate['total']} followed; "
        f"≥ 95% {'shown' if rate['shown_95'] else 'not shown'}"
    )
