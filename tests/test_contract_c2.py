"""CONTRACT C2: the blockers that once cost GPU hours. 4 (time-outs) is in test_supervision.py."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import spoilt
from fake_run import fake_step_command
from own_scorers import SHOUTS, row, suite_file
from stubs import Cai, KilledError, Stage, StubEngine, config_of, resolved_of, results_for, scripted

from cai_bootstrap import pipeline
from cai_bootstrap.config import preset_names, resolve
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import write_json
from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.run.folder import RunFolder, resolve_base_dir, resolve_cache_dir
from cai_bootstrap.steps.run import run_step

Results = dict[str, Any]


@pytest.fixture(scope="module")
def quick() -> Results:
    """A consistent file of the quick subset, 4 of 24 failed."""
    return results_for(load_suite("quick"), 4)


def judged(cai: Cai, tmp_path: Path, content: Results | str) -> tuple[int, str]:
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    code, out, err = cai("gate", path)
    return code, out + err


# 1. The gate


def test_c2_1_the_threshold_is_exact(tmp_path: Path, cai: Cai) -> None:
    """520 items: 494 followed are exactly 95%, 493 are not."""
    suite = load_suite("stage1")
    total = len(suite.items)
    allowed = total - -(-95 * total // 100)
    code, said = judged(cai, tmp_path, results_for(suite, allowed))
    assert code == 0
    assert "Stage 1 passed" in said
    code, said = judged(cai, tmp_path, results_for(suite, allowed + 1))
    assert code == 3
    rate = 1000 * (total - allowed - 1) // total
    assert f"Stage 1 FAILED: {rate // 10}.{rate % 10}% of {total} held-out instructions followed, 95% needed" in said
    assert "passed" not in said


def test_c2_1_the_quick_subset_is_judged_and_named_and_never_passes_stage_1(
    tmp_path: Path, cai: Cai, quick: Results
) -> None:
    code, said = judged(cai, tmp_path, quick)
    assert code == 3
    assert "Stage 1 FAILED on the subset 'quick': 83.3% of 24" in said
    code, said = judged(cai, tmp_path, results_for(load_suite("quick"), 0))
    assert code == 0
    assert "threshold reached on the subset 'quick'" in said
    assert "passed" not in said.lower()


def test_c2_1_the_files_own_gate_block_is_ignored(tmp_path: Path, cai: Cai, quick: Results) -> None:
    claimed = copy.deepcopy(quick)
    claimed["gate"] = {"threshold": 0.5, "passed": True, "enforced": False, "reasons": []}
    assert judged(cai, tmp_path, claimed)[0] == 3
    good = results_for(load_suite("quick"), 0)
    good["gate"] = {"threshold": 0.95, "passed": False, "enforced": False, "reasons": ["edited"]}
    assert judged(cai, tmp_path, good)[0] == 0


@pytest.mark.parametrize(("edit", "named"), spoilt.SPOILT, ids=spoilt.IDS)
def test_c2_1_an_edited_file_is_4_and_the_disagreement_is_named(
    tmp_path: Path, cai: Cai, quick: Results, edit: Callable[[Results], None], named: str
) -> None:
    edited = copy.deepcopy(quick)
    edit(edited)
    code, said = judged(cai, tmp_path, edited)
    assert code == 4
    assert re.search(named, " ".join(said.split()))


def test_c2_1_a_missing_empty_or_torn_file_is_4(tmp_path: Path, cai: Cai, quick: Results) -> None:
    code, _, err = cai("gate", tmp_path / "absent.json")
    assert (code, "no such file" in err) == (4, True)
    text = json.dumps(quick)
    for content in ("", "   ", "null", "[]", "{}", text[: len(text) // 2], text[:-1]):
        assert judged(cai, tmp_path, content)[0] == 4, content[:20]


def test_c2_1_lowering_the_whole_file_consistently_is_still_judged_by_its_responses(
    tmp_path: Path, cai: Cai, quick: Results
) -> None:
    """A threshold or an enforcement in the file itself changes nothing."""
    edited = copy.deepcopy(quick)
    edited["gate"]["enforced"] = False
    edited["gate"]["threshold"] = 0.1
    assert judged(cai, tmp_path, edited)[0] == 3


def run_on(
    results: Results, base: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[pipeline.RunOutcome, dict[str, Any]]:
    """A run whose evaluation step leaves this results file."""
    path = base / "results" / "stage1_evaluation_x.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(results))
    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    monkeypatch.setenv("FAKE_EVALUATE", f"results:{path}")
    outcome = pipeline.run_pipeline(
        resolved_of(paths__base_dir=str(base), **settings), RunFolder.at(base), ("evaluate",)
    )
    return outcome, json.loads((base / "results/run.json").read_text())


def test_c2_1_a_run_below_the_threshold_fails_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Results
) -> None:
    outcome, told = run_on(quick, tmp_path / "b", monkeypatch)
    assert (outcome.exit_code, outcome.verdict) == (3, "failed")
    assert (told["exit_code"], told["verdict"]) == (3, "failed")
    assert "83.3% of 24" in told["message"]


def test_c2_1_a_run_that_does_not_enforce_tells_the_same_and_ends_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Results
) -> None:
    outcome, told = run_on(quick, tmp_path / "b", monkeypatch, evaluation__enforce_gate=False)
    assert (outcome.exit_code, outcome.verdict) == (0, "not_enforced")
    assert "not reached (the gate is not enforced in this run)" in told["message"]


@pytest.mark.parametrize(
    "edit", [spoilt.lower_rate, spoilt.raise_rate_and_successes, spoilt.drop_an_item_between, spoilt.empty_a_response]
)
@pytest.mark.parametrize("enforced", [True, False])
def test_c2_1_a_run_whose_results_were_changed_on_disk_ends_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: Results, edit: Callable[[Results], None], enforced: bool
) -> None:
    edited = copy.deepcopy(quick)
    edit(edited)
    outcome, told = run_on(edited, tmp_path / "b", monkeypatch, evaluation__enforce_gate=enforced)
    assert (outcome.exit_code, outcome.verdict) == (4, "error")
    assert told["verdict"] == "error"


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_c2_1_a_run_whose_results_are_torn_ends_with_4_and_says_so_in_run_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    base = tmp_path / "b"
    path = base / "results" / "stage1_evaluation_torn.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    monkeypatch.setenv("FAKE_EVALUATE", f"results:{path}")
    outcome = pipeline.run_pipeline(resolved_of(paths__base_dir=str(base)), RunFolder.at(base), ("evaluate",))
    assert outcome.exit_code == 4
    assert json.loads((base / "results/run.json").read_text())["verdict"] == "error"


def test_c2_1_a_perfect_subset_never_says_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, told = run_on(results_for(load_suite("quick"), 0), tmp_path / "b", monkeypatch)
    assert (outcome.exit_code, outcome.verdict) == (0, "not_enforced")
    assert "passed" not in json.dumps([told["verdict"], told["message"]])


def test_c2_1_the_quick_preset_reports_without_enforcing_unless_asked(cai: Cai) -> None:
    assert json.loads(cai("config", "show", "--quick-test", "--json")[1])["evaluation.enforce_gate"]["value"] is False
    asked = json.loads(cai("config", "show", "--quick-test", "--enforce-gate", "--json")[1])
    assert asked["evaluation.enforce_gate"] == {"value": True, "from": "command line"}


# 2. Paths


def test_c2_2_the_base_directory_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cai_bootstrap.run import folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folder, "POD_BASE", tmp_path / "absent" / "cai-constitution-bootstrap")
    assert resolve_base_dir() == tmp_path / "cai-work"
    (tmp_path / "workspace").mkdir()
    monkeypatch.setattr(folder, "POD_BASE", tmp_path / "workspace" / "cai-constitution-bootstrap")
    assert resolve_base_dir() == tmp_path / "workspace" / "cai-constitution-bootstrap"
    monkeypatch.setenv("CAI_BASE_DIR", str(tmp_path / "env"))
    assert resolve_base_dir() == tmp_path / "env"
    assert resolve_base_dir(tmp_path / "given") == tmp_path / "given"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["workspace"]
    assert list((tmp_path / "workspace").iterdir()) == []


def test_c2_2_models_go_to_the_cache_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cai_bootstrap.run import folder

    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "given"))
    assert resolve_cache_dir() == tmp_path / "given"
    monkeypatch.delenv("CAI_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(folder, "POD_CACHE", tmp_path / "absent" / ".cache")
    assert resolve_cache_dir() == tmp_path / "user" / "cai-bootstrap"
    monkeypatch.setattr(folder, "POD_CACHE", tmp_path / ".cache")
    assert tmp_path / ".cache" in resolve_cache_dir().parents


def test_c2_2_everything_a_run_writes_lies_under_the_base_directory(tmp_path: Path) -> None:
    made = RunFolder.at(tmp_path / "b")
    assert (made.data, made.checkpoints, made.results, made.logs) == (
        tmp_path / "b/data/stage1", tmp_path / "b/checkpoints/stage1", tmp_path / "b/results", tmp_path / "b/logs",
    )  # fmt: skip
    assert not (tmp_path / "b").exists()


# 3. One precision for both sides


def evaluated(stage: Stage, **settings: Any) -> Results:
    """Baseline, generation, a marked adapter, and the evaluation, all on stub engines; the results file."""
    from cai_bootstrap.steps import train
    from cai_bootstrap.training.checkpoints import mark_success

    config = config_of(evaluation__suite="quick", evaluation__elicit_items=4, **settings)
    context = stage.context(config)
    run_step("baseline", context)
    run_step("generate", context)
    folder = stage.workspace.checkpoints / "made"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    mark_success(
        folder, fingerprint=train.identity(context), final_loss=1.0, epochs=1.0,
        details={"leakage_checked": [context.suite.sha256], "base_weights_sha256": stage.weights},
    )  # fmt: skip
    run_step("evaluate", context)
    found: Results = json.loads(next(stage.workspace.results.glob("stage1_evaluation_*.json")).read_text())
    return found


def test_c2_3_base_and_trained_stand_under_one_recorded_set_of_conditions(stage: Stage) -> None:
    results = evaluated(stage)
    wanted = {"precision", "decoding", "batch_size", "suite_sha256", "scorer_version", "versions", "device", "engine"}
    assert wanted <= set(results["conditions"])
    assert results["models"]["base"]["factors"]["rendering"] == results["models"]["trained"]["factors"]["rendering"]
    assert results["models"]["base"]["factors"]["adapter"] is None
    assert results["models"]["trained"]["factors"]["adapter"]
    assert results["run"]["base_from_baseline"] is True


def test_c2_3_a_base_measured_under_other_conditions_is_measured_again(stage: Stage) -> None:
    """The baseline stands in batches of four; the evaluation runs in twos: its base side must be made in twos too."""
    evaluated(stage)
    baseline = (stage.workspace.results / "baseline_assessment.json").read_bytes()
    config = config_of(evaluation__suite="quick", evaluation__elicit_items=4)
    for path in stage.workspace.results.glob("stage1_evaluation_*.json"):
        path.unlink()
    (stage.workspace.logs / "steps/evaluate.json").unlink()
    stage.make_engine = lambda: StubEngine(batch_size=2, depends_on_batch=True)
    run_step("evaluate", stage.context(config))
    assert (stage.workspace.results / "baseline_assessment.json").read_bytes() == baseline
    results = json.loads(next(stage.workspace.results.glob("stage1_evaluation_*.json")).read_text())
    assert results["run"]["base_from_baseline"] is False
    assert results["conditions"]["batch_size"] == 2
    assert all(row["base"]["response"].endswith(" 2") for row in results["items"])
    assert any("the base is measured again: the baseline's conditions differ in batch_size" in m for m in stage.said)


@pytest.mark.usefixtures("nothing_trusted")
@pytest.mark.parametrize("raises_at", ["hat", "coat"])
def test_c2_3_a_mended_scorer_asks_the_model_nothing_again(stage: Stage, tmp_path: Path, raises_at: str) -> None:
    """It raised at an output of the suite's (hat) or at one of the dev suite's (coat), when the model had answered."""

    def measure(source: str) -> None:
        paths = {}
        for split, thing in (("test", "hat"), ("dev", "coat")):
            rows = [row(id=f"{thing}{n}", split=split, template=f"{thing}{n}", instruction=f"Shout about {thing} {n}.",
                        gold=[f"{thing.upper()} {n}!"]) for n in range(6)]  # fmt: skip
            paths[split] = suite_file(tmp_path / split, source, *rows)
        config = config_of(evaluation__suite=str(paths["test"]), evaluation__dev_suite=str(paths["dev"]))
        run_step("baseline", stage.context(config))

    def asked() -> set[str]:
        return {prompt for prompt in engine.prompts if "Shout about" in prompt}

    guard = f"    if '{raises_at} 3' in instruction and not output.isupper():\n        raise KeyError\n    return"
    engine = StubEngine()
    stage.make_engine = lambda: engine
    with pytest.raises(UsageError, match="raised KeyError"):
        measure(SHOUTS.replace("    return", guard))
    assert not (stage.workspace.results / "baseline_assessment.json").exists()
    before = asked()
    engine.prompts.clear()
    measure(SHOUTS)
    assert (stage.workspace.results / "baseline_assessment.json").exists()
    if raises_at == "hat":
        assert not asked()
    again = {
        prompt for prompt in asked() if "coat" in prompt
    }  # the suite is asked in the best rendering: perhaps twice
    assert not again & before


@dataclass
class OnCard(StubEngine):
    """Every answer names the card that it was made on."""

    card: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.answer = self._named

    def _named(self, prompt: str, sampling: Sampling) -> Completion:
        made = scripted(prompt, sampling)
        return replace(made, text=f"{made.text} {self.card}")

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, device=self.card)


def moved_to_another_card(stage: Stage, step: Literal["baseline", "evaluate"], done: int) -> Results:
    """The results of a step that was killed after `done` completions and went on on another card."""
    context = stage.context(config_of(evaluation__suite="quick", evaluation__elicit_items=4))
    stage.make_engine = lambda: OnCard(card="A100", batch_size=1, die_after=done)
    with pytest.raises(KilledError):
        run_step(step, context)
    assert list(stage.workspace.results.glob(f"partial/{step}-*/*.jsonl"))
    stage.make_engine = lambda: OnCard(card="H100", batch_size=1)
    run_step(step, context)
    assert not list((stage.workspace.results / "partial").iterdir())
    pattern = {"baseline": "baseline_assessment.json", "evaluate": "stage1_evaluation_*.json"}[step]
    found: Results = json.loads(next(stage.workspace.results.glob(pattern)).read_text())
    assert found["conditions"]["device"] == "H100"
    return found


def test_c2_3_a_baseline_that_goes_on_on_another_card_keeps_nothing_of_the_first(stage: Stage) -> None:
    results = moved_to_another_card(stage, "baseline", 8 + 24 + 10)
    assert all(row["base"]["response"].endswith(" H100") for row in results["items"])


def test_c2_3_an_evaluation_that_goes_on_on_another_card_keeps_nothing_of_the_first(stage: Stage) -> None:
    evaluated(stage)
    for path in stage.workspace.results.glob("stage1_evaluation_*.json"):
        path.unlink()
    (stage.workspace.logs / "steps/evaluate.json").unlink()
    results = moved_to_another_card(stage, "evaluate", 20)
    assert all(row["trained"]["response"].endswith(" H100") for row in results["items"])


def test_c2_3_a_baseline_that_goes_on_under_the_same_conditions_makes_nothing_twice(stage: Stage) -> None:
    context = stage.context(config_of(evaluation__suite="quick", evaluation__elicit=False))
    stage.make_engine = lambda: StubEngine(batch_size=1, die_after=8 + 20)
    with pytest.raises(KilledError):
        run_step("baseline", context)
    engine = StubEngine(batch_size=1)
    stage.make_engine = lambda: engine
    run_step("baseline", context)
    assert len(engine.prompts) == 8 + 24 - 16


def test_c2_3_comparing_other_conditions_is_refused_naming_each_difference(
    tmp_path: Path, cai: Cai, quick: Results
) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_json(first, quick)
    other = copy.deepcopy(quick)
    other["conditions"] |= {"precision": "int8", "batch_size": 64}
    write_json(second, other)
    code, out, err = cai("compare", first, second)
    assert code == 4
    assert "precision" in out + err
    assert "batch_size" in out + err
    assert cai("compare", first, first)[0] == 0


@pytest.mark.parametrize(
    ("preset", "precision"),
    [
        ("quick-test", "fp32"),
        ("gemma-270m-cpu", "fp32"),
        ("gemma-270m-gpu", "bf16"),
        ("gemma-270m-t4", "fp32"),
        ("qwen2.5-32b-a100", "int8"),
    ],
)
def test_c2_3_each_preset_names_its_precisions(preset: str, precision: str) -> None:
    assert preset in preset_names()
    config = resolve({}, preset=preset, environment={}).config
    assert (config.evaluation_precision, config.generation_precision) == (precision, precision)


def test_c2_3_out_of_memory_does_not_change_one_sides_batch(stage: Stage) -> None:
    from cai_bootstrap.errors import EngineError

    stage.make_engine = lambda: StubEngine(fits=2)
    with pytest.raises(EngineError, match=r"evaluation\.batch_size=2"):
        run_step("baseline", stage.context(config_of(evaluation__suite="quick", evaluation__elicit_items=4)))
    assert not (stage.workspace.results / "baseline_assessment.json").exists()


def test_c2_3_an_adapter_of_other_base_weights_is_refused(stage: Stage) -> None:
    evaluated(stage)
    (stage.workspace.logs / "steps/evaluate.json").unlink()
    marker = stage.workspace.checkpoints / "made/TRAINING_SUCCESS"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "base_weights_sha256": "9" * 64}))
    with pytest.raises(UntrustedResultError, match="trained on other base weights"):
        run_step("evaluate", stage.context(config_of(evaluation__suite="quick", evaluation__elicit_items=4)))


def test_c2_3_an_adapter_that_was_not_checked_against_this_suite_is_refused(stage: Stage) -> None:
    evaluated(stage)
    (stage.workspace.logs / "steps/evaluate.json").unlink()
    marker = stage.workspace.checkpoints / "made/TRAINING_SUCCESS"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "leakage_checked": []}))
    with pytest.raises(UntrustedResultError, match="not checked against the suite 'quick'"):
        run_step("evaluate", stage.context(config_of(evaluation__suite="quick", evaluation__elicit_items=4)))


# 5. Never 4-bit


@pytest.mark.parametrize("word", ["4bit", "4-bit", "int4", "nf4", "fp4", "q4", "4"])
def test_c2_5_four_bit_generation_is_an_error_that_says_why(tmp_path: Path, cai: Cai, word: str) -> None:
    for flag in (("--precision", word), ("--set", f"generation.precision={word}")):
        code, _, err = cai("generate", "--base-dir", tmp_path / "b", *flag)
        assert code == 2
        assert "4-bit is refused" in err
        assert "use int8, bf16, fp16 or fp32" in err
    assert not (tmp_path / "b").exists()


def test_c2_5_not_by_the_environment_or_a_file_either(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4-bit is refused"):
        resolve({}, environment={"CAI_PRECISION": "4bit"})
    path = tmp_path / "c.yaml"
    path.write_text("generation: {precision: nf4}\n")
    with pytest.raises(UsageError, match="4-bit is refused"):
        resolve({}, config_file=path, environment={})


def test_c2_4_a_model_that_has_gone_from_the_cache_is_prepared_again(tmp_path: Path, tiny: Path) -> None:
    from cai_bootstrap.events import EventLog, Progress
    from cai_bootstrap.steps.context import StepContext

    model = shutil.copytree(tiny, tmp_path / "model")
    workspace = RunFolder.at(tmp_path / "base").create()
    progress = Progress(EventLog(workspace.logs / "x.jsonl", "x"), "prepare")
    context = StepContext(config_of(model=str(model)), workspace, progress, lambda: False, "x")
    assert run_step("prepare", context)
    assert not run_step("prepare", context)
    model.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="model"):
        run_step("prepare", context)
