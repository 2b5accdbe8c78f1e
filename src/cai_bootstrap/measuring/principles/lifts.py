"""Bounds and tests for prompts that stand and fall together in two ways: by wording and by topic. Pure functions.

Two prompts of one wording are not two independent trials, and neither are two on one topic. A variance is therefore
the largest of those that take the prompts as independent, the wording as the unit, the topic as the unit, and both at
once (Cameron, Gelbach & Miller 2011, "Robust inference with multiway clustering": by wording + by topic − by their
intersection). Prompts of a user's own have neither; there the cluster of near-duplicates is the unit.

A lift is a difference of two paired rates. Its bound is Agresti & Min's (2005: half a prompt is added to each cell of
the paired table, so that a bound at 0 or 1 is no certainty), taken at the *effective* number of prompts, which is the
number divided by how much the clusters widen the variance; the quantile is Student's with one degree of freedom less
than there are clusters. Its p-value is the largest of that of the bound and of the exact tests that swap the two arms
of whole clusters at a time (`judging.statistics.template_flip_test` explains these).

Simulated, 600 samples each: without a lift, one is found in 1.5 to 5.0% (60 to 300 prompts, 15 to 76 wordings crossed
with 12 to 88 topics that vary by up to one probit; tests by wording alone or topic alone find one in up to 12%). On 200
prompts a lift of ten points from 2% is found in 98%, from 10% in 77%, from 30% in 51%; the bound lies below the true
lift in 94 to 98%.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cai_bootstrap.judging.statistics import CONFIDENCE, exact_lower

Groups = NDArray[np.intp]  # a group's number for each prompt
Grouping = tuple[Groups, ...]
Values = NDArray[np.float64]
_UNITS = ("wording", "topic", "cluster")


class Grouped(Protocol):
    """A prompt, or an item of a results file, that stands and falls together with others."""

    @property
    def id(self) -> str: ...
    @property
    def wording(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def cluster(self) -> str: ...


@dataclass(frozen=True)
class PairedLift:
    """The rate of one arm minus that of another on the same prompts, all in shares (0.1 is ten points).

    `lower` is the one-sided 95% lower bound, `p` the one-sided p-value of "no lift"; `lower` is above 0 only if `p` is
    at most 0.05. `gained` and `lost` count the prompts on which one arm obeys and the other does not.
    """

    estimate: float
    lower: float
    p: float
    gained: int
    lost: int
    total: int


def grouping_of(prompts: Sequence[Grouped]) -> Grouping:
    """The ways in which these prompts stand and fall together: by wording, topic and cluster, where they have such.

    A prompt that has no wording (topic, cluster) is a group of its own. Where no prompt has any, each is its own group.
    """
    groupings = [
        _numbered([getattr(prompt, unit) or f"\0{prompt.id}" for prompt in prompts])
        for unit in _UNITS
        if any(getattr(prompt, unit) for prompt in prompts)
    ]
    return tuple(groupings) or (np.arange(len(prompts)),)


def rate_lower(outcomes: Sequence[bool], grouping: Grouping) -> float:
    """One-sided 95% lower bound of a rate when the prompts of a group stand and fall together, in each grouping.

    Korn & Graubard 1998, as `judging.statistics.cluster_lower`: the exact bound at the effective number of prompts.
    Where no variance can be estimated (all right, all wrong) a group of the finest grouping counts as one prompt. It is
    never above the exact bound; with one group there is nothing to estimate from, and the bound is 0.
    """
    from scipy.special import betaincinv, stdtrit

    values = np.asarray(outcomes, dtype=float)
    n, groups = len(values), _numbers_of_groups(grouping)
    if min(groups) < 2:
        return 0.0
    rate = float(values.mean())
    variance = widest_variance(values, grouping)
    if variance == 0.0:
        effective = float(max(groups))
    else:
        adjust = float(stdtrit(n - 1, CONFIDENCE) / stdtrit(min(groups) - 1, CONFIDENCE)) ** 2
        effective = min(float(n), rate * (1 - rate) / variance * adjust)
    hits = rate * effective
    if hits <= 0:
        return 0.0
    bound = float(betaincinv(hits, effective - hits + 1, 1 - CONFIDENCE))
    return min(bound, exact_lower(int(values.sum()), n))


def paired_lift(before: Sequence[bool], after: Sequence[bool], grouping: Grouping) -> PairedLift:
    """The rate of `after` minus the rate of `before` on the same prompts, with bound and p-value.

    With a single group nothing is known of how groups differ: the bound is −1 and the p-value 1. Raises ValueError if
    the arms are empty or of unequal length.
    """
    if len(before) != len(after) or not len(before):
        raise ValueError("both arms need one outcome for each of the same prompts, and at least one")
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    n, gained, lost = len(change), int((change > 0).sum()), int((change < 0).sum())
    estimate = (gained - lost) / n
    if min(_numbers_of_groups(grouping)) < 2:
        return PairedLift(estimate, -1.0, 1.0, gained, lost, n)
    lower, p = _bound_and_p(change, grouping)
    p = max(p, *(_flip_p(change, groups) for groups in grouping))
    if p > 1 - CONFIDENCE:
        lower = min(lower, 0.0)
    return PairedLift(estimate, max(-1.0, lower), min(1.0, p), gained, lost, n)


def widest_variance(values: Values, grouping: Grouping) -> float:
    """The variance of the mean of `values`: the largest of those by each grouping, by two of them, and of none."""
    residuals = values - values.mean()
    alone = [_variance(residuals, groups) for groups in (np.arange(len(values)), *grouping)]
    both = [
        alone[1 + a] + alone[1 + b] - _variance(residuals, _intersection(grouping[a], grouping[b]))
        for a in range(len(grouping))
        for b in range(a)
    ]
    return max(alone + both)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values of several tests, adjusted so that the chance of even one false finding is kept (Holm 1979)."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda entry: (entry[1], entry[0]))):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _bound_and_p(change: Values, grouping: Grouping) -> tuple[float, float]:
    """Agresti & Min's lower bound at the effective number of prompts, and the p-value of the same statistic."""
    from scipy.special import stdtr, stdtrit

    n, groups = len(change), _numbers_of_groups(grouping)
    independent = _variance(change - change.mean(), np.arange(n))
    widest = widest_variance(change, grouping)
    effective = n * independent / widest if widest > 0 else float(max(groups))
    share = effective / n
    gained, lost = share * float((change > 0).sum()), share * float((change < 0).sum())
    size = effective + 2
    estimate = (gained - lost) / size
    error = ((gained + lost + 1 - (gained - lost) ** 2 / size) ** 0.5) / size
    freedom = min(groups) - 1
    return estimate - float(stdtrit(freedom, CONFIDENCE)) * error, float(stdtr(freedom, -estimate / error))


