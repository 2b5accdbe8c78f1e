"""The order of the tests: every one runs once, the longest first in each process's block."""

import pytest
from order import SECONDS, blocks, longest_first, seconds


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
def test_every_test_stays_once_and_each_block_begins_with_its_share_of_the_long_ones(processes: int) -> None:
    items = [f"t{n}" for n in range(100)]
    weights = {item: 0 if n % 9 else n + 1 for n, item in enumerate(items)}
    ordered = longest_first(items, weights.__getitem__, processes)
    assert sorted(ordered) == sorted(items)
    begins = [sum(blocks(100, processes)[:place]) for place in range(processes)]
    longest = sorted(weights, key=lambda item: weights[item], reverse=True)[:processes]
    assert [ordered[place] for place in begins] == longest
    light = [item for item in ordered if not weights[item]]
    assert light == [item for item in items if not weights[item]]


def test_more_long_tests_than_a_block_holds_are_still_all_there() -> None:
    assert longest_first([1, 3, 2], lambda item: item, 2) == [3, 2, 1]


def test_what_is_named_is_there(request: pytest.FixtureRequest) -> None:
    assert seconds("tests/e2e/test_tiny_run.py::test_c5_killed_in_generation") > 0
    assert seconds("tests/test_config.py::test_x") == 0
    for place in SECONDS:
        file, _, name = place.partition("::")
        text = (request.config.rootpath / "tests" / file).read_text(encoding="utf-8")
        assert f"def {name.partition('[')[0]}" in text, place
