"""`cai elicit`: what it reports was made under the settings and the conditions of this call."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from stubs import KilledError, Stage, StubEngine, config_of

from cai_bootstrap.inference.engine import EngineInfo
from cai_bootstrap.measuring.elicit import GRID
from cai_bootstrap.steps import elicit

ASKED = 4 * len(GRID)


@dataclass
class Newer(StubEngine):
    """The same engine after an update of its libraries."""

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, versions={"torch": "2.14.0"})


def elicited(stage: Stage, engine: StubEngine, **settings: Any) -> int:
    """How many prompts the engine was asked."""
    stage.make_engine = lambda: engine
    elicit.run(stage.context(config_of(evaluation__elicit_items=4, **settings)))
    return len(engine.prompts)


def kill_half_way(stage: Stage) -> None:
    with pytest.raises(KilledError):
        elicited(stage, StubEngine(die_after=ASKED // 2))


def test_a_finished_search_leaves_no_outputs_that_a_later_one_could_take_for_its_own(stage: Stage) -> None:
    kill_half_way(stage)
    assert elicited(stage, StubEngine(), evaluation__max_new_tokens=96) == ASKED
    assert not list((stage.workspace.results / "partial").iterdir())
    assert elicited(stage, StubEngine()) == ASKED


@pytest.mark.parametrize(
    ("engine", "settings"),
    [
        (StubEngine(), {"evaluation__max_new_tokens": 96}),
        (StubEngine(batch_size=2), {}),
        (Newer(), {}),
        (StubEngine(), {"seed": 9}),
    ],
    ids=["tokens", "batch", "versions", "seed"],
)
def test_a_search_that_was_killed_begins_anew_under_other_settings(
    stage: Stage, engine: StubEngine, settings: dict[str, Any]
) -> None:
    kill_half_way(stage)
    assert elicited(stage, engine, **settings) == ASKED


def test_a_search_that_was_killed_goes_on_under_the_same_settings(stage: Stage) -> None:
    kill_half_way(stage)
    assert elicited(stage, StubEngine()) == ASKED - ASKED // 2 // 4 * 4
