"""The steps and the line break after the instruction: what is asked, what a fingerprint holds, what is found again."""

import json
from typing import Any

import pytest
from stubs import Stage, StubEngine, config_of
from test_contract_c2 import evaluated

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import fingerprint, sha256_file
from cai_bootstrap.steps import evaluate
from cai_bootstrap.steps.adapter import own_checkpoint, pairs_files, training_identity, unbare_hint
from cai_bootstrap.steps.measurement import measurement_identity
from cai_bootstrap.steps.run import run_step
from cai_bootstrap.training.checkpoints import mark_success


def quick(**settings: Any) -> RunConfig:
    return config_of(evaluation__suite="quick", evaluation__elicit_items=4, **settings)


def adapter_of(stage: Stage, config: RunConfig) -> str:
    """Data of a run, and a marked adapter that its training might have left; gives the fingerprint."""
    context = stage.context(config)
    run_step("generate", context)
    folder = stage.workspace.checkpoints / "earlier"
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    identity = training_identity(context)
    details = {"leakage_checked": [context.suite.sha256], "base_weights_sha256": stage.weights}
    mark_success(folder, fingerprint=identity, final_loss=1.0, epochs=1.0, details=details)
    return identity


def test_evaluation_asks_the_trained_model_with_and_without_the_line_break(stage: Stage) -> None:
    engine = StubEngine()
    stage.make_engine = lambda: engine
    results = evaluated(stage)
    instructions = [row["instruction"] for row in results["items"]]
    assert engine.prompts[-2 * len(instructions) :] == [*(f"{text}\n" for text in instructions), *instructions]
    assert all(row["trained_bare"] for row in results["items"])
    assert results["models"]["trained_bare"]["factors"] == {
        **results["models"]["trained"]["factors"], "rendering": "bare",
    }  # fmt: skip


def test_an_evaluation_that_shall_not_asks_once_only(stage: Stage) -> None:
    engine = StubEngine()
    stage.make_engine = lambda: engine
    results = evaluated(stage, evaluation__bare=False)
    assert "trained_bare" not in json.dumps(results)
    assert engine.prompts[-1].endswith("\n")


def test_the_quick_test_neither_trains_nor_measures_it() -> None:
    config = resolve({}, preset="quick-test", environment={}).config
    assert (config.training.bare_share, config.evaluation.bare) == (0.0, False)
    config = resolve({}, environment={}).config
    assert (config.training.bare_share, config.evaluation.bare) == (0.5, True)


def test_a_baseline_serves_whether_or_not_the_trained_model_is_asked_bare(stage: Stage) -> None:
    identities = {measurement_identity(stage.context(quick(evaluation__bare=bare))) for bare in (True, False)}
    assert len(identities) == 1
    adapter_of(stage, quick())
    assert evaluate.identity(stage.context(quick())) != evaluate.identity(stage.context(quick(evaluation__bare=False)))


def test_the_share_enters_a_trainings_fingerprint_where_it_is_not_0(stage: Stage) -> None:
    none = stage.context(quick(training__bare_share=0.0))
    run_step("generate", none)
    identities = {training_identity(stage.context(quick(training__bare_share=share))) for share in (0.0, 0.25, 0.5)}
    assert len(identities) == 3
    # As the fingerprint was made before there was such a share.
    left_out = {"watch_every", "watch_items", "save_every", "rounds", "min_gain", "processes", "bare_share"}
    config = none.config
    before = fingerprint(
        [
            *(sha256_file(path) for path in pairs_files(none)),
            config.training.model_dump(mode="json", exclude=left_out),
            config.training_precision, config.pairs.min_pairs, config.seed, none.model_key(),
        ]
    )  # fmt: skip
    assert training_identity(none) == before


def test_an_adapter_from_before_the_share_is_not_taken_for_one_that_was_trained_with_it(stage: Stage) -> None:
    before = adapter_of(stage, quick(training__bare_share=0.0))
    assert own_checkpoint(stage.context(quick(training__bare_share=0.0))).fingerprint == before
    with pytest.raises(DataError, match=r"no finished training of this run.*earlier was trained on the same pairs.*"
                       r"to use it: --set training\.bare_share=0$"):  # fmt: skip
        own_checkpoint(stage.context(quick()))


def test_no_hint_where_nothing_of_the_kind_is_there(stage: Stage) -> None:
    adapter_of(stage, quick())
    assert unbare_hint(stage.context(quick())) is None
    assert unbare_hint(stage.context(quick(training__bare_share=0.0))) is None
    with pytest.raises(DataError, match=r"run `cai train` first$"):
        own_checkpoint(stage.context(quick(seed=5)))
