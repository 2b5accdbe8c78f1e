"""The constitution stage as a whole, on stub engines and without a training: steps, files, verdict, resuming."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stubs import Stage, StubEngine, rows_of

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.errors import CaiError, DataError, UntrustedResultError, UsageError
from cai_bootstrap.files import sha256_file, write_jsonl
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.open import OpenedModel
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.stage_verdicts import judge_run, nothing_to_teach, results_file
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.shipped import shipped
from cai_bootstrap.steps.constitution import generate, inputs
from cai_bootstrap.steps.constitution import train as train_step
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.run import run_step
from cai_bootstrap.training.checkpoints import Checkpoint, mark_success

THANKS = shipped("examples/constitutions/thanks.yaml")
STEPS = ("prepare", "baseline", "generate", "train", "evaluate")


def untrained(prompt: str, _: Sampling) -> Completion:
    """The untrained base: it never thanks of itself, but revises as the principle's demonstrations show it."""
    last = prompt.rsplit("\n\n", 1)[-1]
    if last.endswith("Better answer:"):
        text = "Thank you for asking! It is made of wood." if "thanks" in last else "It is made of blue wood at noon."
        return Completion(text, "stop", 5)
    if last.endswith("Critique:"):
        return Completion("The answer lacks it.", "stop", 5)
    return Completion("It is made of wood.", "eos", 5)


def thanking(_: str, __: Sampling) -> Completion:
    return Completion("Thank you for asking! It is made of wood.", "eos", 5)


def colourful(_: str, __: Sampling) -> Completion:
    return Completion("It is made of blue wood at noon.", "eos", 5)


@dataclass
class FakeTraining:
    """In the place of a training: an adapter whose weights are the principles that its pairs were made by."""

    folder: Path
    fingerprint: str
    details: dict[str, Any]

    def run(self, pairs: Sequence[PreferencePair]) -> Checkpoint:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "adapter_config.json").write_text("{}")
        (self.folder / "adapter_model.safetensors").write_text(pairs[0].principle_id)
        details = {"pairs": len(pairs), "base_weights_sha256": "a" * 64, **self.details}
        return mark_success(self.folder, fingerprint=self.fingerprint, final_loss=0.1, epochs=1.0, details=details)


