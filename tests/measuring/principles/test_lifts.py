"""Bounds and tests of clustered prompts: no lift is found too often, and a true one is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from cai_bootstrap.judging.statistics import exact_lower
from cai_bootstrap.measuring.principles.lifts import (
    Grouping,
    grouping_of,
    holm,
    paired_lift,
    rate_lower,
    widest_variance,
)
from cai_bootstrap.records import Prompt

Outcomes = NDArray[np.bool_]
WORDINGS, TOPICS, PROMPTS = 50, 40, 200


def crossed(random: np.random.Generator) -> Grouping:
    """200 prompts of 50 wordings and 40 topics, crossed."""
    topics = random.permutation(PROMPTS) % TOPICS
    return np.arange(PROMPTS) % WORDINGS, topics


def answers(random: np.random.Generator, rate: float, grouping: Grouping, spread: float) -> Outcomes:
    """Whether each prompt is obeyed, at this mean rate; wordings and topics differ by `spread` (probits)."""
    latent = ndtri(rate) * np.sqrt(1 + 2 * spread**2)
    for groups in grouping:
        latent = latent + random.normal(0, spread, int(groups.max()) + 1)[groups]
    drawn: Outcomes = random.random(PROMPTS) < ndtr(latent)
    return drawn


def found(rate: float, lift: float, *, spread: float, times: int) -> tuple[float, float]:
    """How often a lift is found, and how often its bound lies below the true one."""
    random = np.random.default_rng(20_260_101)
    shown = covered = 0
    for _ in range(times):
        grouping = crossed(random)
        before, after = (answers(random, r, grouping, spread) for r in (rate, rate + lift))
        result = paired_lift(list(before), list(after), grouping)
        shown += result.p <= 0.05
        covered += result.lower <= lift
    return shown / times, covered / times


@pytest.mark.parametrize(("rate", "spread"), [(0.3, 0.0), (0.3, 0.7), (0.05, 0.7), (0.8, 0.7)])
def test_no_lift_is_found_in_at_most_five_percent_though_prompts_stand_and_fall_together(
    rate: float, spread: float
) -> None:
    # 200 samples: a true 5% gives more than 9% in one of two hundred.
    false_findings, covered = found(rate, 0.0, spread=spread, times=200)
    assert false_findings <= 0.09
    assert covered >= 0.91


def test_one_way_bound_would_find_too_much_here() -> None:
    """The prompts of one wording vary together in these samples: without clusters the test would not keep its 5%."""
    random, alone = np.random.default_rng(1), (np.arange(PROMPTS),)
    wordings = np.arange(PROMPTS) % 10
    findings = {"clustered": 0, "alone": 0}
    for _ in range(200):
        before, after = (answers(random, 0.4, (wordings,), 1.2) for _ in range(2))
        findings["clustered"] += paired_lift(list(before), list(after), (wordings,)).p <= 0.05
        findings["alone"] += paired_lift(list(before), list(after), alone).p <= 0.05
    assert findings["alone"] > 30
    assert findings["clustered"] <= 18


def test_a_true_lift_of_ten_points_on_200_prompts_is_found() -> None:
    shown, covered = found(0.02, 0.10, spread=0.3, times=100)
    assert shown >= 0.9
    assert covered >= 0.9


def test_a_lift_of_everything_has_a_bound_below_one() -> None:
    grouping = crossed(np.random.default_rng(0))
    lift = paired_lift([False] * PROMPTS, [True] * PROMPTS, grouping)
    assert lift.estimate == 1.0
    assert 0.9 < lift.lower < 1.0
    assert lift.p < 1e-6


def test_equal_answers_show_that_nothing_is_worse_by_five_points() -> None:
    grouping = crossed(np.random.default_rng(0))
    lift = paired_lift([True] * PROMPTS, [True] * PROMPTS, grouping)
    assert lift.p == 1.0
    assert -0.05 < lift.lower < 0


def test_one_group_tells_nothing() -> None:
    lift = paired_lift([False] * 5, [True] * 5, (np.zeros(5, dtype=np.intp),))
    assert (lift.lower, lift.p) == (-1.0, 1.0)
    assert rate_lower([True] * 5, (np.zeros(5, dtype=np.intp),)) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=60))
@settings(max_examples=150, deadline=None)
def test_bound_p_value_and_estimate_agree(rows: list[tuple[bool, bool, int, int]]) -> None:
    prompts = [
        Prompt(id=str(at), text="x", kind="question", split="test", wording=f"w{row[2]}", topic=f"t{row[3]}")
        for at, row in enumerate(rows)
    ]
    grouping = grouping_of(prompts)
    before, after = [row[0] for row in rows], [row[1] for row in rows]
    lift = paired_lift(before, after, grouping)
    assert lift.estimate == pytest.approx((sum(after) - sum(before)) / len(rows))
    assert -1 <= lift.lower <= lift.estimate + 1e-12 or lift.estimate == -1
    assert 0 <= lift.p <= 1
    assert lift.lower <= 0 or lift.p <= 0.05
    assert 0 <= rate_lower(after, grouping) <= exact_lower(sum(after), len(after))
    values = np.asarray(after, dtype=float)
    assert widest_variance(values, grouping) >= widest_variance(values, ()) - 1e-15


def test_prompts_without_wording_topic_or_cluster_stand_alone() -> None:
    alone = [Prompt(id=str(at), text="x", kind="question", split="test") for at in range(4)]
    assert [len(set(groups)) for groups in grouping_of(alone)] == [4]
    near = [prompt.model_copy(update={"cluster": "a" if at < 2 else ""}) for at, prompt in enumerate(alone)]
    assert [len(set(groups)) for groups in grouping_of(near)] == [3]


def test_holm_adjusts_by_rank_and_never_falls() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_holm_is_the_one_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    ps = {str(at): p for at, p in enumerate(np.random.default_rng(3).random(12) ** 3)}
    assert list(holm(ps).values()) == pytest.approx(list(multipletests(list(ps.values()), method="holm")[1]))


def test_unequal_arms_are_refused() -> None:
    with pytest.raises(ValueError, match="both arms"):
        paired_lift([True], [True, False], (np.arange(1),))
