"""Several processes that train together: the same training as one, resumed, stopped and ended as one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import alive, wait_for
from stubs import config_of
from test_training import events, pairs_of, training

from cai_bootstrap.errors import InterruptedRunError, TrainingCollapsedError, UsageError
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.training.batch_split import Share, process_count, share_of
from cai_bootstrap.training.checkpoints import Checkpoint

STEP: dict[str, Any] = {"training__batch_size": 8, "training__save_every": 2, "training__max_steps": 4}


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> PreparedModel:
    return prepare(str(tiny), say=lambda _: None)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedModel) -> Checkpoint:
    folder = tmp_path_factory.mktemp("together") / "run"
    return training(folder, prepared, **STEP, training__processes=2, training__watch_every=2).run(pairs_of(16))


def test_two_processes_of_batch_four_are_one_of_batch_eight(
    tmp_path: Path, prepared: PreparedModel, together: Checkpoint
) -> None:
    import torch
    from safetensors.torch import load_file

    alone = training(tmp_path / "run", prepared, **STEP, training__watch_every=2).run(pairs_of(16))
    expected = [event["figures"] for event in events(tmp_path / "run", "train_step")]
    found = [event["figures"] for event in events(together.path, "train_step")]
    assert len(found) == len(expected) == 4
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("loss", "nll", "dpo", "logps/chosen", "rewards/margins", "rewards/accuracies"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
    assert (together.marker.processes, alone.marker.processes) == (2, 1)
    assert [look.step for look in together.marker.watch or []] == [0, 2, 4]
    assert (together.marker.watch or [])[0].model_dump() == pytest.approx(
        (alone.marker.watch or [])[0].model_dump(), rel=1e-3
    )
    weights = [load_file(made.path / "adapter_model.safetensors") for made in (alone, together)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])


@pytest.mark.slow
def test_accumulation_is_divided_and_two_processes_stopped_and_resumed_are_as_uninterrupted(
    tmp_path: Path, prepared: PreparedModel, together: Checkpoint
) -> None:
    folder = tmp_path / "run"
    settings = {**STEP, "training__batch_size": 2, "training__accumulate": 4, "training__processes": 2}
    with pytest.raises(InterruptedRunError, match="training stopped at step 1;"):
        training(folder, prepared, stopping=lambda: True, **settings).run(pairs_of(16))
    assert not (folder / "TRAINING_SUCCESS").exists()
    resumed = training(folder, prepared, **settings).run(pairs_of(16))
    assert resumed.final_loss == pytest.approx(together.final_loss, rel=1e-4)
    assert [e for e in events(folder, "notice") if "going on from step" in e["message"]]
    assert not (folder / "work").exists()


@pytest.mark.slow
def test_a_collapse_is_told_by_the_process_that_saw_it(tmp_path: Path, prepared: PreparedModel) -> None:
    run = training(
        tmp_path / "run", prepared, **STEP, training__processes=2, training__learning_rate=1e30,
        training__warmup_ratio=0,
    )  # fmt: skip
    with pytest.raises(TrainingCollapsedError, match="No success marker was written"):
        run.run(pairs_of(16))
    assert not list(tmp_path.rglob("TRAINING_SUCCESS"))


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_training import pairs_of, training
from cai_bootstrap.inference.models import prepare
prepared = prepare(sys.argv[1], say=lambda _: None)
training(
    Path(sys.argv[2]), prepared, training__processes=2, training__batch_size=8, training__max_steps=100000
).run(pairs_of(16))
"""


@pytest.mark.slow
def test_a_killed_parent_leaves_no_process(tmp_path: Path, tiny: Path) -> None:
    """Killed alone, not its group: the processes end by themselves."""
    tests = Path(__file__).parents[1]
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", SCRIPT, str(tiny), str(folder), str(tests), str(tests / "training")]
    with (tmp_path / "said").open("wb") as said:
        parent = subprocess.Popen(arguments, stdout=said, stderr=said, start_new_session=True)
    try:
        wait_for(
            lambda: (tmp_path / "events.jsonl").exists() and events(folder, "train_step"), seconds=120, what="training"
        )
        children = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
        assert len(children) == 2
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not any(alive(pid) for pid in children), seconds=20, what="the processes' end")
    finally:
        parent.kill()
        parent.wait()


def settings_of(**values: Any) -> Any:
    return config_of(**{f"training__{name}": value for name, value in values.items()}).training


def test_a_step_is_the_same_whatever_the_number_of_processes() -> None:
    for batch, accumulate, processes in ((32, 1, 2), (32, 1, 8), (2, 8, 4), (6, 1, 3), (1, 8, 4), (6, 3, 2)):
        part = share_of(settings_of(batch_size=batch, accumulate=accumulate), processes)
        assert part.batch_size * part.accumulate * processes == batch * accumulate
        assert part.batch_size <= batch
    assert share_of(settings_of(batch_size=2, accumulate=8), 4) == Share(4, 2, 2)
    assert Share(2, 4, 1).halved() == Share(2, 2, 2)
    assert Share(2, 1, 8).halved() is None


def test_auto_takes_the_gpus_that_a_step_can_be_divided_among(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert process_count(settings_of(batch_size=8)) == 1  # no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [process_count(settings_of(batch_size=n)) for n in (8, 6, 1)] == [4, 3, 1]
    with pytest.raises(UsageError, match="only 4 GPUs are visible"):
        process_count(settings_of(batch_size=8, processes=8))
    with pytest.raises(UsageError, match=r"8 pairs .* cannot be divided evenly"):
        process_count(settings_of(batch_size=8, processes=3))