class Workbench:
    """The steps of one base directory, in this process."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = Stage(RunFolder.at(base, stage=CONSTITUTION).create())
        self.stage.install(monkeypatch)
        self.engines: list[StubEngine] = []

        def opened(*_: Any, adapter: Path | None = None, **__: Any) -> OpenedModel:
            engine = StubEngine(untrained)
            if adapter is not None:
                name = (adapter / "adapter_model.safetensors").read_text()
                engine = StubEngine(thanking if name == "thanks" else colourful, adapter=name, base=untrained)
            self.engines.append(engine)
            return OpenedModel(engine, False)

        def training(*_: Any, folder: Path, fingerprint: str, details: dict[str, Any], **__: Any) -> FakeTraining:
            return FakeTraining(folder, fingerprint, details)

        monkeypatch.setattr("cai_bootstrap.steps.context.open_model", opened)
        monkeypatch.setattr(generate, "open_model", opened)
        monkeypatch.setattr(train_step, "TrainingRun", training)
        monkeypatch.setattr(train_step, "load_tokenizer", lambda _: None)
        monkeypatch.setattr(train_step, "check_pairs", lambda pairs, *_, **__: Sound(list(pairs)))
        inputs._read.cache_clear()

    @property
    def workspace(self) -> RunFolder:
        return self.stage.workspace

    def context(self, **values: Any) -> StepContext:
        return self.stage.context(config(**values))

    def run(self, *steps: str, **values: Any) -> list[bool]:
        return [run_step(step, self.context(**values)) for step in steps or STEPS]  # type: ignore[arg-type]


@dataclass
class Sound:
    """A look at pairs that finds nothing."""

    sound: list[PreferencePair]

    @property
    def faults(self) -> dict[str, str]:
        return {}

    fault_counts = faults

    @property
    def figures(self) -> Any:
        from cai_bootstrap.run.counts import PairFigures

        return PairFigures(pairs=len(self.sound))


def config(**values: Any) -> RunConfig:
    small = {
        "stage": "constitution", "constitution": str(THANKS), "generation.count": 24, "generation.chunk": 8,
        "generation.batch_size": 4, "evaluation.batch_size": 4, "steering.dev_items": 4, "steering.test_items": 24,
        "evaluation.max_new_tokens": 16, "pairs.min_pairs": 2,
    }  # fmt: skip
    given = {name.replace("__", "."): value for name, value in values.items()}
    return resolve({**small, **given}, environment={}).config


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    return Workbench(tmp_path / "base", monkeypatch)


def test_a_constitution_goes_all_the_way_to_a_verdict(bench: Workbench) -> None:
    bench.run()

    path = results_file(bench.workspace)
    assert path.name.startswith("constitution_evaluation_")
    results = read_principle_results(path)
    thanks = results.principles["thanks"]
    assert (thanks.base.rate, thanks.trained and thanks.trained.rate) == (0.0, 1.0)
    assert thanks.control is not None
    assert thanks.control.rate == 0.0
    assert thanks.steers is True
    assert thanks.held is True
    assert thanks.kind == "phrase"
    assert results.rival is not None
    judged = judge_run(path, bench.workspace, config(), enforced=True)
    assert (judged.passed, judged.exit_code) == (True, 0)
    beside = results.beside
    assert beside.content is not None
    assert beside.perplexity is not None
    assert beside.line_break is not None
    assert beside.line_break["trained"]["thanks"].rate == 1.0
    assert beside.opposite is not None
    assert beside.opposite["trained"]["thanks"].rate == 1.0
    assert beside.openings is not None
    assert beside.openings["trained"][0].words == "thank you for"


def test_finished_steps_are_skipped_and_an_interrupted_evaluation_takes_the_baseline_over(bench: Workbench) -> None:
    bench.run("prepare", "baseline", "generate", "train")
    engines = len(bench.engines)
    assert bench.run("baseline", "generate", "train") == [False, False, False]
    bench.run("evaluate")
    asked = [prompt for engine in bench.engines[engines:] for prompt in engine.prompts]
    assert not [notice for notice in bench.stage.said if "measured again" in notice]
    assert asked
    assert bench.run("evaluate") == [False]


def test_data_of_another_constitution_prompts_or_seed_are_refused(bench: Workbench) -> None:
    bench.run("prepare", "generate")
    other = shipped("examples/constitutions/careful.yaml")
    for change in ({"constitution": str(other)}, {"seed": 1}, {"generation__count": 12}):
        with pytest.raises(UsageError, match="made with another"):
            bench.run("generate", **change)
    assert bench.run("generate", constitution=str(other), force_data=True) == [True]


def test_a_changed_pair_file_is_not_trained_on(bench: Workbench) -> None:
    bench.run("prepare", "generate")
    pairs = bench.workspace.round_data(1).pairs
    pairs.write_text(pairs.read_text().replace("Thank you", "Cheers"))
    with pytest.raises(UntrustedResultError, match="was changed"):
        bench.run("train")


def test_a_base_that_holds_every_principle_leaves_nothing_to_teach(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cai_bootstrap.steps.context.open_model", lambda *_, **__: OpenedModel(StubEngine(thanking), False)
    )
    bench.run("prepare", "baseline", steering__test_items=60)
    assert nothing_to_teach(bench.workspace)


def test_without_a_control_nothing_is_said_of_steering(bench: Workbench) -> None:
    bench.run(control="none", steering__beside=False)
    results = read_principle_results(results_file(bench.workspace))
    assert results.principles["thanks"].steers is None
    assert results.principles["thanks"].control is None
    assert not bench.workspace.control_data.path.exists()


def test_too_few_pairs_are_told_before_anything_trains(bench: Workbench, tmp_path: Path) -> None:
    bench.run("prepare", "baseline")
    with pytest.raises(CaiError, match=r"the constitution 'thanks' kept \d+ pairs of 24 prompts, at least 1000 are"):
        bench.run("generate", pairs__min_pairs=1000)
    with pytest.raises(CaiError, match="of 30 prompts"):  # what cannot train gives way to more, without --force-data
        bench.run("generate", pairs__min_pairs=1000, generation__count=30)
    control = tmp_path / "control.yaml"
    cases = [
        {
            "instruction": f"Sing of the {thing} in Latin.",
            "answer": "It is nice.",
            "critique": "No zebra.",
            "better": "A zebra.",
        }
        for thing in ("kite", "box")
    ]
    check = {"check": "contains", "words": ["zebra"]}
    zebra = {"id": "zebra", "category": "helpful", "text": "Zebras.", "check": check, "demonstrations": cases}
    control.write_text(json.dumps({"name": "control", "version": 2, "principles": [zebra]}), encoding="utf-8")
    with pytest.raises(CaiError, match=r"the control 'control' kept 0 pairs of 24 prompts.*--control none"):
        bench.run("generate", steering__select="all", control=str(control), force_data=True)


def test_a_control_that_shares_a_check_is_refused(bench: Workbench) -> None:
    with pytest.raises(UsageError, match="no control"):
        bench.run("generate", control=str(THANKS))


def test_two_stages_share_a_base_directory_without_a_path_in_common(bench: Workbench, tmp_path: Path) -> None:
    bench.run()
    stage1 = RunFolder.at(tmp_path / "base")
    own = [stage1.baseline, stage1.record, stage1.model, stage1.preflight, stage1.marker("train"), stage1.data]
    assert not [path for path in own if path.exists()]


def test_the_results_file_is_refused_after_an_answer_was_changed(bench: Workbench) -> None:
    bench.run(control="none", steering__beside=False, steering__dev_items=0)
    path = results_file(bench.workspace)
    content = json.loads(path.read_text())
    content["items"][0]["trained"]["response"] = "It is made of wood."
    path.write_text(json.dumps(content))
    with pytest.raises(UntrustedResultError):
        results_file(bench.workspace)
    with pytest.raises(UntrustedResultError):
        read_principle_results(path)


def stage1(base: Path, weights: str, pairs: int) -> RunFolder:
    """A Stage 1 run that left an adapter and pairs."""
    workspace = RunFolder.at(base).create()
    FakeTraining(workspace.adapter("d" * 64), "d" * 64, {"base_weights_sha256": weights}).run([pair_of(0)])
    write_jsonl(workspace.round_data(1).pairs, [pair_of(n) for n in range(pairs)])
    return workspace


def pair_of(number: int) -> PreferencePair:
    return PreferencePair(
        id=f"s{number}", instruction_id=f"i{number}", type="question", template="t", prompt=f"What is {number}?\n",
        chosen=f"It is {number}.", rejected="It is.", chosen_source="response", chosen_id="a", rejected_id="b",
        rejected_finished=True, principle_id="clear", label_source="constraint",
    )  # fmt: skip


def test_a_stage_1_adapter_is_gone_on_from_with_some_of_its_pairs(bench: Workbench, tmp_path: Path) -> None:
    start = stage1(tmp_path / "stage1", "a" * 64, pairs=40)
    bench.run("prepare", "generate", "train", start_from=str(start.base), control="none")
    marker = json.loads(next(bench.workspace.checkpoints.glob("*/TRAINING_SUCCESS")).read_text())
    own = len(bench.workspace.round_data(1).pairs.read_text().splitlines())
    assert marker["replayed"] == round(own * 0.3 / 0.7)
    assert marker["pairs"] == own + marker["replayed"]
    assert marker["started_from"] == sha256_file(start.adapter("d" * 64) / "adapter_model.safetensors")
    first = rows_of(bench.workspace.round_data(1).responses)[0]
    assert first["prompting"] == "plain"  # the trained model answers as it was taught to be asked


def test_an_adapter_of_another_base_or_none_is_refused(bench: Workbench, tmp_path: Path) -> None:
    other = stage1(tmp_path / "other", "b" * 64, pairs=4)
    with pytest.raises(UsageError, match="trained on another base"):
        bench.run("prepare", "generate", start_from=str(other.base))
    with pytest.raises(DataError, match="holds no finished Stage 1 training"):
        bench.run("generate", start_from=str(tmp_path / "nothing"))
    assert not list(bench.workspace.data.glob("*"))
