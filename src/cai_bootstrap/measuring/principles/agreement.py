"""How far a judge agrees with people, beyond chance and within arms. Pure functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
SEED = 20_250_101
CONFIDENCE = 0.95


def kappa_within(labels: Sequence[bool], verdicts: Sequence[bool], arms: Sequence[str]) -> float | None:
    """Cohen's κ (1960) with agreement and chance agreement both counted within each arm, then summed over arms.

    A judge that only tells a trained model's answers from a base model's agrees with people over all arms, and gets 0
    here. An arm in which labels and verdicts never vary says nothing and counts for nothing; None if all are such.
    Raises ValueError unless there is one label, verdict and arm for each of at least one answer.
    """
    if not len(labels) == len(verdicts) == len(arms) or not labels:
        raise ValueError("one label, one verdict and one arm for each of at least one answer are needed")
    tables = [_cells(labels, verdicts, arms, arm) for arm in sorted(set(arms))]
    gained, possible = np.sum([_beyond_chance(table[None]) for table in tables], axis=0)
    return float(gained[0] / possible[0]) if possible[0] > 0 else None


def kappa_lower(labels: Sequence[bool], verdicts: Sequence[bool], arms: Sequence[str]) -> float | None:
    """One-sided 95% lower bound of `kappa_within`: the 5% quantile of 2,000 resamples of the answers of each arm.

    The same answers give the same bound, never above κ itself. A resample without any variation counts as 0. None where
    κ is None.
    """
    kappa = kappa_within(labels, verdicts, arms)
    if kappa is None:
        return None
    random = np.random.Generator(np.random.PCG64(SEED))
    gained, possible = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for arm in sorted(set(arms)):
        table = _cells(labels, verdicts, arms, arm)
        size = int(table.sum())
        drawn = random.multinomial(size, table.ravel() / size, size=RESAMPLES).reshape(RESAMPLES, 2, 2)
        more, most = _beyond_chance(drawn.astype(float))
        gained += more
        possible += most
    kappas = np.divide(gained, possible, out=np.zeros(RESAMPLES), where=possible > 0)
    return min(kappa, float(np.quantile(kappas, 1 - CONFIDENCE)))


def _cells(labels: Sequence[bool], verdicts: Sequence[bool], arms: Sequence[str], arm: str) -> NDArray[Any]:
    """The 2 × 2 table of one arm: rows by label, columns by verdict."""
    table = np.zeros((2, 2))
    for label, verdict, own in zip(labels, verdicts, arms, strict=True):
        if own == arm:
            table[int(label), int(verdict)] += 1
    return table


def _beyond_chance(tables: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each table of one arm: the agreements above chance, and how many there could be at most (in answers)."""
    size = tables.sum(axis=(1, 2))
    agreed = tables[:, 0, 0] + tables[:, 1, 1]
    chance = (tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1) / size
    return agreed - chance, size - chance
