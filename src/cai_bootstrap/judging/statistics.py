"""Rates with honest bounds and paired tests. Pure functions of counts and arrays; nothing here reads a file.

Two items of one template are not two independent trials, so beside each usual figure stands one that takes the
template as the unit: `cluster_lower` beside `exact_lower`, `template_flip_test` beside `mcnemar_exact`, and
`paired_lift` resamples templates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD_PERCENT = 95
CONFIDENCE = 0.95
BOOTSTRAP_SAMPLES = 10_000
BOOTSTRAP_SEED = 20_250_101
_BATCH_CELLS = 2_000_000


@dataclass(frozen=True)
class Lift:
    """A difference of two paired rates with its 95% interval from `samples` resamples of whole templates."""

    estimate: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Power:
    """What a suite of `n` items can show. `allowed_*` are the most failures that still pass."""

    n: int
    rate: float
    allowed_by_gate: int
    allowed_when_shown: int
    chance_of_gate: float
    chance_of_shown: float


def meets_gate(successes: int, total: int) -> bool:
    """At least 95% of at least one item, in whole numbers: 475 of 500 passes, 474 does not."""
    return total > 0 and 100 * successes >= THRESHOLD_PERCENT * total


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Two-sided 95% interval of a rate (Wilson 1927)."""
    from scipy.stats import binomtest

    _must_count(successes, total)
    interval = binomtest(successes, total).proportion_ci(CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)


def exact_lower(successes: int, total: int) -> float:
    """One-sided exact 95% lower bound of a rate (Clopper & Pearson 1934), items taken as independent."""
    from scipy.stats import binomtest

    _must_count(successes, total)
    return float(binomtest(successes, total, alternative="greater").proportion_ci(CONFIDENCE, "exact").low)


def cluster_lower(outcomes: Sequence[bool], templates: Sequence[str]) -> float:
    """One-sided 95% lower bound of a rate when the items of a template stand and fall together.

    Korn & Graubard 1998: the exact bound at the effective number of trials, from the between-template variance and the
    t quantiles. Where no variance can be estimated (all right, all wrong), a template counts as one trial. It is never
    above `exact_lower`. With one template there is nothing to estimate from, and the bound is 0.
    """
    from scipy.stats import beta, t

    totals, successes = _by_template(outcomes, templates)
    clusters, n = len(totals), int(totals.sum())
    rate = float(successes.sum()) / n
    if clusters < 2:
        return 0.0
    residual = successes - rate * totals
    variance = clusters / (clusters - 1) * float((residual**2).sum()) / n**2
    if variance == 0.0:
        effective = float(clusters)
    else:
        adjust = float(t.ppf(CONFIDENCE, n - 1) / t.ppf(CONFIDENCE, clusters - 1)) ** 2
        effective = min(float(n), rate * (1 - rate) / variance * adjust)
    hits = rate * effective
    if hits <= 0:
        return 0.0
    bound = float(beta.ppf(1 - CONFIDENCE, hits, effective - hits + 1))
    return min(bound, exact_lower(int(successes.sum()), n))


