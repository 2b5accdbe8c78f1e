"""`cai doctor` names what would not work and why, fails only for what keeps all from working, and changes nothing."""

import json
from pathlib import Path

import pytest

from cai_bootstrap.cli import run_command
from cai_bootstrap.inference.devices import Gpu
from cai_bootstrap.use import doctor


def _findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    code = run_command(["doctor", "--json", *arguments])
    found = json.loads(capsys.readouterr().out)
    assert found["works"] is (code == 0)
    return code, {row["name"]: row for row in found["findings"]}


def test_a_sound_machine_works(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = _findings(capsys)
    assert code == 0
    assert found["transformers"]["status"] == "ok"
    assert {"python", "torch", "gpu", "memory", "base directory", "cache", "model cache"} <= set(found)


def test_every_dependency_has_a_tested_version() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    pinned = doctor.pins()
    extras = [line for name in ("demo", "dev") for line in project["optional-dependencies"][name]]
    import re

    names = {re.split(r"[\s<>=\[]", line, maxsplit=1)[0].lower().replace("_", "-") for line in
             [*project["dependencies"], *extras]}  # fmt: skip
    assert names - set(pinned) == set()


@pytest.mark.parametrize(
    ("installed", "status", "advice"),
    [
        ("5.23.9", "warning", "5.23.0 is the tested version"),
        ("4.0.0", "failure", "is needed"),
        (None, "failure", "pip"),
    ],
)
def test_a_library_that_is_not_the_tested_one_is_named(
    installed: str | None, status: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name != "transformers":
            return real(name)
        if installed is None:
            raise doctor.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(doctor, "version", version)
    code, found = _findings(capsys)
    assert found["transformers"]["status"] == status
    assert advice in found["transformers"]["advice"]
    assert code == (1 if status == "failure" else 0)


def test_an_optional_library_of_another_version_is_named_with_what_is_tested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: {"vllm": "0.99.0", "wandb": "0.31.2"}.get(name) or real(name))
    code, found = _findings(capsys)
    assert code == 0
    assert found["vllm"]["status"] == "warning"
    assert "--engine vllm is tested with 'vllm" in found["vllm"]["advice"]
    assert found["wandb"] == {"name": "wandb", "status": "ok", "found": "0.31.2", "advice": ""}


def test_a_base_directory_that_cannot_be_made_is_a_failure_and_nothing_is_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, found = _findings(capsys, "--base-dir", str(tmp_path / "file" / "below"))
    assert code == 1
    assert found["base directory"]["status"] == "failure"
    code, found = _findings(capsys, "--base-dir", str(tmp_path / "new" / "deep"))
    assert found["base directory"]["status"] == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_little_disk_and_memory_are_warnings_with_the_amount_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil
    from collections import namedtuple

    import psutil

    usage, memory = namedtuple("usage", "total used free"), namedtuple("memory", "total available")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(2 * doctor.GIB, doctor.GIB))
    code, found = _findings(capsys)
    assert code == 0
    assert found["memory"]["status"] == found["cache"]["status"] == "warning"
    assert "3 GiB" in found["cache"]["advice"]


def test_a_gpu_is_named_and_judged_and_a_torch_that_does_not_load_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "visible_gpus", lambda: ("2.13.0", [Gpu("Small", 24 * doctor.GIB)]))
    code, found = _findings(capsys)
    assert code == 0
    assert found["gpu"]["found"] == "Small, 24 GiB"
    assert "qwen2.5-32b-a100" in found["gpu"]["advice"]

    def broken() -> None:
        raise OSError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "visible_gpus", broken)
    code = run_command(["doctor"])
    shown = capsys.readouterr()
    assert code == 1
    assert "libcudart" in shown.out
    assert "torch" in shown.err


def test_without_the_embedded_model_the_quick_test_is_said_not_to_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(doctor, "EMBEDDED_PACKAGE", "no_such_package")
    _, found = _findings(capsys)
    assert found["model cache"]["status"] == "warning"
    assert "--quick-test does not work" in found["model cache"]["advice"]
