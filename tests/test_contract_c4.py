"""CONTRACT C4, comfort: folders as arguments, reusing data. 11 is in training/, 13 in generation/."""

import json
from pathlib import Path
from typing import Any

import pytest
from own_scorers import SHOUTS, row, suite_file
from stubs import Cai, Stage, bytes_of, config_of, rows_of

from cai_bootstrap import pipeline
from cai_bootstrap.errors import UsageError
from cai_bootstrap.measuring.declared import Reuse
from cai_bootstrap.steps import data
from cai_bootstrap.steps.data import check_data, data_identity
from cai_bootstrap.steps.run import run_step


def identity_of(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stage.workspace.data / "data_identity.json").read_text())
    return found


# 10. Paths are arguments of every command


def test_c4_10_every_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cai: Cai) -> None:
    from fake_run import fake_step_command

    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    places = [tmp_path / name for name in ("base", "data", "adapters", "results")]
    flags = ("--base-dir", "--data-dir", "--checkpoint-dir", "--results-dir")
    given = [word for pair in zip(flags, places, strict=True) for word in pair]
    code, _, _ = cai("generate", *given)
    assert code == 0
    assert all(place.is_dir() for place in places)
    assert not (tmp_path / "base/data").exists()


def test_c4_10_a_relative_folder_is_taken_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap.run.folder import RunFolder

    monkeypatch.chdir(tmp_path)
    assert RunFolder.at("b", data="d").data == tmp_path / "d"


# 12. Reusing data


def test_c4_12_the_same_settings_reuse_the_data(stage: Stage) -> None:
    assert run_step("generate", stage.context(config_of())) is True
    before = bytes_of(stage.workspace.data)
    assert run_step("generate", stage.context(config_of())) is False
    assert bytes_of(stage.workspace.data) == before
    assert stage.said == []


def test_c4_12_another_count_warns_with_both_numbers_and_is_recorded(stage: Stage) -> None:
    run_step("generate", stage.context(config_of(generation__count=24)))
    before = bytes_of(stage.workspace.data)
    context = stage.context(config_of(generation__count=100))
    assert run_step("generate", context) is False
    assert any("reusing data made from 24 instructions, 100 were asked for" in message for message in stage.said)
    assert check_data(context) == Reuse(requested=100, found=24)
    assert bytes_of(stage.workspace.data) == before


def test_c4_12_the_count_is_not_part_of_the_datas_fingerprint(stage: Stage) -> None:
    first = data_identity(stage.context(config_of(generation__count=24)))
    assert first == data_identity(stage.context(config_of(generation__count=25)))


@pytest.mark.usefixtures("nothing_trusted")
@pytest.mark.parametrize("key", ["evaluation__dev_suite", "evaluation__suite"])
def test_c4_12_a_mended_scorer_makes_no_other_data(stage: Stage, tmp_path: Path, key: str) -> None:
    def identity(source: str, instruction: str = "Shout about hats.") -> dict[str, object]:
        path = suite_file(tmp_path / "own", source, row(instruction=instruction, gold=["HATS!"]))
        return data_identity(stage.context(config_of(**{key: str(path)})))

    assert identity(SHOUTS) == identity(SHOUTS + "# mended\n")
    assert identity(SHOUTS) != identity(SHOUTS, "Shout about the hats.")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"precision": "bf16"}, "precision"),
        ({"generation__max_new_tokens": 9}, "settings"),
        ({"constitution": "OWN"}, "constitution"),
        ({"evaluation__suite": "quick"}, "held_out"),
        ({"model": "WEIGHTS"}, "model"),
        ({"prompt_version": "x"}, "prompt_version"),
    ],
)
@pytest.mark.parametrize("step", ["generate", "train", "evaluate"])
def test_c4_12_data_of_another_identity_are_refused_by_name(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str, step: Any
) -> None:
    run_step("generate", stage.context(config_of()))
    before = bytes_of(stage.workspace.data)
    if "constitution" in change:
        own = tmp_path / "own.yaml"
        own.write_text("principles:\n  - {id: a, text: Be brief., category: s}\n")
        change = {"constitution": own}
    if "model" in change:
        change = {}
        stage.weights = "f" * 64
    if "prompt_version" in change:
        change = {}
        monkeypatch.setattr(data, "PROMPT_VERSION", "stage1-other")
    with pytest.raises(UsageError, match=f"made with another .*{named}") as caught:
        run_step(step, stage.context(config_of(**change)))
    assert "--force-data" in str(caught.value)
    assert caught.value.exit_code == 2
    assert bytes_of(stage.workspace.data) == before


def test_c4_12_force_data_makes_them_anew(stage: Stage) -> None:
    run_step("generate", stage.context(config_of()))
    before = identity_of(stage)
    assert run_step("generate", stage.context(config_of(seed=1, force_data=True))) is True
    assert identity_of(stage)["identity"] != before["identity"]
    assert run_step("generate", stage.context(config_of(seed=1))) is False


def test_c4_12_force_data_with_another_count_makes_that_many(stage: Stage) -> None:
    run_step("generate", stage.context(config_of(generation__count=24)))
    assert run_step("generate", stage.context(config_of(generation__count=12, force_data=True))) is True
    assert len(rows_of(stage.workspace.data / "instructions.jsonl")) == 12
    assert identity_of(stage)["requested"] == 12


def test_c4_12_force_data_also_makes_finished_data_of_the_same_identity_anew(stage: Stage) -> None:
    run_step("generate", stage.context(config_of()))
    good = bytes_of(stage.workspace.data)
    spoiled = stage.workspace.data / "responses.jsonl"
    spoiled.write_bytes(spoiled.read_bytes().replace(b"sun", b"SUN"))
    assert run_step("generate", stage.context(config_of(force_data=True))) is True
    assert bytes_of(stage.workspace.data) == good


def test_c4_12_a_forced_generation_that_was_killed_goes_on(stage: Stage) -> None:
    from stubs import KilledError, StubEngine

    run_step("generate", stage.context(config_of(seed=1)))
    stage.make_engine = lambda: StubEngine(die_after=40)
    with pytest.raises(KilledError):
        run_step("generate", stage.context(config_of(force_data=True)))
    done = (stage.workspace.data / "responses.jsonl").stat().st_size
    assert done > 0
    engine = StubEngine()
    stage.make_engine = lambda: engine
    run_step("generate", stage.context(config_of(force_data=True)))
    fresh = StubEngine()
    stage.make_engine = lambda: fresh
    run_step("generate", stage.context(config_of(force_data=True)))
    assert len(engine.prompts) < len(fresh.prompts)


def test_c4_12_an_unfinished_generation_of_another_count_is_refused(stage: Stage) -> None:
    from stubs import KilledError, StubEngine

    stage.make_engine = lambda: StubEngine(die_after=40)
    with pytest.raises(KilledError):
        run_step("generate", stage.context(config_of(generation__count=24)))
    with pytest.raises(UsageError, match="unfinished generation of 24 instructions, 30 are asked for"):
        run_step("generate", stage.context(config_of(generation__count=30)))


def test_c4_12_data_in_a_folder_of_their_own_are_reused_without_this_runs_markers(stage: Stage) -> None:
    """Another base directory with the same --data-dir knows nothing of the step, and must not make the data again."""
    run_step("generate", stage.context(config_of(generation__count=24)))
    before = bytes_of(stage.workspace.data)
    (stage.workspace.logs / "steps/generate.json").unlink()
    assert run_step("generate", stage.context(config_of(generation__count=60))) is True
    assert bytes_of(stage.workspace.data) == before
    assert identity_of(stage)["requested"] == 24