def shown(outcomes: Sequence[bool], templates: Sequence[str]) -> bool:
    """Whether a rate of 95% or more is shown at 95% confidence: both lower bounds reach it."""
    level = THRESHOLD_PERCENT / 100
    return exact_lower(sum(outcomes), len(outcomes)) >= level and cluster_lower(outcomes, templates) >= level


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test from the two counts of discordant pairs; 1.0 if there is none."""
    from statsmodels.stats.contingency_tables import mcnemar

    return min(1.0, float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue))


def template_flip_test(a: Sequence[bool], b: Sequence[bool], templates: Sequence[str]) -> float:
    """Two-sided exact p-value that b differs from a, swapping the two sides of whole templates at a time.

    Under the null hypothesis a template's net change is as likely with the other sign. The distribution of their sum
    over all 2^templates swaps is computed by convolution, so the value is exact, without random numbers.
    """
    _must_pair(a, b, templates)
    net: dict[str, int] = {}
    for left, right, template in zip(a, b, templates, strict=True):
        net[template] = net.get(template, 0) + int(right) - int(left)
    return flip_p_value(list(net.values()))


def flip_p_value(net: Sequence[int]) -> float:
    """The p-value of `template_flip_test` from the net change of each template."""
    changes = [abs(change) for change in net if change]
    if not changes:
        return 1.0
    reach = sum(changes)
    mass = np.zeros(2 * reach + 1)
    mass[reach] = 1.0
    for change in changes:
        swapped = np.zeros_like(mass)
        swapped[change:] += 0.5 * mass[:-change]
        swapped[:-change] += 0.5 * mass[change:]
        mass = swapped
    observed = abs(sum(net))
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(mass[sums >= observed].sum()))


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values of several tests, adjusted for their number (false discovery rate, Benjamini & Hochberg 1995)."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return {}
    adjusted = multipletests(list(p_values.values()), method="fdr_bh")[1]
    return {name: float(value) for name, value in zip(p_values, adjusted, strict=True)}


def paired_lift(
    a: Sequence[bool],
    b: Sequence[bool],
    templates: Sequence[str],
    *,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Lift:
    """The rate of b minus the rate of a, with a percentile interval from resampling whole templates.

    The same seed gives the same interval. Time and memory grow with templates, not items. With a single template
    nothing is known of how templates differ, and the interval is all that is possible: −1 to 1.
    """
    _must_pair(a, b, templates)
    totals, right = _by_template(b, templates)
    left = _by_template(a, templates)[1]
    change = right - left
    random = np.random.Generator(np.random.PCG64(seed))
    lifts = np.empty(samples)
    step = max(1, _BATCH_CELLS // len(totals))
    for start in range(0, samples, step):
        size = min(step, samples - start)
        drawn = random.integers(0, len(totals), size=(size, len(totals)))
        lifts[start : start + size] = change[drawn].sum(axis=1) / totals[drawn].sum(axis=1)
    low, high = np.quantile(lifts, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    if len(totals) < 2:
        low, high = -1.0, 1.0
    return Lift(float(change.sum() / totals.sum()), float(low), float(high), samples)


def cohens_h(before: float, after: float) -> float:
    """Effect size of two rates, 2·asin(√after) − 2·asin(√before); 0.2 is called small, 0.8 large (Cohen 1988)."""
    from statsmodels.stats.proportion import proportion_effectsize

    return float(proportion_effectsize(after, before))


def length_correlation(outcomes: Sequence[bool], lengths: Sequence[int]) -> float | None:
    """Point-biserial correlation of success with length in words; None where either never varies."""
    verdicts, sizes = np.asarray(outcomes, dtype=float), np.asarray(lengths, dtype=float)
    if len(verdicts) < 2 or np.ptp(verdicts) == 0 or np.ptp(sizes) == 0:
        return None
    return float(np.corrcoef(verdicts, sizes)[0, 1])


def power(n: int, rate: float) -> Power:
    """The chance that a model whose true rate is `rate` passes the gate, and that ≥ 95% is shown by the exact bound.

    The `n` items are taken as independent; clustered items behave like fewer. Raises ValueError on an impossible n or
    rate.
    """
    from scipy.stats import binom

    if n < 1 or not 0.0 <= rate <= 1.0:
        raise ValueError("n must be at least 1 and rate between 0 and 1")
    gate = (100 - THRESHOLD_PERCENT) * n // 100
    level = THRESHOLD_PERCENT / 100
    bound = next((f for f in range(gate, -1, -1) if exact_lower(n - f, n) >= level), -1)
    chances = [float(binom.cdf(allowed, n, 1 - rate)) if allowed >= 0 else 0.0 for allowed in (gate, bound)]
    return Power(n, rate, gate, bound, *chances)


def _by_template(outcomes: Sequence[bool], templates: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Items and successes per template, in the order of the templates' names."""
    if len(outcomes) != len(templates) or not outcomes:
        raise ValueError("one outcome and one template for each of at least one item are needed")
    _, place = np.unique(np.asarray(templates), return_inverse=True)
    hits = np.bincount(place, weights=np.asarray(outcomes, dtype=float))
    return np.bincount(place).astype(float), hits


def _must_count(successes: int, total: int) -> None:
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is no rate")


def _must_pair(a: Sequence[bool], b: Sequence[bool], templates: Sequence[str]) -> None:
    if not len(a) == len(b) == len(templates) or not a:
        raise ValueError("both sides need one outcome for each of the same items, and at least one")
