"""Bad input: a clear error, the right exit code, nothing half-written. Constitutions are in test_contract_c3.py, models
in inference/, results files in test_contract_c2.py, adapters in test_contract_c3.py."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_run import fake_step_command
from stubs import Cai, Stage, bytes_of, config_of

from cai_bootstrap import pipeline
from cai_bootstrap.batches import ChunkHashes
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.run import folder
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.steps.run import run_step


@pytest.mark.parametrize("count", ["0", "-1", "-1000"])
@pytest.mark.parametrize("command", ["run", "generate"])
def test_a_count_below_one_is_2(tmp_path: Path, cai: Cai, command: str, count: str) -> None:
    code, _, err = cai(command, "--base-dir", tmp_path / "b", "--count", count)
    assert code == 2
    assert "generation.count" in err
    assert "greater than or equal to 1" in err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("count", ["0", "-1"])
def test_instructions_of_a_count_below_one_is_2(tmp_path: Path, cai: Cai, count: str) -> None:
    assert cai("instructions", "--count", count, "--out", tmp_path / "i.jsonl")[0] == 2
    assert not (tmp_path / "i.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--timeout", "train"), "expected STEP=SECONDS"),
        (("--timeout", "train=soon"), "expected STEP=SECONDS"),
        (("--timeout", "trian=5"), "did you mean 'timeouts.train'?"),
        (("--timeout", "train=0"), "timeouts.train"),
        (("--set", "training.epochs"), "expected KEY=VALUE"),
        (("--set", "training.epochs=[1"), "--set training.epochs = '[1': not a YAML value"),
        (("--set", "seed=2024-13-45"), "--set seed = '2024-13-45': not a YAML value"),
        (("--set", "training.epoch=2"), "did you mean 'training.epochs'?"),
        (("--preset", "quick"), "did you mean 'quick-test'?"),
        (("--config", "absent.yaml"), "no such configuration file"),
        (("--select", "oracle"), "unknown judge 'oracle'"),
        (("--suite", "absent.jsonl"), "neither a named suite"),
        (("--precision", "fp64"), "precision"),
        (("--method", "ppo"), "training.method"),
        (("--nonsense",), "No such option"),
    ],
)
def test_wrong_usage_is_2_says_what_is_accepted_and_makes_nothing(
    tmp_path: Path, cai: Cai, arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = cai("run", "--base-dir", tmp_path / "b", *arguments)
    assert code == 2
    assert said in err
    assert not (tmp_path / "b").exists()


def test_a_base_directory_that_is_a_file_is_2(tmp_path: Path, cai: Cai) -> None:
    (tmp_path / "b").write_text("a file")
    code, _, err = cai("run", "--base-dir", tmp_path / "b")
    assert code == 2
    assert f"{tmp_path / 'b'}: cannot be used as a working folder" in err
    assert "choose another with --base-dir" in err
    assert (tmp_path / "b").read_text() == "a file"


def test_a_base_directory_below_a_file_is_2(tmp_path: Path, cai: Cai) -> None:
    (tmp_path / "f").write_text("a file")
    code, _, err = cai("generate", "--base-dir", tmp_path / "f" / "b")
    assert (code, "cannot be used as a working folder" in err) == (2, True)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Any]:
    """Mount a small tmpfs with options, where this machine lets tests mount; else the test fakes the error itself."""
    places: list[Path] = []

    def mount(name: str, options: str) -> Path | None:
        place = tmp_path / name
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode != 0:
            return None
        places.append(place)
        return place

    if shutil.which("mount") is None:
        yield lambda *_: None
    else:
        yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_base_directory_is_2(
    tmp_path: Path, cai: Cai, mounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = mounted("ro", "ro,size=1m")
    if place is None:
        place = tmp_path / "ro"

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    code, _, err = cai("run", "--base-dir", place)
    assert code == 2
    assert "Read-only file system" in err
    assert "choose another with --base-dir" in err


def _fill(place: Path) -> None:
    """Take what is left, byte by byte if need be."""
    with contextlib.suppress(OSError), (place / "rest").open("wb", buffering=0) as rest:
        while rest.write(b"0" * 512):
            pass


def test_a_full_base_directory_is_2(tmp_path: Path, cai: Cai, mounted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = mounted("full", "size=64k")
    if place is None:
        place = tmp_path / "full"

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    else:
        with pytest.raises(OSError, match="No space left"):
            (place / "fill").write_bytes(b"0" * 100_000)
        _fill(place)
    code, _, err = cai("run", "--base-dir", place)
    assert code == 2
    assert "No space left on device; free some space" in err


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_disk_that_fills_up_during_a_run_is_told_without_a_traceback(
    tmp_path: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The n-th event cannot be written any more, nor any after it."""
    from cai_bootstrap.events import Event, EventLog

    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    written: list[str] = []
    emit = EventLog.emit

    def full(self: EventLog, event: Event) -> None:
        if len(written) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        written.append(event.event)
        emit(self, event)

    monkeypatch.setattr(EventLog, "emit", full)
    code, out, err = cai("run", "--base-dir", tmp_path / "b")
    assert code == 1
    assert "No space left on device; free some space or mend it, and start again" in err
    assert "Traceback" not in out + err
    assert json.loads((tmp_path / "b/results/run.json").read_text())["verdict"] == "error"


