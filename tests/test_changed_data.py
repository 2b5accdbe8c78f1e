"""Data that were changed between steps are never used in silence (C2.8, C5)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stubs import Cai, KilledError, Stage, StubEngine, bytes_of, config_of, instructions_of, run_generator

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import check_outputs, read_outputs
from cai_bootstrap.steps.run import run_step
from cai_bootstrap.training.checkpoints import (
    find_checkpoint,
    mark_complete,
    mark_success,
    newest_complete,
    prune,
    read_success,
)

DATA = (
    "instructions.jsonl", "responses.jsonl", "critiques.jsonl", "revisions.jsonl", "proposals.jsonl",
    "judgements.jsonl", "preference_pairs.jsonl", "rejected_pairs.jsonl", "generation_summary.json", "diversity.json",
)  # fmt: skip
PASSES = ("responses.jsonl", "critiques.jsonl", "revisions.jsonl", "proposals.jsonl", "judgements.jsonl")


def letter(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b'"', len(content) // 2) - 1
    path.write_bytes(content[:at] + (b"x" if content[at : at + 1] != b"x" else b"y") + content[at + 1 :])


def line_gone(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def last_line_gone(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def line_twice(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines]))


def space(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b": ", b":  ", 1))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


HARMS = (letter, line_gone, last_line_gone, line_twice, space, emptied)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", PASSES)
def test_a_changed_file_of_an_unfinished_generation_is_refused(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    folder = tmp_path / "data"
    run_generator(folder, StubEngine(), instructions_of(12))
    for made in ("preference_pairs.jsonl", "rejected_pairs.jsonl"):
        (folder / made).unlink()
    harm(folder / name)
    with pytest.raises(UntrustedResultError, match=rf"{name}: batch \d.* was changed .*--force-data"):
        run_generator(folder, StubEngine(), instructions_of(12))


def test_a_batch_that_was_changed_in_a_half_finished_pass_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with pytest.raises(KilledError):
        run_generator(folder, StubEngine(die_after=40), instructions_of(12))
    letter(folder / "responses.jsonl")
    with pytest.raises(UntrustedResultError, match="was changed or cut off"):
        run_generator(folder, StubEngine(), instructions_of(12))


def test_a_pass_whose_file_was_deleted_is_made_again_with_what_was_made_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    run_generator(folder, StubEngine(), instructions_of(12))
    before = bytes_of(folder)
    (folder / "critiques.jsonl").unlink()
    said: list[str] = []
    engine = StubEngine()
    run_generator(folder, engine, instructions_of(12), say=said.append)
    assert bytes_of(folder) == before
    assert any("critiques.jsonl: is gone; it is made again, and what was made from it" in line for line in said)
    assert engine.prompts


def test_a_file_of_an_earlier_version_without_hashes_is_read_with_a_notice(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    run_generator(folder, StubEngine(), instructions_of(12))
    before = bytes_of(folder)
    (folder / "chunks.json").unlink()
    said: list[str] = []
    engine = StubEngine()
    run_generator(folder, engine, instructions_of(12), say=said.append)
    assert (engine.prompts, bytes_of(folder)) == ([], before)
    assert any("no hashes were recorded" in line for line in said)


@pytest.mark.parametrize("harm", [letter, last_line_gone])
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("step", ["generate", "train", "evaluate"])
def test_data_changed_after_generation_are_refused_by_every_step_that_reads_them(
    stage: Stage, name: str, step: Any, harm: Callable[[Path], None]
) -> None:
    run_step("generate", stage.context(config_of()))
    harm(stage.workspace.data / name)
    with pytest.raises(UntrustedResultError, match=rf"{name}: was changed after the step 'generate' ended") as caught:
        run_step(step, stage.context(config_of()))
    assert "--force-data" in str(caught.value)
    assert caught.value.exit_code == 4


def test_force_data_makes_changed_data_of_an_unfinished_generation_anew(stage: Stage) -> None:
    run_step("generate", stage.context(config_of()))
    whole = bytes_of(stage.workspace.data)
    (stage.workspace.data / "generation_summary.json").unlink()
    letter(stage.workspace.data / "responses.jsonl")
    run_step("generate", stage.context(config_of(force_data=True)))
    assert bytes_of(stage.workspace.data) == whole


@pytest.mark.parametrize("content", ["[]", "{}", '{"fingerprint": 1}', '{"files": 3}', "nonsense", "IDENTITY"])
@pytest.mark.parametrize("name", ["data_identity.json", "chunks.json", "generation_plan.json"])
def test_force_data_helps_where_the_datas_own_records_are_broken(stage: Stage, name: str, content: str) -> None:
    stage.make_engine = lambda: StubEngine(die_after=40)
    with pytest.raises(KilledError):
        run_step("generate", stage.context(config_of()))
    stage.make_engine = StubEngine
    path = stage.workspace.data / name
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1') if content == "IDENTITY" else content)
    run_step("generate", stage.context(config_of(force_data=True)))
    assert run_step("generate", stage.context(config_of())) is False


def test_data_of_ones_own_in_another_folder_are_no_changed_data(stage: Stage, tmp_path: Path) -> None:
    from dataclasses import replace

    from cai_bootstrap.steps.inputs import check_inputs

    run_step("generate", stage.context(config_of()))
    letter(stage.workspace.data / "preference_pairs.jsonl")
    elsewhere = replace(stage.workspace, data=tmp_path / "own")
    check_inputs("train", replace(stage.context(config_of()), workspace=elsewhere))


def test_another_data_folder_is_not_taken_for_finished(stage: Stage, tmp_path: Path) -> None:
    from dataclasses import replace

    run_step("generate", stage.context(config_of()))
    elsewhere = replace(stage.workspace, data=tmp_path / "own")
    assert run_step("generate", replace(stage.context(config_of()), workspace=elsewhere)) is True
    assert bytes_of(tmp_path / "own") == bytes_of(stage.workspace.data)


def by_path(marker: dict[str, Any]) -> dict[str, str]:
    """The outputs as markers listed them before they had names."""
    return {output["path"]: output["sha256"] for output in marker["outputs"].values()}


def test_a_marker_whose_outputs_have_no_names_is_read_by_their_files(stage: Stage) -> None:
    run_step("generate", stage.context(config_of()))
    path = stage.workspace.logs / "steps/generate.json"
    marker = json.loads(path.read_text())
    path.write_text(json.dumps({**marker, "outputs": by_path(marker)}))
    outputs = read_outputs(stage.workspace, "generate")
    assert outputs is not None
    assert outputs.path("pairs") == stage.workspace.data / "preference_pairs.jsonl"
    assert outputs.changed() == outputs.missing() == []
    assert run_step("generate", stage.context(config_of())) is False


MARKERS: list[Callable[[dict[str, Any]], Any]] = [
    lambda _: [],
    lambda m: {**m, "outputs": {}},
    lambda m: {**m, "outputs": []},
    lambda m: {**m, "outputs": {**m["outputs"], "more": {"path": "/etc/passwd", "sha256": "0" * 64}}},
    lambda m: {**m, "outputs": {**m["outputs"], "more": {"path": "data/stage1/../../../x", "sha256": "0" * 64}}},
    lambda m: {**m, "outputs": {**m["outputs"], "pairs": m["outputs"]["instructions"]}},
    lambda m: {**m, "outputs": {**m["outputs"], "pairs": {**m["outputs"]["pairs"], "sha256": "short"}}},
    lambda m: {**m, "outputs": {**m["outputs"], "pairs": "0" * 64}},
    lambda m: {**m, "outputs": {"/etc/passwd": "0" * 64, **by_path(m)}},
    lambda m: {**m, "outputs": {**by_path(m), "data/stage1/../../../x": "0" * 64}},
    lambda m: {**m, "outputs": dict.fromkeys(by_path(m), 1)},
    lambda m: {**m, "outputs": dict.fromkeys(by_path(m), "short")},
    lambda m: {**m, "outputs": dict(list(by_path(m).items())[:1])},
    lambda m: {**m, "outputs": dict(list(m["outputs"].items())[:1])},
    lambda m: {**m, "fingerprint": None},
    lambda m: {**m, "finished_at": 3},
    lambda m: {**m, "step": "train"},
    lambda m: {"fingerprint": m["fingerprint"]},
]


@pytest.mark.parametrize("edit", MARKERS)
def test_a_marker_that_was_edited_is_refused_by_readers_and_its_step_done_again(
    stage: Stage, edit: Callable[[dict[str, Any]], Any]
) -> None:
    run_step("generate", stage.context(config_of()))
    path = stage.workspace.logs / "steps/generate.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(UntrustedResultError, match=r"generate\.json: .*run `cai generate` again"):
        check_outputs(stage.workspace, "generate", "x")
    assert run_step("generate", stage.context(config_of())) is True
    assert any("the step is done again" in message for message in stage.said)
    assert read_outputs(stage.workspace, "generate") is not None


def test_a_changed_baseline_is_measured_again_with_a_notice(stage: Stage) -> None:
    context = stage.context(config_of(evaluation__suite="quick", evaluation__elicit_items=4))
    run_step("baseline", context)
    path = stage.workspace.results / "baseline_assessment.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "rival": {**good["rival"], "rendering": "bare"}}))
    assert run_step("baseline", context) is True
    assert json.loads(path.read_text())["rival"] == good["rival"]
    assert any("baseline_assessment.json: was changed after the step 'baseline'" in message for message in stage.said)


def test_an_answer_changed_in_a_half_finished_measurement_is_asked_again(stage: Stage) -> None:
    context = stage.context(config_of(evaluation__suite="quick", evaluation__elicit=False))
    stage.make_engine = lambda: StubEngine(batch_size=1, die_after=28)
    with pytest.raises(KilledError):
        run_step("baseline", context)
    partial = next(stage.workspace.results.glob("partial/baseline-*/base.jsonl"))
    letter(partial)
    stage.make_engine = lambda: StubEngine(batch_size=1)
    run_step("baseline", context)
    edited = json.loads((stage.workspace.results / "baseline_assessment.json").read_text())
    assert any("was changed or cut off after it was made; it is made again" in message for message in stage.said)
    (stage.workspace.results / "baseline_assessment.json").unlink()
    run_step("baseline", context)
    again = json.loads((stage.workspace.results / "baseline_assessment.json").read_text())
    assert edited["items"] == again["items"]


def evaluated_stage(stage: Stage) -> Path:
    """An evaluation on stub engines; its results file."""
    from test_contract_c2 import evaluated

    evaluated(stage)
    return next(stage.workspace.results.glob("stage1_evaluation_*.json"))


def test_a_results_file_of_another_run_is_named_by_gate_compare_and_report(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cai: Cai
) -> None:
    from cai_bootstrap.measuring.origin import foreign
    from cai_bootstrap.report.files import load

    own = evaluated_stage(stage)
    assert foreign(own) is None
    other = Stage(RunFolder.at(tmp_path / "other").create(), weights="f" * 64).install(monkeypatch)
    theirs = evaluated_stage(other)
    results = json.loads(theirs.read_text())
    for side in ("trained", "trained_bare"):
        results["models"][side]["factors"]["adapter"] = "9" * 64
    results["run"]["adapter"]["sha256"] = "9" * 64
    copied = own.with_name("stage1_evaluation_20990101T000000Z.json")
    copied.write_text(json.dumps(results))
    for command in (("gate", copied), ("compare", copied, copied)):
        assert f"{copied}: this file is of another run" in cai(*command)[2]
    assert list(map(str, load(stage.workspace).faults)) == [str(foreign(copied, stage.workspace))]
    copied.unlink()
    own.write_bytes(theirs.read_bytes())
    assert "this file is of another run: its run is" in str(foreign(own))
    assert "of another run" in " ".join(map(str, load(stage.workspace).faults))


def test_an_earlier_evaluation_of_this_run_stays_its_own(stage: Stage) -> None:
    from cai_bootstrap.measuring.origin import foreign

    first = evaluated_stage(stage)
    renamed = first.with_name("stage1_evaluation_20200101T000000Z.json")
    first.rename(renamed)
    assert foreign(renamed) is None  # its adapter lies here
    run_step("evaluate", stage.context(config_of(evaluation__suite="quick", evaluation__elicit_items=4)))
    assert foreign(renamed) is None


def test_the_report_shows_no_counts_of_changed_data(stage: Stage) -> None:
    from cai_bootstrap.report.files import load

    run_step("generate", stage.context(config_of()))
    assert load(stage.workspace).summary is not None
    letter(stage.workspace.data / "generation_summary.json")
    changed = load(stage.workspace)
    assert changed.summary is None
    assert any(
        "generation_summary.json: was changed after the step 'generate'" in str(fault) for fault in changed.faults
    )


def test_the_manifest_holds_the_hashes_of_summary_and_diversity(stage: Stage) -> None:
    from stubs import resolved_of

    from cai_bootstrap.run.provenance import manifest

    run_step("generate", stage.context(config_of()))
    files = manifest(resolved_of(), stage.workspace).files
    assert {"data/stage1/generation_summary.json", "data/stage1/diversity.json"} <= set(files)


SUCCESSES: list[Callable[[dict[str, Any]], Any]] = [
    lambda m: {**m, "files": {"adapter_config.json": m["files"]["adapter_config.json"]}},
    lambda m: {**m, "files": {"adapter_model.safetensors": m["files"]["adapter_model.safetensors"]}},
    lambda m: {**m, "files": {**m["files"], "adapter_model.safetensors": ""}},
    lambda m: {**m, "files": {**m["files"], "../x": "0" * 64}},
    lambda m: {**m, "files": dict.fromkeys(m["files"], None)},
    lambda m: {**m, "files": [*m["files"]]},
    lambda m: {**m, "final_loss": "low"},
    lambda m: {**m, "final_loss": True},
    lambda m: {**m, "epochs": -1.0},
    lambda m: {**m, "finished_at": "9999"},
    lambda m: {**m, "fingerprint": ["f"]},
    lambda m: {**m, "fingerprint": ""},
    lambda m: {**m, "watch": [{"strict_rate": "all"}]},
    lambda m: {**m, "pairs": "many"},
    lambda m: [m],
]


def marked(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    mark_success(folder, fingerprint="f", final_loss=1.0, epochs=1.0)
    return folder


@pytest.mark.parametrize("edit", SUCCESSES)
def test_a_success_marker_that_does_not_describe_its_adapter_is_invalid(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any]
) -> None:
    folder = marked(tmp_path / "f")
    marker = folder / "TRAINING_SUCCESS"
    marker.write_text(json.dumps(edit(json.loads(marker.read_text()))))
    with pytest.raises(UntrustedResultError, match="train again"):
        read_success(folder)
    assert find_checkpoint(tmp_path, "other") is None


@pytest.mark.parametrize("name", ["adapter_model.bin", "new_embeddings.safetensors", "tokenizer.json", "loader.py"])
def test_a_file_that_a_loader_would_read_must_be_listed(tmp_path: Path, name: str) -> None:
    folder = marked(tmp_path / "f")
    (folder / name).write_text("{}")
    with pytest.raises(UntrustedResultError, match=f"does not list {name}"):
        read_success(folder)


def checkpoint(folder: Path, step: int) -> Path:
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    for name in ("optimizer.pt", "adapter_model.safetensors", "trainer_state.json", "looks.json"):
        (place / name).write_bytes(f"{name} {step}".encode() * 20)
    mark_complete(place)
    return place


@pytest.mark.parametrize("name", ["optimizer.pt", "adapter_model.safetensors", "looks.json"])
def test_a_damaged_trainer_checkpoint_of_the_right_size_gives_way_to_the_sound_one_before(
    tmp_path: Path, name: str
) -> None:
    older, newer = checkpoint(tmp_path, 20), checkpoint(tmp_path, 40)
    path = newer / name
    path.write_bytes(b"\0" * path.stat().st_size)
    said: list[str] = []
    assert newest_complete(tmp_path, said.append) == older
    assert f"{name} is not what was saved; this checkpoint is not used, training goes on from checkpoint-20" in said[0]
    assert not newer.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {}}', '{"optimizer.pt": 260}', '{"files": {"x": 1}}'])
def test_without_a_sound_trainer_checkpoint_training_begins_anew_and_says_so(tmp_path: Path, content: str) -> None:
    (checkpoint(tmp_path, 20) / "COMPLETE").write_text(content)
    said: list[str] = []
    assert newest_complete(tmp_path, said.append) is None
    assert len(said) == 1
    assert "training begins anew" in said[0]


def test_older_trainer_checkpoints_are_removed_only_after_a_newer_one_is_whole(tmp_path: Path) -> None:
    for step in (20, 40, 60):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-80").mkdir()
    prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-40", "checkpoint-60", "checkpoint-80"]


def test_a_success_marker_that_was_edited_after_its_step_is_refused(stage: Stage) -> None:
    from cai_bootstrap.run.markers import write_marker

    folder = stage.workspace.checkpoints / "made"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    mark_success(folder, fingerprint="f", final_loss=1.0, epochs=1.0, details={"watch": [{"strict_rate": 0.1}]})
    write_marker(stage.workspace, "train", 1, fingerprint="f", outputs={"success": folder / "TRAINING_SUCCESS"})
    run_step("generate", stage.context(config_of()))
    success = folder / "TRAINING_SUCCESS"
    success.write_text(success.read_text().replace("0.1", "0.9"))
    for step in ("train", "evaluate"):
        with pytest.raises(UntrustedResultError, match="TRAINING_SUCCESS: was changed after the step 'train'"):
            run_step(step, stage.context(config_of()))
