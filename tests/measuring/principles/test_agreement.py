"""Agreement beyond chance, within arms: telling arms apart is worth nothing."""

import pytest

from cai_bootstrap.measuring.principles.agreement import kappa_lower, kappa_within

YES, NO = [True] * 30, [False] * 30


def test_kappa_of_one_arm_is_cohens() -> None:
    labels, verdicts = [True, True, False, False], [True, False, False, False]
    assert kappa_within(labels, verdicts, ["a"] * 4) == pytest.approx(0.5)  # 0.75 agreed, 0.5 by chance


def test_a_judge_that_only_tells_arms_apart_gets_nothing() -> None:
    arms = ["trained"] * 30 + ["base"] * 30
    labels = [True] * 24 + [False] * 6 + [True] * 6 + [False] * 24
    by_arm = [arm == "trained" for arm in arms]
    assert kappa_within(labels, by_arm, ["one"] * 60) == pytest.approx(0.6)
    assert kappa_within(labels, by_arm, arms) == pytest.approx(0.0)
    assert kappa_lower(labels, by_arm, arms) == pytest.approx(0.0)


def test_a_right_judge_has_kappa_one_and_a_bound_of_one() -> None:
    arms = ["a", "b"] * 30
    assert kappa_within(YES + NO, YES + NO, arms) == 1.0
    assert kappa_lower(YES + NO, YES + NO, arms) == 1.0


def test_the_bound_lies_below_and_is_the_same_again() -> None:
    verdicts = [True] * 28 + [False] * 2 + [False] * 27 + [True] * 3
    kappa, lower = kappa_within(YES + NO, verdicts, ["a"] * 60), kappa_lower(YES + NO, verdicts, ["a"] * 60)
    assert kappa is not None
    assert lower is not None
    assert kappa == pytest.approx(5 / 6)
    assert 0.6 < lower < kappa
    assert lower == kappa_lower(YES + NO, verdicts, ["a"] * 60)


def test_arms_that_never_vary_say_nothing() -> None:
    arms = ["trained"] * 30 + ["base"] * 30
    assert kappa_within(YES + NO, YES + NO, arms) is None
    assert kappa_lower(YES + NO, YES + NO, arms) is None


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one label"):
        kappa_within([True], [True, False], ["a"])


def test_the_bound_of_a_judge_who_is_always_wrong_is_no_better_than_he() -> None:
    labels = [at % 2 == 0 for at in range(60)]
    verdicts = [not label for label in labels]
    arms = ["base" if at < 30 else "trained" for at in range(60)]
    assert kappa_lower(labels, verdicts, arms) == kappa_within(labels, verdicts, arms) == -1.0
