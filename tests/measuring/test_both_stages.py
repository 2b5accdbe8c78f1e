"""A results file of either stage is judged by its own stage's rules, and one given for the other is named as such."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measured import results_with
from principled import TRAINED, plain, results

from cai_bootstrap.cli import run_command
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.ledger import note_opening, openings
from cai_bootstrap.measuring.principles.results import read_principle_results, write_principle_results
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.measuring.stages import stage_of_file
from cai_bootstrap.measuring.stored import StoredPrinciples, read_stored, stored_of
from cai_bootstrap.run.folder import CONSTITUTION, INSTRUCTIONS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cai(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> tuple[int, str, str]:
        code = run_command([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results files of one constitution: a model that keeps everything, one that keeps nothing, and a baseline."""
    folder = tmp_path_factory.mktemp("files")
    whole = {
        "held": results(),
        "lost": results(trained=plain),
        "baseline": results(trained=None, control=None),
    }
    for name, content in whole.items():
        write_principle_results(folder / f"{name}.json", content)
    return {name: folder / f"{name}.json" for name in whole}


@pytest.fixture
def stage1(small_suite: Suite, tmp_path: Path) -> Path:
    path = tmp_path / "stage1.json"
    path.write_text(json.dumps(results_with(small_suite, trained_failures=0)))
    return path


def test_the_gate_holds_a_constitution_by_exit_code(cai: Run, files: dict[str, Path]) -> None:
    code, out, _ = cai("gate", files["held"])
    assert code == 0
    assert "Constitution held: 3 of 3 judged principles held" in out
    assert "thanks: 100.0% of 60" in out
    code, out, err = cai("gate", files["lost"])
    assert code == 3
    assert "Constitution FAILED" in err
    assert "Constitution held" not in out


def test_the_gate_tells_machines_the_same(cai: Run, files: dict[str, Path]) -> None:
    for name, code, verdict, passed in (("held", 0, "held", True), ("lost", 3, "not_held", False)):
        found = cai("gate", files[name], "--json")
        assert found[0] == code
        said = json.loads(found[1])
        assert (said["verdict"], said["passed"], len(said["lines"])) == (verdict, passed, 3)


def test_the_gate_lets_no_baseline_of_a_constitution_pass(cai: Run, files: dict[str, Path]) -> None:
    code, _, err = cai("gate", files["baseline"])
    assert code == 4
    assert "a baseline: it holds no trained model that could be judged" in err


def test_the_gate_refuses_a_constitution_file_that_was_edited(cai: Run, files: dict[str, Path], tmp_path: Path) -> None:
    content = json.loads(files["lost"].read_text())
    content["items"][0]["trained"]["holds"]["thanks"] = True
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(content))
    assert cai("gate", edited)[0] == 4


