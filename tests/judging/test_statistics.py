"""Rates, bounds and tests against published or hand-computed values, and against what clustering does to them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_bootstrap.judging import statistics


@pytest.mark.parametrize(
    ("successes", "total", "met"), [(475, 500, True), (474, 500, False), (19, 20, True), (0, 0, False)]
)
def test_the_gate_counts_in_whole_numbers(successes: int, total: int, met: bool) -> None:
    assert statistics.meets_gate(successes, total) is met


def test_wilson_interval_has_the_closed_forms_value() -> None:
    k, n, z = 81, 100, 1.959963984540054
    centre = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    assert statistics.wilson(k, n) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(("total", "failures"), [(200, 4), (400, 12), (500, 16)])
def test_95_percent_is_shown_by_the_exact_bound_up_to_a_known_number_of_failures(total: int, failures: int) -> None:
    assert statistics.exact_lower(total - failures, total) >= 0.95
    assert statistics.exact_lower(total - failures - 1, total) < 0.95


def test_exact_bound_without_a_failure_is_the_nth_root_of_five_percent() -> None:
    assert statistics.exact_lower(100, 100) == pytest.approx(0.05 ** (1 / 100))


def test_cluster_bound_is_never_above_the_exact_bound() -> None:
    random = np.random.default_rng(3)
    for _ in range(100):
        size = int(random.integers(4, 80))
        outcomes = (random.random(size) < random.random()).tolist()
        templates = [f"t{n}" for n in random.integers(0, 12, size)]
        assert statistics.cluster_lower(outcomes, templates) <= statistics.exact_lower(sum(outcomes), size) + 1e-12


def test_cluster_bound_falls_when_failures_share_templates_not_when_they_are_spread() -> None:
    templates = [f"t{n // 10}" for n in range(200)]
    spread = [n % 10 != 0 or n >= 120 for n in range(200)]
    bunched = [n >= 12 for n in range(200)]
    assert sum(spread) == sum(bunched) == 188
    assert statistics.cluster_lower(bunched, templates) < statistics.cluster_lower(spread, templates) - 0.01


def test_without_any_failure_a_template_counts_as_one_trial() -> None:
    templates = [f"t{n // 5}" for n in range(200)]
    assert statistics.cluster_lower([True] * 200, templates) == pytest.approx(0.05 ** (1 / 40))


def test_one_template_shows_nothing() -> None:
    assert statistics.cluster_lower([True] * 500, ["only"] * 500) == 0.0
    assert not statistics.shown([True] * 500, ["only"] * 500)


def test_one_template_tells_nothing_of_a_difference() -> None:
    found = statistics.paired_lift([False] * 10, [True] + [False] * 9, ["only"] * 10)
    assert (found.estimate, found.low, found.high) == (0.1, -1.0, 1.0)


def test_a_true_95_percent_model_is_shown_about_5_percent_of_the_time_though_templates_cluster() -> None:
    """40 templates of 12 items, ICC .3: the exact bound alone would show it about 20% of the time."""
    random = np.random.default_rng(1)
    icc, rate, runs = 0.3, 0.95, 300
    templates = [f"t{n // 12}" for n in range(480)]
    alone = both = 0
    for _ in range(runs):
        chances = random.beta(rate * (1 - icc) / icc, (1 - rate) * (1 - icc) / icc, 40)
        outcomes = (random.random(480) < np.repeat(chances, 12)).tolist()
        alone += statistics.exact_lower(sum(outcomes), 480) >= 0.95
        both += statistics.shown(outcomes, templates)
    assert alone / runs > 0.12
    assert both / runs < 0.10


def test_mcnemar_is_the_two_sided_binomial_of_the_discordant_pairs() -> None:
    assert statistics.mcnemar_exact(0, 0) == 1.0
    assert statistics.mcnemar_exact(10, 0) == pytest.approx(2 * 0.5**10)
    assert statistics.mcnemar_exact(9, 1) == statistics.mcnemar_exact(1, 9) == pytest.approx(2 * 11 / 2**10)


pairs = st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abcdefg")), min_size=1, max_size=24)


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_template_flip_test_equals_trying_every_swap(rows: list[tuple[bool, bool, str]]) -> None:
    a, b, templates = (list(column) for column in zip(*rows, strict=True))
    net: dict[str, int] = {}
    for was, now, template in rows:
        net[template] = net.get(template, 0) + int(now) - int(was)
    observed = abs(sum(net.values()))
    swaps = list(itertools.product((1, -1), repeat=len(net)))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, net.values(), strict=True))) >= observed for signs in swaps)
    assert statistics.template_flip_test(a, b, templates) == pytest.approx(extreme / len(swaps))


def test_template_flip_test_equals_mcnemar_when_every_item_has_its_own_template() -> None:
    a, b = [False] * 9 + [True] + [True] * 10, [True] * 9 + [False] + [True] * 10
    templates = [f"t{n}" for n in range(20)]
    assert statistics.template_flip_test(a, b, templates) == pytest.approx(statistics.mcnemar_exact(9, 1))


def test_template_flip_test_is_not_impressed_by_one_template_that_flips_as_a_whole() -> None:
    a, b = [False] * 20 + [True] * 20, [True] * 40
    templates = ["big"] * 20 + [f"t{n}" for n in range(20)]
    assert statistics.mcnemar_exact(20, 0) < 1e-5
    assert statistics.template_flip_test(a, b, templates) == 1.0


def test_benjamini_hochberg_adjusts_by_rank() -> None:
    found = statistics.benjamini_hochberg({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "b": 0.16 / 3, "c": 0.16 / 3, "d": 0.5})
    assert statistics.benjamini_hochberg({}) == {}


def test_paired_lift_is_repeatable_and_wider_when_templates_cluster() -> None:
    random = np.random.default_rng(5)
    a = [False] * 400
    b = np.repeat(random.random(40) < 0.5, 10).tolist()
    clustered = statistics.paired_lift(a, b, [f"t{n // 10}" for n in range(400)])
    single = statistics.paired_lift(a, b, [f"t{n}" for n in range(400)])
    assert clustered == statistics.paired_lift(a, b, [f"t{n // 10}" for n in range(400)])
    assert clustered.estimate == single.estimate == sum(b) / 400
    assert clustered.high - clustered.low > 2 * (single.high - single.low)


def test_cohens_h_is_the_difference_of_arcsines() -> None:
    assert statistics.cohens_h(0.0, 1.0) == pytest.approx(math.pi)
    assert statistics.cohens_h(0.5, 0.5) == 0.0
    assert statistics.cohens_h(0.81, 0.993) == pytest.approx(2 * (math.asin(0.993**0.5) - math.asin(0.9)))


def test_power_tells_what_a_suite_can_show() -> None:
    found = statistics.power(500, 0.97)
    assert (found.allowed_by_gate, found.allowed_when_shown) == (25, 16)
    assert found.chance_of_gate == pytest.approx(0.99454, abs=1e-4)
    assert found.chance_of_shown == pytest.approx(0.66560, abs=1e-4)
    assert statistics.power(40, 0.99).allowed_when_shown == -1
    assert statistics.power(40, 1.0).chance_of_shown == 0.0
    assert statistics.power(500, 1.0).chance_of_shown == 1.0


def test_length_correlation_is_none_when_nothing_varies() -> None:
    assert statistics.length_correlation([True, True], [1, 5]) is None
    assert statistics.length_correlation([True, False], [3, 3]) is None
    assert statistics.length_correlation([True, False], [5, 1]) == pytest.approx(1.0)


@pytest.mark.parametrize("call", [lambda: statistics.wilson(3, 2), lambda: statistics.exact_lower(0, 0)])
def test_an_impossible_count_is_an_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match="is no rate"):
        call()


def test_sides_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="same items"):
        statistics.paired_lift([True], [True, False], ["a", "b"])
