"""The study of steering on stub engines whose cause is known: what it names is what moved them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from stubs import KilledError, Stage, StubEngine, config_of

from cai_bootstrap.ablation import adapters, steering
from cai_bootstrap.ablation.adapters import ARMS, Arm, Trained, study_pairs
from cai_bootstrap.ablation.cells import StudyAnswer, passes_needed
from cai_bootstrap.ablation.outcome import AblationTable, MeasuredSuite, Origin, Outcome
from cai_bootstrap.ablation.plan import Variation, VariationSet, load_set
from cai_bootstrap.ablation.run import _entry
from cai_bootstrap.ablation.show import print_tables
from cai_bootstrap.ablation.steering import study_questions
from cai_bootstrap.ablation.steering_report import SteeringReport, report_in
from cai_bootstrap.ablation.study import load_study
from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.records import PreferencePair, Prompt
from cai_bootstrap.run.folder import RunFolder

STUDY = load_study()
OBEYING = {p.id: p.with_phrase("It is a thing.") for p in STUDY.principles}
SMALL = {"instructions": 24, "held_out": 12, "adapters": False}


def shown_in(prompt: str) -> str | None:
    """Whose demonstrations stand in a prompt."""
    return next(
        (p.id for p in STUDY.principles if p.demonstrations[0].instruction in prompt.rsplit("\n\n", 1)[0]), None
    )


def written_in(prompt: str) -> str | None:
    """Which principle's text stands over the last case of a prompt."""
    return next((p.id for p in STUDY.principles if f"Principle: {p.text}\n" in prompt.rsplit("\n\n", 1)[-1]), None)


def steered(cause: Callable[[str], str | None]) -> Callable[[str, Sampling], Completion]:
    """An engine whose revisions (and direct answers) obey the principle that `cause` sees in the prompt."""

    def answer(prompt: str, _: Sampling) -> Completion:
        if prompt.endswith("Critique:"):
            return Completion(" Something is missing.", "stop", 4)
        text = OBEYING.get(cause(prompt) or "", "It is a thing.") if "\n\n" in prompt else "It is a thing."
        return Completion(f" {text}", "stop", 6)

    return answer


def measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: StubEngine, **options: Any
) -> tuple[SteeringReport, Outcome]:
    stage = Stage(RunFolder.at(tmp_path).create(), lambda: engine).install(monkeypatch)
    outcome = Outcome("constitution", "done")
    steering.steering(stage.context(config_of()), outcome, {**SMALL, **options}, tmp_path / "partial")
    report = report_in(outcome.figures)
    assert report is not None
    return report, outcome


def rates(outcome: Outcome) -> dict[str, float]:
    return {row.row: row.rate for row in outcome.rows()}


def test_a_model_that_copies_what_it_is_shown_is_steered_by_demonstrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, outcome = measure(tmp_path, monkeypatch, StubEngine(steered(shown_in)))
    assert report.steering.steered_by == "demonstrations"
    assert set(report.by_principle.values()) == {"demonstrations"}
    assert len(report.cells) == 36
    found = rates(outcome)
    assert [found[f"{text} text, own demonstrations"] for text in ("own", "other", "negated", "no")] == [1.0] * 4
    assert found["own text, neutral demonstrations"] == found["own text, another's demonstrations"] == 0.0
    assert found["the shown principle obeyed: own text, another's demonstrations"] == 1.0
    assert found["first answer"] == 0.0
    assert found["texts: first answer and a fixed phrase"] == found["texts: after a fixed wrong critique"] == 1.0
    shown = next(c for c in report.cells if (c.principle, c.text, c.demonstrations) == ("thanks", "own", "another's"))
    assert shown.obeys_shown is not None
    assert (shown.obeys.successes, shown.obeys_shown.row, shown.obeys_shown.successes) == (0, "asks-back obeyed", 24)
    assert shown.obeys.wilson[1] > 0


def test_a_model_that_reads_is_steered_by_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, outcome = measure(tmp_path, monkeypatch, StubEngine(steered(written_in)))
    assert report.steering.steered_by == "text"
    assert rates(outcome)["own text, neutral demonstrations"] == 1.0
    assert rates(outcome)["negated text, own demonstrations"] == 0.0


def test_a_model_that_changes_nothing_is_told_with_the_effect_that_would_have_been_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = measure(tmp_path, monkeypatch, StubEngine(steered(lambda _: None)))
    assert report.steering.steered_by == "neither"
    assert not report.steering.control.passed
    assert "points would have been found" in report.steering.sentence


