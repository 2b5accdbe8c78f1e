"""The SkyPilot task: whole by structure always, and by SkyPilot's own parser where that is installed."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import yaml

from cai_bootstrap.pod import skypilot
from cai_bootstrap.pod.errors import PodConfigError

from .loopback import Pod


def test_one_gpu_runs_the_whole_pipeline(pod: Pod) -> None:
    found = pod.json("sky", "--preset", "gemma-270m-gpu", "--accelerator", "A40", "--out", "t.yaml")
    task = yaml.safe_load((pod.home / "t.yaml").read_text())
    assert found["path"] == "t.yaml"
    assert task["resources"]["accelerators"] == "A40:1"
    assert task["num_nodes"] == 1
    assert "cai run --preset gemma-270m-gpu" in task["run"]
    assert "cai prepare --preset gemma-270m-gpu" in task["setup"]
    assert "training.processes" not in task["run"]


def test_several_gpus_of_one_machine_are_asked_for_and_trained_on(tmp_path: Path) -> None:
    skypilot.write_task(tmp_path / "t.yaml", preset="qwen2.5-32b-a100", gpus=4, accelerator="A100-80GB", cloud="aws")
    task = yaml.safe_load((tmp_path / "t.yaml").read_text())
    assert task["resources"] == {"accelerators": "A100-80GB:4", "disk_size": 256, "infra": "aws"}
    assert "cai run --preset qwen2.5-32b-a100 --base-dir ~/cai-work --set training.processes=4\n" in task["run"]


def test_the_settings_that_the_task_names_are_settings_of_a_run() -> None:
    from cai_bootstrap.config import resolve

    assert resolve({"training.processes": 4}, preset="qwen2.5-32b-a100").config.training.processes == 4


def test_the_task_holds_no_secret_and_only_fields_that_skypilot_knows(tmp_path: Path) -> None:
    skypilot.write_task(tmp_path / "t.yaml", preset="p", gpus=1, accelerator="A40", cloud=None)
    task = yaml.safe_load((tmp_path / "t.yaml").read_text())
    assert set(task) == {"name", "workdir", "num_nodes", "resources", "setup", "run"}


def test_a_preset_name_cannot_slip_commands_in(tmp_path: Path) -> None:
    skypilot.write_task(tmp_path / "t.yaml", preset="x; rm -rf /", gpus=1, accelerator="A40", cloud=None)
    task = yaml.safe_load((tmp_path / "t.yaml").read_text())
    assert "'x; rm -rf /'" in task["run"]
    assert task["name"] == "cai-x--rm--rf--"


def test_skypilots_own_parser_is_asked_and_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Task:
        @classmethod
        def from_yaml(cls, path: str) -> "Task":
            asked.append(path)
            if "bad" in path:
                raise ValueError("unknown accelerator")
            return cls()

    module = types.ModuleType("sky")
    module.Task = Task  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sky", module)
    assert skypilot.validate(tmp_path / "good.yaml")
    assert asked == [str(tmp_path / "good.yaml")]
    with pytest.raises(PodConfigError, match="unknown accelerator"):
        skypilot.validate(tmp_path / "bad.yaml")


def test_without_skypilot_the_file_is_called_not_validated(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sky", None)
    assert "not validated" in pod.cai("sky", "--preset", "p", "--out", "t.yaml").stdout


@pytest.mark.parametrize("gpus", [1, 4])
def test_skypilot_takes_the_task_where_it_is_installed(tmp_path: Path, gpus: int) -> None:
    path = tmp_path / "t.yaml"
    skypilot.write_task(path, preset="qwen2.5-32b-a100", gpus=gpus, accelerator="A100-80GB", cloud="runpod")
    installed = importlib.util.find_spec("sky") is not None
    assert skypilot.validate(path) is installed
