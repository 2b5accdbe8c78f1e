"""Recorded steps train as plain ones do. Run where there is a GPU; elsewhere nothing is recorded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import events, pairs_of, training

from cai_bootstrap.inference.models import PreparedModel, prepare

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SETTINGS: dict[str, Any] = {
    "training__max_steps": 10, "training__learning_rate": 1e-3, "training__method": "joint", "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> PreparedModel:
    return prepare(str(tiny), say=lambda _: None)


def losses(folder: Path, prepared: PreparedModel, *, graphed: bool, **settings: Any) -> list[float]:
    run = training(folder / "run", prepared, **{**SETTINGS, **settings})
    run.graphed = graphed
    run.run(pairs_of())
    return [event["figures"]["loss"] for event in events(folder / "run", "train_step")]


@ON_GPU
@pytest.mark.parametrize("accumulate", [1, 2])
def test_recorded_steps_have_the_losses_of_plain_ones(tmp_path: Path, prepared: PreparedModel, accumulate: int) -> None:
    asked = {"training__accumulate": accumulate}
    plain = losses(tmp_path / "plain", prepared, graphed=False, **asked)
    recorded = losses(tmp_path / "recorded", prepared, graphed=True, **asked)
    assert recorded == pytest.approx(plain, rel=1e-4)
    assert recorded[-1] < recorded[0]


@pytest.mark.parametrize(
    ("settings", "can"),
    [
        ({}, True), ({"training__lora_dropout": 0.1}, False), ({"training__neftune_alpha": 5.0}, False),
        ({"training__gradient_checkpointing": True}, False), ({"training__precision": "int8"}, False),
        ({"training__batch_size": 64}, True), ({"training__batch_size": 65}, False),
    ],
)  # fmt: skip
def test_what_is_drawn_or_recomputed_at_each_step_is_not_recorded(
    tmp_path: Path, prepared: PreparedModel, settings: dict[str, Any], can: bool
) -> None:
    assert training(tmp_path / "run", prepared, **settings)._can_be_graphed() == can


def test_without_a_gpu_asking_for_recorded_steps_changes_nothing(tmp_path: Path, prepared: PreparedModel) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    asked = {"training__max_steps": 2}
    assert losses(tmp_path / "a", prepared, graphed=True, **asked) == losses(
        tmp_path / "b", prepared, graphed=False, **asked
    )
