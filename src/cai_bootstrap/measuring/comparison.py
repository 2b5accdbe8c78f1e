"""Two runs, compared item by item under equal conditions or not at all."""

from dataclasses import asdict, dataclass
from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import JsonObject
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.measuring.conditions import FACTORS, Difference, differences
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.figures import Paired
from cai_bootstrap.measuring.results import percent, read_results
from cai_bootstrap.measuring.side_figures import Beside, beside
from cai_bootstrap.measuring.summary import compare, first_line, strict


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of side `side_a` of file `a` with side `side_b` of `b`, measured under equal conditions.

    `factors` are the declared factors that differ; `shown_a` and `shown_b` say whether ≥ 95% is shown for each,
    `beside_a` and `beside_b` what stands beside.
    """

    a: str
    b: str
    side_a: str
    side_b: str
    factors: list[Difference]
    strict: Paired
    first_line: Paired
    shown_a: str
    shown_b: str
    beside_a: Beside
    beside_b: Beside

    def as_dict(self) -> JsonObject:
        """The JSON object that `cai compare --json` prints."""
        return {
            "a": self.a,
            "b": self.b,
            "side_a": self.side_a,
            "side_b": self.side_b,
            "differences": [],
            "factors": [asdict(factor) for factor in self.factors],
            "strict": self.strict.as_dict(),
            "first_line": self.first_line.as_dict(),
            "shown_a": self.shown_a,
            "shown_b": self.shown_b,
            "beside_a": self.beside_a.as_dict(),
            "beside_b": self.beside_b.as_dict(),
        }


@dataclass(frozen=True)
class Refusal:
    """Two files that were measured under other conditions, and so are not compared."""

    a: str
    b: str
    side_a: str
    side_b: str
    differences: list[Difference]

    def as_dict(self) -> JsonObject:
        """The JSON object of a comparison, without figures."""
        nothing = {"strict": {}, "first_line": {}, "shown_a": "", "shown_b": "", "beside_a": {}, "beside_b": {}}
        return {**asdict(self), "factors": [], **nothing}


def compare_files(a: Path, b: Path, *, side: str | None = None, suite: Suite | None = None) -> Comparison | Refusal:
    """Compare two results files. Both are checked in full first; `side` is `trained` where there is one, else `base`.

    Raises UntrustedResultError if a file cannot be trusted or lacks the side.
    """
    left, right = read_results(a, suite), read_results(b, suite)
    side_a, side_b = _side_of(a, left, side), _side_of(b, right, side)
    if unequal := differences(left.conditions, right.conditions):
        return Refusal(str(a), str(b), side_a, side_b, unequal)
    items = (suite if suite is not None else load_suite(left.suite.name)).items
    before, after = left.answers(side_a), right.answers(side_b)
    was, now = left.models.present()[side_a].factors, right.models.present()[side_b].factors
    return Comparison(
        str(a),
        str(b),
        side_a,
        side_b,
        factors=[
            Difference(name, getattr(was, name), getattr(now, name))
            for name in FACTORS
            if getattr(was, name) != getattr(now, name)
        ],
        strict=compare(items, before, after, strict),
        first_line=compare(items, before, after, first_line),
        shown_a=_shown(left, side_a),
        shown_b=_shown(right, side_b),
        beside_a=beside(left, side_a),
        beside_b=beside(right, side_b),
    )


def _side_of(path: Path, results: Results, side: str | None) -> str:
    present = [name for name in ("trained", "base", "rival", "trained_bare") if name in results.models.present()]
    if side is None:
        return present[0]
    if side not in present:
        raise UntrustedResultError(f"{path}: holds no {side} side; it holds {', '.join(present)}")
    return side


def _shown(results: Results, side: str) -> str:
    rate = results.statistics.rates[side]
    return (
        f"{percent(rate.successes, rate.total)} of {rate.total} followed; "
        f"≥ 95% {'shown' if rate.shown_95 else 'not shown'}"
    )