def test_a_flag_of_the_other_stage_is_refused_by_name(
    cai: Run, files: dict[str, Path], stage1: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "suite.jsonl"
    for command in (("gate", files["held"]), ("compare", files["held"], files["lost"])):
        code, _, err = cai(*command, "--suite", suite)
        assert code == 2
        assert "--suite" in err
    code, _, err = cai("gate", stage1, "--constitution", tmp_path / "mine.yaml")
    assert code == 2
    assert "--constitution" in err


def test_the_gate_refuses_results_of_another_constitution(cai: Run, files: dict[str, Path]) -> None:
    from cai_bootstrap.shipped import shipped

    other = shipped("examples/constitutions/careful.yaml")
    code, _, err = cai("gate", files["held"], "--constitution", other)
    assert code == 4
    assert "constitution." in err


def test_two_files_of_a_constitution_are_compared_principle_by_principle(cai: Run, files: dict[str, Path]) -> None:
    code, out, _ = cai("compare", files["lost"], files["held"])
    assert code == 0
    assert "thanks: 0 → 60 of 60" in out
    assert "better" in out
    said = json.loads(cai("compare", files["lost"], files["held"], "--json", "--side", "control")[1])
    assert (said["arm_a"], said["arm_b"]) == ("control", "control")
    code, _, err = cai("compare", files["lost"], files["held"], "--side", "trained_bare")
    assert code == 4
    assert "holds no arm trained_bare; it holds base, rival, trained, control" in err


def test_files_of_two_stages_are_not_compared(cai: Run, files: dict[str, Path], stage1: Path) -> None:
    for pair in ((stage1, files["held"]), (files["held"], stage1)):
        code, _, err = cai("compare", *pair)
        assert code == 4
        assert "compare two files of one stage" in err


def test_prompts_that_differ_are_shown_and_not_compared(cai: Run, files: dict[str, Path], tmp_path: Path) -> None:
    from dataclasses import replace

    import principled

    from cai_bootstrap.measuring.principles.results import build_principle_results

    over = principled.prompts(test=30)
    fewer = build_principle_results(
        constitution=principled.constitution(), prompts=over, conditions=principled.conditions(over),
        asked=replace(principled.asked_of(over)), judges=principled.judges(),
    )  # fmt: skip
    path = tmp_path / "fewer.json"
    write_principle_results(path, fewer)
    code, out, _ = cai("compare", files["held"], path)
    assert code == 4
    assert "prompts.asked_sha256" in out


def test_each_reader_names_the_stage_of_a_file_that_is_not_its_own(files: dict[str, Path], stage1: Path) -> None:
    with pytest.raises(UntrustedResultError, match="is a results file of the constitution stage, and Stage 1's is"):
        read_results(files["held"])
    with pytest.raises(UntrustedResultError, match="is a results file of Stage 1, and the constitution stage's is"):
        read_principle_results(stage1)


def test_the_stage_is_told_from_the_content(files: dict[str, Path], stage1: Path, tmp_path: Path) -> None:
    torn = tmp_path / "constitution_evaluation_20260101T000000Z.json"
    torn.write_text("{")
    assert stage_of_file(files["held"]) is CONSTITUTION
    assert stage_of_file(stage1) is INSTRUCTIONS
    assert stage_of_file(torn) is INSTRUCTIONS


def test_what_a_file_says_of_its_origin_is_read_for_both_stages(files: dict[str, Path], stage1: Path) -> None:
    said = read_stored(files["held"], "evaluate again")
    assert isinstance(said, StoredPrinciples)
    assert said.adapter == TRAINED
    declared = json.loads(stage1.read_text())["models"]["trained"]["factors"]["adapter"]
    assert read_stored(stage1, "evaluate again").adapter == declared
    broken = json.loads(files["held"].read_text()) | {"arms": 3}
    with pytest.raises(ValueError, match="arms"):
        stored_of(broken)


def test_the_opening_of_another_machines_prompts_is_noted_once(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    raw: dict[str, Any] = json.loads(files["held"].read_text())
    sha256 = raw["prompts"]["sha256"]
    assert note_opening(stored_of(raw)) == 1
    assert note_opening(read_principle_results(files["held"])) is None
    assert [(entry.what, entry.adapter) for entry in openings(sha256)] == [
        ("evaluation", raw["run"]["adapter"]["sha256"])
    ]


def test_an_older_file_of_a_constitution_is_judged_again_and_names_what_changed(
    cai: Run, files: dict[str, Path], tmp_path: Path
) -> None:
    from cai_bootstrap.measuring.principles.results import derived

    whole = read_principle_results(files["held"])
    first = whole.items[0]
    assert first.trained is not None
    spoilt = first.trained.model_copy(update={"holds": {**first.trained.holds, "thanks": False}})
    items = [first.model_copy(update={"trained": spoilt}), *whole.items[1:]]
    older = derived(whole, whole.conditions.model_copy(update={"scorer_version": "6"}), items, 0.8, True)
    path, out = tmp_path / "older.json", tmp_path / "newer.json"
    write_principle_results(path, older)
    assert cai("gate", path)[0] == 4
    code, said, err = cai("rescore", path, "--out", out, "--json")
    assert code == 0, err
    block = json.loads(said)
    assert block["changed"]["trained"] == [
        {"prompt": first.id, "principle": "thanks", "scored": "first line", "before": False}
    ]
    assert block["rates"]["trained"]["thanks"] == {"before": 59, "after": 60, "total": 60}
    again = read_principle_results(out)
    assert again.principles == whole.principles
    assert again.rescored is not None
    assert read_stored(out, "").rescored_from == again.rescored.source_sha256
    assert cai("gate", out)[0] == 0
    code, _, err = cai("rescore", files["held"])
    assert code == 4
    assert "only results of an older version" in err