def _flip_p(change: Values, groups: Groups) -> float:
    """One-sided exact p-value: the share of all swaps of whole groups whose net change is as large as this one."""
    net = np.bincount(groups, weights=change).astype(int)
    changes = np.abs(net[net != 0])
    if not len(changes):
        return 1.0
    reach = int(changes.sum())
    mass = np.zeros(2 * reach + 1)
    mass[reach] = 1.0
    span = 0
    for size in changes:
        inside = mass[reach - span : reach + span + 1].copy()
        span += int(size)
        mass[reach - span : reach + span + 1] = 0.0
        mass[reach - span : reach - span + len(inside)] += 0.5 * inside
        mass[reach + span + 1 - len(inside) : reach + span + 1] += 0.5 * inside
    return min(1.0, float(mass[reach + int(net.sum()) :].sum()))


def _variance(residuals: Values, groups: Groups) -> float:
    """The variance of a mean from the sums of residuals within groups, with the factor G / (G − 1) for G groups."""
    sums = np.bincount(groups, weights=residuals)
    count = len(sums)
    return count / (count - 1) * float((sums**2).sum()) / len(residuals) ** 2 if count > 1 else 0.0


def _intersection(a: Groups, b: Groups) -> Groups:
    return _renumbered(a * (int(b.max()) + 1) + b)


def _numbered(names: Sequence[str]) -> Groups:
    return _renumbered(np.asarray(names))


def _renumbered(values: NDArray[Any]) -> Groups:
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.intp)


def _numbers_of_groups(grouping: Grouping) -> list[int]:
    return [int(groups.max()) + 1 if len(groups) else 0 for groups in grouping]