def test_cells_that_share_a_prompt_are_asked_once_and_started_again_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StubEngine(steered(shown_in))
    first, _ = measure(tmp_path, monkeypatch, engine)
    assert len(passes_needed(STUDY)) == 25
    assert len(engine.prompts) == 24 * (1 + 2 * 25 + 2 * 3)  # first answers, cells, direct examples, wrong critiques
    again = StubEngine(steered(shown_in))
    assert measure(tmp_path, monkeypatch, again)[0] == first
    assert again.prompts == []


def test_a_killed_study_goes_on_and_gives_what_an_uninterrupted_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = measure(tmp_path / "whole", monkeypatch, StubEngine(steered(shown_in)))
    with pytest.raises(KilledError):
        measure(tmp_path / "killed", monkeypatch, StubEngine(steered(shown_in), die_after=24 * 20 + 5))
    rest = StubEngine(steered(shown_in))
    assert measure(tmp_path / "killed", monkeypatch, rest)[0] == whole
    assert len(rest.prompts) == 24 * (57 - 20)


def test_other_questions_are_other_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StubEngine(steered(shown_in))
    measure(tmp_path, monkeypatch, engine)
    count = len(engine.prompts)
    report, _ = measure(tmp_path, monkeypatch, engine, instructions=25)
    assert report.questions == 25
    assert len(engine.prompts) > count


def test_no_principle_stands_in_a_cell_without_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StubEngine(steered(shown_in))
    measure(tmp_path, monkeypatch, engine)
    revisions = [prompt for prompt in engine.prompts if prompt.endswith("Better answer:")]
    assert sum("Principle:" not in prompt for prompt in revisions) == 24 * 4  # three shown principles, and neutral
    negation = STUDY.principles[0].negation
    assert sum(f"Principle: {negation}\n" in prompt for prompt in revisions) == 24 * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 8}, "'resamples' is not known; known: adapters, held_out, instructions, study"),
        ({"instructions": 1}, "instructions: 1 of"),
        ({"instructions": 10**6}, "training questions; at least 2, at most all"),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        measure(tmp_path, monkeypatch, StubEngine(), **options)


def test_held_out_questions_share_no_wording_with_those_that_train() -> None:
    questions, held_out = study_questions(STUDY, 240, 200, seed=0)
    assert len(questions) == 240
    assert len(held_out) >= 20
    assert {q.wording for q in questions}.isdisjoint(q.wording for q in held_out)
    assert all(q.split == "train" for q in questions)
    assert all(q.split == "dev" for q in held_out)
    assert study_questions(STUDY, 240, 200, seed=0) == (questions, held_out)


def answers_of(*texts: str) -> list[StudyAnswer]:
    return [StudyAnswer(text=text, finished=text != "cut", tokens=3) for text in texts]


def test_a_pair_is_left_out_only_for_what_cannot_train() -> None:
    questions = [
        Prompt(id=f"q-{n}", text=f"What is {n}?", kind="question", split="train", wording="What is …?")
        for n in range(5)
    ]
    first = answers_of("a", "b", "c", "", "cut")
    pairs, dropped = study_pairs(questions, first, answers_of("a", "cut", "wrong", "x", "better"), Arm("arm"), "thanks")
    assert [(pair.prompt, pair.chosen, pair.rejected, pair.rejected_finished) for pair in pairs] == [
        ("What is 2?\n", "wrong", "c", True), ("What is 4?\n", "better", "cut", False),
    ]  # fmt: skip
    assert dropped == {"as the first answer": 1, "cut off": 1, "no first answer": 1}


class Trainings:
    """Stands in for `Trainer.train`: the adapter says what it was trained on, or collapses where it is told to."""

    def __init__(self, collapsing: str = "") -> None:
        self.collapsing, self.trained = collapsing, []  # type: ignore[var-annotated]

    def __call__(
        self, trainer: Any, arm: Arm, principle: str, first: Sequence[StudyAnswer], chosen: Sequence[StudyAnswer]
    ) -> Trained:
        pairs, dropped = study_pairs(trainer.questions, first, chosen, arm, principle)
        self.trained.append((principle, arm.name, len(pairs)))
        if arm.name == self.collapsing or not pairs:
            return Trained(len(pairs), dropped, left_out="it collapsed")
        said = pairs[0].chosen
        return Trained(
            len(pairs), dropped, 0.5, tuple(StudyAnswer(text=said, finished=True, tokens=4) for _ in trainer.held_out)
        )