@pytest.mark.parametrize("name", ["responses.jsonl", "critiques.jsonl", "revisions.jsonl", "judgements.jsonl"])
def test_a_torn_last_line_is_cut_off_made_again_and_said(stage: Stage, name: str) -> None:
    """As a kill leaves it: the last batch was being written, and the step has not ended."""
    run_step("generate", stage.context(config_of()))
    whole = bytes_of(stage.workspace.data)
    path = stage.workspace.data / name
    path.write_bytes(path.read_bytes()[:-20])
    hashes = ChunkHashes(path.parent)
    hashes.write(name, (hashes.of(name) or [])[:-1])
    stage.workspace.marker("generate").unlink()
    run_step("generate", stage.context(config_of()))
    assert bytes_of(stage.workspace.data) == whole
    assert any(f"{name}: the last line was torn" in message for message in stage.said)


@pytest.mark.parametrize("name", ["responses.jsonl", "preference_pairs.jsonl"])
def test_what_a_finished_step_wrote_is_refused_when_it_is_cut(stage: Stage, name: str) -> None:
    run_step("generate", stage.context(config_of()))
    path = stage.workspace.data / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UntrustedResultError, match=f"{name}: was changed after the step 'generate' ended"):
        run_step("generate", stage.context(config_of()))


@pytest.mark.parametrize("name", ["instructions.jsonl", "preference_pairs.jsonl"])
def test_files_that_are_written_whole_are_made_again_when_they_are_gone(stage: Stage, name: str) -> None:
    run_step("generate", stage.context(config_of()))
    whole = bytes_of(stage.workspace.data)
    (stage.workspace.data / name).unlink()
    assert run_step("generate", stage.context(config_of())) is True
    assert bytes_of(stage.workspace.data) == whole


def test_a_partial_assessment_with_a_torn_line_goes_on(stage: Stage) -> None:
    """The kill came while a batch of the baseline was written."""
    from stubs import KilledError, StubEngine

    config = config_of(evaluation__suite="quick", evaluation__elicit_items=4)
    run_step("baseline", stage.context(config))
    whole = json.loads((stage.workspace.results / "baseline_assessment.json").read_text())
    shutil.rmtree(stage.workspace.base)
    stage.workspace.create()
    stage.make_engine = lambda: StubEngine(batch_size=1, die_after=8 + 30)
    slow = config_of(evaluation__suite="quick", evaluation__elicit_items=4)
    with pytest.raises(KilledError):
        run_step("baseline", stage.context(slow))
    torn = next(stage.workspace.results.rglob("base.jsonl"))
    torn.write_bytes(torn.read_bytes()[:-5])
    engine = StubEngine(batch_size=1)
    stage.make_engine = lambda: engine
    run_step("baseline", stage.context(slow))
    again = json.loads((stage.workspace.results / "baseline_assessment.json").read_text())
    assert again["items"] == whole["items"]
    assert any("the last line was torn" in message for message in stage.said)


def test_a_users_suite_with_a_wrong_line_is_named_before_anything_runs(tmp_path: Path, cai: Cai) -> None:
    suite = tmp_path / "own.jsonl"
    suite.write_text('{"id": "a"}\n')
    code, _, err = cai("run", "--base-dir", tmp_path / "b", "--suite", suite)
    assert code == 2
    assert f"{suite}: line 1" in err
    assert not (tmp_path / "b").exists()


def test_training_without_pairs_says_which_command_makes_them(stage: Stage) -> None:
    from cai_bootstrap.errors import DataError

    with pytest.raises(DataError, match="run `cai generate` first"):
        run_step("train", stage.context(config_of()))


def test_a_working_folder_that_cannot_be_made_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UsageError, match="results: cannot be used"):
        RunFolder.at(tmp_path / "b", results=tmp_path / "results").create()


def test_a_users_suite_of_dev_items_is_refused_before_anything_runs(
    tmp_path: Path, cai: Cai, tiny_suites: tuple[Path, Path]
) -> None:
    code, _, err = cai("run", "--base-dir", tmp_path / "b", "--suite", tiny_suites[1])
    assert code == 2
    assert "holds dev items, which the gate does not judge" in err
    assert not (tmp_path / "b").exists()
