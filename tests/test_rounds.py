"""Which round is evaluated: the one that followed most of what it was watched on, which is never what is measured."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_run import fake_step_command
from stubs import Stage, config_of, resolved_of, results_for

from cai_bootstrap import pipeline
from cai_bootstrap.events import Event, Notice
from cai_bootstrap.generation.make_instructions import make_instructions
from cai_bootstrap.instructions.held_back import held_back
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import EvalItem
from cai_bootstrap.run.folder import DataFolder, RunFolder
from cai_bootstrap.steps.data import data_identity

STEPS = ("generate", "train", "evaluate")


def through(base: Path, looks: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str], list[str]]:
    """The evaluated round, the steps and the notices of a run whose trainings saw these rates, round by round."""
    results = base / "results" / "stage1_evaluation_x.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps(results_for(load_suite("quick"), 4)))
    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    monkeypatch.setenv("FAKE_TRAIN", f"looks:{looks}")
    monkeypatch.setenv("FAKE_EVALUATE", f"results:{results}")
    told: list[Event] = []
    config = resolved_of(paths__base_dir=str(base), training__rounds=rounds)
    outcome = pipeline.run_pipeline(config, RunFolder.at(base), STEPS, on_event=told.append)
    evaluated = json.loads((base / "logs/steps/evaluate.json").read_text())["round"]
    notices = [event.message for event in told if isinstance(event, Notice)]
    return evaluated, list(outcome.steps), notices


@pytest.mark.parametrize(
    ("looks", "rounds", "evaluated", "trained", "said"),
    [
        ("0.3/0.5/0.6", 3, 3, 3, None),
        ("0.5/0.4/0.9", 3, 1, 2, "round 2 gained -10.0% on dev; no more"),
        ("0.5/0.505/0.9", 3, 2, 2, "round 2 gained +0.5% on dev; no more"),
        ("0.95/0.99", 2, 1, 1, "round 2 is not needed: 95.0% on dev"),
        ("-/0.9", 2, 1, 1, "round 2 is left out: nobody looked at the model of round 1"),
        ("0.3/-/0.9", 3, 1, 2, "round 3 is left out: nobody looked at the model of round 2"),
    ],
)
def test_the_best_round_is_evaluated_and_an_unseen_one_is_never_chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: str,
    rounds: int,
    evaluated: int,
    trained: int,
    said: str | None,
) -> None:
    found, steps, notices = through(tmp_path / "b", looks, rounds, monkeypatch)
    assert found == evaluated
    assert sum(step.startswith("train") for step in steps) == trained
    assert [notice.startswith(said) for notice in notices] == [True] if said else not notices


def evaluated_alone(base: Path, rounds: int) -> int:
    config = resolved_of(paths__base_dir=str(base), training__rounds=rounds)
    pipeline.run_pipeline(config, RunFolder.at(base), ("evaluate",))
    found: int = json.loads((base / "logs/steps/evaluate.json").read_text())["round"]
    return found


def test_an_evaluation_of_its_own_takes_the_round_that_the_run_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "b"
    assert through(base, "0.3/0.5/0.6", 3, monkeypatch)[0] == 3
    assert evaluated_alone(base, 3) == 3
    assert evaluated_alone(base, 2) == 2
    # Round 1 was trained anew after rounds 2 and 3, which went on from another model.
    marker = base / "logs/steps/train.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "finished_at": "2999-01-01T00:00:00Z"}))
    assert evaluated_alone(base, 3) == 1


def test_training_alone_says_that_it_is_the_first_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    monkeypatch.setenv("FAKE_TRAIN", "looks:0.3")
    told: list[Event] = []
    config = resolved_of(paths__base_dir=str(tmp_path / "b"), training__rounds=3)
    pipeline.run_pipeline(config, RunFolder.at(tmp_path / "b"), ("train",), on_event=told.append)
    assert [event.message for event in told if isinstance(event, Notice)] == [
        "this is the first round; `cai run` goes on with those after it"
    ]


def texts(items: Sequence[EvalItem]) -> set[str]:
    return {item.instruction.strip() for item in items}


def test_where_dev_is_measured_rounds_are_chosen_on_instructions_that_no_round_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(RunFolder.at(tmp_path).create()).install(monkeypatch)
    config = config_of(evaluation__suite="stage1-dev")
    context = stage.context(config)
    assert not context.dev_items
    watched = context.watched_items
    assert len(watched) > 150
    assert not texts(watched) & (texts(load_suite("stage1-dev").items) | texts(load_suite("stage1").items))
    assert all(item.scorer in {"exact", "checks"} or item.args.get("in_context") for item in watched)
    assert context.held_back == {item.instruction for item in watched}
    # The same run on test is watched on dev, trains on the whole pool, and is another one by its data.
    on_test = stage.context(config_of())
    assert on_test.watched_items == list(load_suite("stage1-dev").items)
    assert not on_test.held_back
    assert "held_back" not in data_identity(on_test)
    assert data_identity(context)["held_back"]

    engine, index = stage.make_engine(), LeakageIndex([])
    for name, kept in (("all", frozenset[str]()), ("less", context.held_back)):
        (tmp_path / name).mkdir()
        config = config_of(generation__count=3000)
        drawn, _ = make_instructions(
            config, DataFolder(tmp_path / name), engine, index, context.progress, lambda: False, (), kept
        )  # fmt: skip
        assert len(drawn) == 3000
        assert bool({i.instruction for i in drawn} & context.held_back) is (name == "all")


def test_a_copy_of_the_dev_items_under_other_names_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = load_suite("stage1-dev").items
    own = tmp_path / "own.jsonl"
    renamed = [item.model_copy(update={"id": f"own-{n}"}) for n, item in enumerate(dev[:100])]
    own.write_text("".join(item.model_dump_json() + "\n" for item in renamed))
    stage = Stage(RunFolder.at(tmp_path / "b").create()).install(monkeypatch)
    context = stage.context(config_of(evaluation__suite=str(own)))
    assert context.dev_items == list(dev[100:])
    assert context.watched_items == context.dev_items


def test_what_is_held_back_is_the_same_for_every_run_and_even_over_the_types() -> None:
    kinds = [item.type for item in held_back()]
    assert [kinds.count(kind) for kind in ("question", "completion", "generation", "transformation")] == [52] * 4
    assert len(texts(held_back())) == 208