def test_adapters_are_rated_by_first_line_and_one_that_collapsed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings = Trainings(collapsing="first answer and a fixed phrase")
    monkeypatch.setattr(adapters.Trainer, "train", lambda self, *args: trainings(self, *args))
    report, outcome = measure(tmp_path, monkeypatch, StubEngine(steered(shown_in)), adapters=True)
    assert [(principle, name) for principle, name, _ in trainings.trained] == [
        (principle.id, arm.name) for principle in STUDY.principles for arm in ARMS
    ]
    found = rates(outcome)
    assert found["adapter: own text, own demonstrations"] == found["adapter: direct examples, SFT alone"] == 1.0
    assert found["adapter: own text, another's demonstrations"] == found["base, asked plainly"] == 0.0
    assert "adapter: first answer and a fixed phrase" not in found
    arms = {(arm.principle, arm.arm): arm for arm in report.arms}
    other = arms["thanks", "own text, another's demonstrations"]
    assert other.obeys_other is not None
    assert (other.obeys_other.row, other.obeys_other.rate) == ("asks-back obeyed", 1.0)
    assert arms["thanks", "first answer and a fixed phrase"].left_out == "it collapsed"
    assert arms["thanks", "direct examples, SFT alone"].method == "sft"
    assert report.critique is not None
    assert report.critique.startswith("Of the held-out answers 100.0% obey after training on revisions, 100.0% on")
    assert "(not trained) on first answers with a fixed phrase" in report.critique
    print_tables(table_of(outcome))
    printed = capsys.readouterr().out
    assert "steered by: demonstrations" in printed
    assert report.steering.sentence in printed
    assert "it collapsed" in printed


def table_of(outcome: Outcome) -> AblationTable:
    variation = Variation(name="constitution", group="2", what="w", kind="constitution")
    origin = Origin(
        commit=None, version="1", scorer_version="7", model="stub", preset=None, seed=0, at_once=1, started="x"
    )
    return AblationTable(
        schema_version=1, set="s", suite=MeasuredSuite(name="dev", sha256="0" * 64, n=8), made=origin, finished="y",
        variations=[_entry("constitution", variation, outcome)], contrasts=[],
    )  # fmt: skip


def test_the_default_set_compares_rows_that_the_study_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.Trainer, "train", lambda self, *args: Trainings()(self, *args))
    _, outcome = measure(tmp_path, monkeypatch, StubEngine(steered(shown_in)), adapters=True)
    plan: VariationSet = load_set()
    places = [place for contrast in plan.contrasts for place in (contrast.before, contrast.after)]
    rows = {place.partition(":")[2] for place in places if place.startswith("constitution:")}
    assert rows
    assert rows <= set(outcome.verdicts)


def test_too_few_pairs_are_told_and_train_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(RunFolder.at(tmp_path).create()).install(monkeypatch)
    questions, held_out = study_questions(STUDY, 4, 2, seed=0)
    trainer = adapters.Trainer(stage.context(config_of(pairs__min_pairs=3)), questions, held_out, tmp_path / "p")
    first = answers_of("a", "b", "c", "d")
    trained = trainer.train(ARMS[0], "thanks", first, answers_of("a", "b", "e", "f"))
    assert trained == Trained(2, {"as the first answer": 2}, left_out="only 2 pairs, at least 3 are needed")


@pytest.mark.slow
def test_an_adapter_is_trained_asked_and_taken_as_it_is_the_second_time(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = config_of(
        model=str(tiny), training__max_steps=2, training__batch_size=2, training__lora_r=4, training__watch_every=0,
        evaluation__max_new_tokens=8, fast=False,
    )  # fmt: skip
    stage = Stage(RunFolder.at(tmp_path).create())
    questions, held_out = study_questions(STUDY, 6, 3, seed=0)
    trainer = adapters.Trainer(stage.context(config), questions, held_out, tmp_path / "partial")
    first, chosen = answers_of(*"abcdef"), answers_of(*(f"Thank you. {letter}" for letter in "abcdef"))
    trained = trainer.train(ARMS[0], "thanks", first, chosen)
    assert (trained.pairs, len(trained.answers), trained.left_out) == (6, 3, None)
    sft = trainer.train(Arm("by SFT", method="sft"), "thanks", first, chosen)
    assert sft.final_loss != trained.final_loss

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(adapters, "TrainingRun", never)
    assert trainer.train(ARMS[0], "thanks", first, chosen) == trained


def test_the_pairs_of_an_adapter_hold_no_answer_of_a_held_out_question() -> None:
    questions, held_out = study_questions(STUDY, 24, 12, seed=0)
    first, chosen = answers_of(*["a"] * 24), answers_of(*["b"] * 24)
    pairs: list[PreferencePair] = study_pairs(questions, first, chosen, ARMS[0], "thanks")[0]
    assert {pair.prompt.strip() for pair in pairs}.isdisjoint(q.text for q in held_out)
