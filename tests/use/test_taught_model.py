"""A model that was taught a constitution, in use: its own adapter, its rules, its card; never the control's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_constitution_stage import STEPS, THANKS, FakeTraining, Workbench, config
from tiny import make_model

from cai_bootstrap.cli import run_command
from cai_bootstrap.config import dump_yaml, resolve
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import read_json
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.measuring.ledger import openings
from cai_bootstrap.measuring.origin import foreign
from cai_bootstrap.measuring.principles.gate import judge_principle_file
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.stage_verdicts import results_file
from cai_bootstrap.run.folder import CONSTITUTION, SUCCESS, RunFolder
from cai_bootstrap.run.markers import control_markers, read_outputs
from cai_bootstrap.use import ask as asking
from cai_bootstrap.use.ask import Asker
from cai_bootstrap.use.export import export
from cai_bootstrap.use.hub import _must_be_export
from cai_bootstrap.use.run_settings import as_the_run, of_the_stage
from cai_bootstrap.use.trained import chosen_adapter, measured_principles

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    bench = Workbench(tmp_path / "base", monkeypatch)
    bench.stage.model_path = make_model(tmp_path / "stub")  # for its tokenizer, which an export takes along
    return bench


@pytest.fixture
def run(bench: Workbench) -> Workbench:
    """A whole run without what is measured beside."""
    bench.run(*STEPS, steering__beside=False)
    return bench


def prepared(bench: Workbench) -> PreparedModel:
    assert bench.stage.model_path is not None
    return PreparedModel("stub", bench.stage.model_path, "r1", "a" * 64, "b" * 64)


def own_and_control(bench: Workbench) -> tuple[Path, Path]:
    outputs = read_outputs(bench.workspace, "train")
    assert outputs is not None
    control = outputs.find("control-success")
    assert control is not None
    return outputs.path("success").parent, control.parent


def edited(path: Path, edit: Edit) -> Path:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_the_controls_adapter_is_never_the_one_to_use(run: Workbench) -> None:
    own, control = own_and_control(run)
    assert control_markers(run.workspace) == {control / SUCCESS}
    edited(control / SUCCESS, lambda marker: marker.update(finished_at="2999-01-01T00:00:00Z"))
    found = chosen_adapter(config(), run.workspace, prepared(run))
    assert found is not None
    assert found.path == own
    run.workspace.marker("train").unlink()  # what the success marker says of itself is left
    assert control_markers(run.workspace) == {control / SUCCESS}
    edited(control / SUCCESS, lambda marker: marker.pop("control"))
    assert control_markers(run.workspace) == set()


def test_a_success_marker_says_which_constitution_was_taught(run: Workbench) -> None:
    own, control = own_and_control(run)
    of_own, of_control = (read_json(path / SUCCESS) for path in (own, control))
    results = read_principle_results(results_file(run.workspace))
    assert of_own["constitution"] == {"name": results.constitution.name, "sha256": results.constitution.sha256}
    assert results.control is not None
    assert of_control["constitution"]["sha256"] == results.control.sha256
    assert (of_own["control"], of_control["control"]) == (False, True)


def test_stage_1s_adapter_is_used_unless_the_stage_is_said(run: Workbench) -> None:
    workspace = RunFolder.at(run.workspace.base)

    def folder_of(config: Any) -> RunFolder:
        return run.workspace if config.stage == CONSTITUTION.name else workspace

    def stage(**said: Any) -> str:
        return of_the_stage(resolve(said, environment={}), folder_of).config.stage

    assert stage() == "constitution"
    own, _ = own_and_control(run)
    FakeTraining(workspace.checkpoints / "one", "f" * 64, {}).run([type("Pair", (), {"principle_id": "x"})()])
    assert stage() == "instructions"
    assert stage(stage="constitution") == "constitution"
    assert stage(adapter=own) == "constitution"
    found = chosen_adapter(config(), workspace, prepared(run))
    assert found is not None
    assert found.path == workspace.checkpoints / "one"


def test_settings_are_those_of_the_newest_run_of_the_stage(run: Workbench) -> None:
    logs = run.workspace.logs
    (logs / "20260101T000000Z.config.yaml").write_text(dump_yaml(config(seed=5)))
    (logs / "20260102T000000Z.config.yaml").write_text(dump_yaml(resolve({"seed": 6}, environment={}).config))
    asked = resolve({"stage": "constitution"}, environment={})
    found = as_the_run(asked, run.workspace, say=print)
    assert (found.seed, found.constitution, found.evaluation.max_new_tokens) == (5, THANKS, 16)
    plain = resolve({}, environment={})
    assert as_the_run(plain, RunFolder.at(run.workspace.base), say=print).seed == 6


def test_a_results_file_with_an_adapter_of_elsewhere_is_no_measurement_of_this_run(run: Workbench) -> None:
    path = results_file(run.workspace)
    judge_principle_file(path)
    assert foreign(path) is None

    def of_elsewhere(arm: str, named: str) -> Edit:
        def edit(content: dict[str, Any]) -> None:
            content["arms"][arm]["factors"]["adapter"] = content["run"][named]["sha256"] = "9" * 64

        return edit

    whole = path.read_text()
    for arm, named in (("trained", "adapter"), ("control", "control_adapter")):
        edited(path, of_elsewhere(arm, named))
        with pytest.raises(UntrustedResultError, match=rf"arms\.{arm}\.factors\.adapter is 9999"):
            judge_principle_file(path)
        path.write_text(whole)
    copied = path.with_name("constitution_evaluation_20990101T000000Z.json")
    copied.write_text(whole)
    edited(copied, of_elsewhere("trained", "adapter"))
    assert "this file is of another run" in str(foreign(copied))


def test_trained_and_control_cannot_change_places(run: Workbench) -> None:
    path = results_file(run.workspace)

    def swap(content: dict[str, Any]) -> None:
        arms, of_run = content["arms"], content["run"]
        one, other = arms["trained"]["factors"], arms["control"]["factors"]
        one["adapter"], other["adapter"] = other["adapter"], one["adapter"]
        of_run["adapter"], of_run["control_adapter"] = of_run["control_adapter"], of_run["adapter"]

    edited(path, swap)
    with pytest.raises(UntrustedResultError, match=r"arms\.trained\.factors\.adapter is "):
        judge_principle_file(path)


def test_answers_are_judged_by_the_measured_principles_and_a_held_out_prompt_is_entered(
    run: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = opened_asker(run, monkeypatch)
    known = asker.recognise("What is a table made of?")
    assert known is not None
    assert "thanks" in known.source
    replies = {r.side: r for r in asker.ask("What is a table made of?", known, asker.sides, lambda *_: None)}
    assert replies["trained"].principles == {"thanks": True}
    assert replies["base"].principles == {"thanks": False}
    assert {reply.judged_by for reply in replies.values()} == {"first line"}
    results = read_principle_results(results_file(run.workspace))
    before = len(openings(results.prompts.sha256))
    held_out = asker.recognise(results.items[0].text)
    assert held_out is not None
    assert held_out.id == results.items[0].id
    opened = openings(results.prompts.sha256)
    assert len(opened) == before + 1
    assert opened[-1].what == "ask"


def opened_asker(bench: Workbench, monkeypatch: pytest.MonkeyPatch, **values: Any) -> Asker:
    from cai_bootstrap.steps import context

    monkeypatch.setattr(asking, "open_model", context.open_model)
    return Asker(config(**values), bench.workspace, prepared(bench), say=lambda _: None)


def test_the_best_prompting_is_asked_as_the_baseline_chose_it(run: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    asker = opened_asker(run, monkeypatch)
    results = read_principle_results(results_file(run.workspace))
    assert results.rival is not None
    if results.rival.name == "revision":
        assert "several completions" in asker.missing["prompted"]
    else:
        assert asker.prompted is not None
        assert asker.prompted.name == results.rival.name
        assert "What is a kite?" in asker.prompted.prompt("What is a kite?")
    other = opened_asker(run, monkeypatch, constitution=str(THANKS.parent / "careful.yaml"))
    assert other.prompted is None
    assert other.missing["prompted"]


def test_the_card_names_the_constitution_and_what_was_found(run: Workbench, tmp_path: Path) -> None:
    exported = export(config(), run.workspace, prepared(run), tmp_path / "out", merge=False, say=print)
    own, _ = own_and_control(run)
    results = read_principle_results(results_file(run.workspace))
    card = (exported.model / "README.md").read_text()
    assert exported.adapter_sha256 == read_json(own / SUCCESS)["files"]["adapter_model.safetensors"]
    assert f"the constitution {results.constitution.name} (sha256 `{results.constitution.sha256}`)" in card
    assert "- thanks: 100.0% of" in card
    assert "a copied phrase" in card
    assert results.control is not None
    assert results.control.sha256 in card
    assert "Held: 1 of 1 judged principles held" in card
    assert "share of answers that keep thanks" in card
    record = read_json(exported.model / "provenance.json")
    assert record["constitution"]["sha256"] == results.constitution.sha256
    assert record["results"]["file"] == results_file(run.workspace).name
    assert exported.dataset is not None
    pairs = (exported.dataset / "README.md").read_text()
    assert "thanks: " in pairs
    assert (exported.dataset / "preference_pairs.jsonl").read_bytes() == run.workspace.round_data(1).pairs.read_bytes()
    _must_be_export(exported.model, "model")
    _must_be_export(exported.dataset, "dataset")


def test_an_adapter_that_was_not_measured_is_said_to_be_so(bench: Workbench, tmp_path: Path) -> None:
    bench.run("prepare", "generate", "train")
    said: list[str] = []
    exported = export(config(), bench.workspace, prepared(bench), tmp_path / "out", merge=False, say=said.append)
    card = (exported.model / "README.md").read_text()
    assert exported.results_file is None
    assert "Not measured" in card
    assert "model-index" not in card
    assert "the constitution thanks (sha256" in card
    assert "cai evaluate --stage constitution" in said[0]


def test_a_card_says_which_adapter_training_went_on_from(bench: Workbench, tmp_path: Path) -> None:
    bench.run("prepare", "generate", "train")
    own, _ = own_and_control(bench)
    replayed = "e" * 64
    edited(
        own / SUCCESS,
        lambda marker: marker.update(
            started_from="d" * 64, replayed=7, pairs_sha256=[*marker["pairs_sha256"], replayed]
        ),
    )
    exported = export(config(), bench.workspace, prepared(bench), tmp_path / "out", merge=False, say=print)
    card = (exported.model / "README.md").read_text()
    assert f"Training went on from a Stage 1 adapter of the same base (sha256 of its weights `{'d' * 64}`)" in card
    assert "7 of the pairs are its own, replayed" in card
    assert exported.dataset is not None
    assert read_json(exported.model / "provenance.json")["started_from"] == "d" * 64


def test_a_false_results_file_makes_no_card(run: Workbench, tmp_path: Path) -> None:
    edited(results_file(run.workspace), lambda content: content["principles"]["thanks"].update(held=False))
    with pytest.raises(UntrustedResultError):
        export(config(), run.workspace, prepared(run), tmp_path / "out", merge=False, say=print)
    assert not (tmp_path / "out").exists()


def test_without_a_training_the_error_names_the_folder(bench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoints/constitution"):
        export(config(), bench.workspace, prepared(bench), tmp_path / "out", merge=False, say=print)


def test_another_bases_measurement_is_not_this_adapters(run: Workbench) -> None:
    own, _ = own_and_control(run)
    edited(own / SUCCESS, lambda marker: marker.update(base_weights_sha256="7" * 64))
    from cai_bootstrap.training.checkpoints import read_success

    with pytest.raises(UntrustedResultError, match="was trained on 7777"):
        measured_principles(run.workspace, read_success(own))


@pytest.fixture
def cai(run: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a `cai` command in the run's base directory, on stub engines; gives exit code, stdout and stderr."""
    from cai_bootstrap.inference import models
    from cai_bootstrap.steps import context

    def no_tokenizer(_: PreparedModel) -> None:
        return None

    monkeypatch.setattr(models, "prepare", context.prepare)  # type: ignore[attr-defined]
    monkeypatch.setattr(models, "load_tokenizer", no_tokenizer)
    monkeypatch.setattr(asking, "open_model", context.open_model)
    monkeypatch.setenv("CAI_BASE_DIR", str(run.workspace.base))
    monkeypatch.setenv("COLUMNS", "200")
    (run.workspace.logs / "20260101T000000Z.config.yaml").write_text(dump_yaml(config()))

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def test_the_commands_find_the_only_stage_that_was_trained(cai: Callable[..., Any], tmp_path: Path) -> None:
    code, out, err = cai("export", "--to", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["results_file"].startswith("constitution_evaluation_")
    code, out, err = cai("ask", "What is a table made of?")
    assert code == 0, err
    trained = out[out.index("trained:") :]
    assert trained.startswith(
        "trained: Thank you for asking! It is made of wood.\n    keeps thanks (judged by its first"
    )
    assert "does not keep thanks" in out
    assert "judged as asked (the constitution thanks: thanks)" in out
    (answered,) = json.loads(cai("ask", "What is a table made of?", "--json", "--side", "trained")[1])
    assert answered["answers"]["trained"]["principles"] == {"thanks": True}
    assert answered["answers"]["trained"]["verdict"] is None
    code, _, err = cai("export", "--to", tmp_path / "none", "--stage", "instructions")
    assert code == 2
    assert "checkpoints/stage1" in err


def test_the_pairs_of_constitution_and_control_are_checked_before_they_train(
    cai: Callable[..., Any], run: Workbench
) -> None:
    given = ("--stage", "constitution", "--constitution", THANKS, "--set", "generation.count=24")
    code, out, err = cai("pairs", "check", *given, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["checked"] == len(run.workspace.round_data(1).pairs.read_text().splitlines())
    assert said["control"]["checked"] == len(run.workspace.control_data.pairs.read_text().splitlines())
    code, out, _ = cai("pairs", "check", *given)
    assert code == 0
    assert "control:" in out
    code, _, err = cai("pairs", "check", "--control", "none")
    assert code == 2
    assert "--control is read with --stage constitution alone" in err
