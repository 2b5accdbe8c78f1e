"""Training a tiny model: what is learned, resumed, marked and refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stubs import config_of, progress_at

from cai_bootstrap.errors import CaiError, InterruptedRunError, TrainingCollapsedError, UsageError
from cai_bootstrap.events import TrainingStarted, read_events
from cai_bootstrap.inference.models import PreparedModel, load_tokenizer, prepare
from cai_bootstrap.records import EvalItem, PreferencePair
from cai_bootstrap.training.checkpoints import Checkpoint, find_checkpoint, read_success
from cai_bootstrap.training.fast.graphs import NotRecordedError
from cai_bootstrap.training.train import TrainingRun

TRAINING: dict[str, Any] = {
    "training__max_steps": 6, "training__batch_size": 2, "training__save_every": 2, "training__lora_r": 4,
    "training__lora_alpha": 8, "training__watch_every": 0, "pairs__min_pairs": 8, "evaluation__max_new_tokens": 8,
}  # fmt: skip
WORDS = ("sun", "river", "stone", "bird", "glass", "cloud", "bread", "lamp", "field", "ship")


def pairs_of(count: int = 10) -> list[PreferencePair]:
    return [
        PreferencePair(
            id=f"p{n}", instruction_id=f"i{n}", type="question", template="t", prompt=f"Say {WORDS[n % 10]}{n}.\n",
            chosen=WORDS[n % 10], rejected=f"{WORDS[(n + 3) % 10]} {n}", chosen_source="response", chosen_id="c",
            rejected_id="r", rejected_finished=n % 2 == 0, principle_id="clear", label_source="constraint",
        )
        for n in range(count)
    ]  # fmt: skip


def dev_items() -> list[EvalItem]:
    return [
        EvalItem(
            id=f"d{n}", split="dev", type="question", template=f"t{n}", instruction=f"Say {word}.", scorer="exact",
            gold=[word], source="test", difficulty="easy",
        )
        for n, word in enumerate(WORDS[:4])
    ]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> PreparedModel:
    return prepare(str(tiny), say=lambda _: None)


def training(
    folder: Path, prepared: PreparedModel, *, stopping: Callable[[], bool] = lambda: False, **settings: Any
) -> TrainingRun:
    return TrainingRun(
        config=config_of(**{**TRAINING, **settings}),
        prepared=prepared,
        folder=folder,
        fingerprint="f" * 64,
        progress=progress_at(folder.parent),
        stopping=stopping,
        dev_items=dev_items(),
    )


@pytest.mark.parametrize("control", [True, False, None])
def test_a_training_says_when_it_begins_whether_it_is_a_controls(
    tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch, control: bool | None
) -> None:
    monkeypatch.setattr(TrainingRun, "_train", lambda *_: None)
    run = training(tmp_path / "run", prepared)
    run.details = {} if control is None else {"control": control}
    run.run(pairs_of())
    (begun,) = read_events(run.progress.log.path)[0]
    assert isinstance(begun, TrainingStarted)
    assert (begun.adapter, begun.control) == ("run", control or None)


def test_a_tokenizer_that_was_read_already_is_not_read_again(
    tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    run = training(tmp_path / "run", prepared)
    run.tokenizer = known = load_tokenizer(prepared)
    monkeypatch.delattr(AutoTokenizer, "from_pretrained")
    assert run._load()[1] is known
    assert (known.padding_side, known.chat_template) == ("left", None)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder.parent / "events.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [event for event in found if event["event"] == kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedModel) -> Checkpoint:
    return training(tmp_path_factory.mktemp("whole") / "run", prepared).run(pairs_of())


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(10_000))
    return lambda: next(asked) >= steps - 1


def test_a_finished_training_leaves_the_adapter_and_its_marker_only(trained: Checkpoint) -> None:
    names = {path.name for path in trained.path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "TRAINING_SUCCESS"} <= names
    assert "work" not in names
    assert not any(name == "model.safetensors" or name.startswith("pytorch_model") for name in names)  # adapters only
    marker = json.loads((trained.path / "TRAINING_SUCCESS").read_text())
    assert (marker["pairs"], marker["method"], marker["epochs"]) == (10, "joint", 1.2)


def test_the_share_that_is_asked_bare_trains_another_adapter_and_is_counted(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint
) -> None:
    plain = training(tmp_path / "plain/run", prepared, training__bare_share=0.0).run(pairs_of())
    again = training(tmp_path / "half/run", prepared).run(pairs_of()[::-1])
    assert (plain.marker.asked_bare, trained.marker.asked_bare) == (0, again.marker.asked_bare)
    assert 0 < (trained.marker.asked_bare or 0) < 10
    assert plain.sha256 != trained.sha256


def test_every_lora_parameter_changes(tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with the adapter as it was before the first step; a frozen target would stay as it was."""
    from cai_bootstrap.training import train as module

    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    original = module.TrainingRun._reference

    def remember(self: TrainingRun, trainer: Any, *rest: Any) -> None:
        before.update({n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad})
        original(self, trainer, *rest)

    monkeypatch.setattr(module.TrainingRun, "_reference", remember)
    original_refuse = module._refuse_collapsed

    def remember_end(model: Any, losses: Any) -> None:
        after.update({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
        original_refuse(model, losses)

    monkeypatch.setattr(module, "_refuse_collapsed", remember_end)
    training(tmp_path / "run", prepared, training__learning_rate=1e-2).run(pairs_of())
    assert len(before) > 8
    assert before.keys() == after.keys()
    assert all("lora_" in name for name in before)
    assert [name for name in before if bool((before[name] == after[name]).all())] == []


def test_a_training_that_starts_from_an_adapter_has_it_as_its_reference_and_changes_it(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint
) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "on/run"
    further = training(folder, prepared, training__learning_rate=1e-5)
    further.start = trained.path
    end = further.run(pairs_of())
    before, after = (load_file(c.path / "adapter_model.safetensors") for c in (trained, end))
    assert before.keys() == after.keys()
    changes = [(after[name] - before[name]).abs().max().item() for name in before]
    assert min(changes) > 0
    assert max(changes) < 1e-3  # a few small steps: it began where the other ended, and not at new weights
    assert (
        abs(events(folder, "train_step")[0]["figures"]["rewards/margins"]) < 1e-3
    )  # the reference is the adapter as it was


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "sft+dpo", "joint"])
def test_every_method_trains_and_lowers_its_loss(tmp_path: Path, prepared: PreparedModel, method: str) -> None:
    folder = tmp_path / "run"
    training(folder, prepared, training__method=method, training__learning_rate=1e-2, training__max_steps=10).run(
        pairs_of(8)
    )
    losses = [event["figures"]["loss"] for event in events(folder, "train_step")]
    assert len(losses) == (20 if method == "sft+dpo" else 10)
    last = losses[-10:]
    assert sum(last[5:]) < sum(last[:5])


def test_sft_alone_runs_no_rejected_half_and_dpo_starts_at_log_two(tmp_path: Path, prepared: PreparedModel) -> None:
    training(tmp_path / "a/run", prepared, training__method="sft").run(pairs_of())
    assert all("dpo" not in event["figures"] for event in events(tmp_path / "a/run", "train_step"))
    training(tmp_path / "b/run", prepared, training__method="dpo").run(pairs_of())
    first = events(tmp_path / "b/run", "train_step")[0]["figures"]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.slow
def test_the_reference_of_dpo_after_sft_is_the_model_after_sft(tmp_path: Path, prepared: PreparedModel) -> None:
    folder = tmp_path / "run"
    training(folder, prepared, training__method="sft+dpo", training__learning_rate=1e-2).run(pairs_of())
    first_of_dpo = events(folder, "train_step")[6]["figures"]
    assert first_of_dpo["dpo"] == pytest.approx(0.693147, abs=1e-3)


def test_noise_on_the_embeddings_is_in_the_steps_and_not_in_the_reference(
    tmp_path: Path, prepared: PreparedModel
) -> None:
    folder = tmp_path / "run"
    training(folder, prepared, training__method="dpo", training__neftune_alpha=50.0).run(pairs_of())
    first = events(folder, "train_step")[0]["figures"]
    assert first["rewards/margins"] != pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_loss_and_another_another(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint
) -> None:
    again = training(tmp_path / "a/run", prepared).run(pairs_of())
    assert (again.final_loss, again.sha256) == (trained.final_loss, trained.sha256)
    other = training(tmp_path / "b/run", prepared, seed=1).run(pairs_of())
    assert other.final_loss != trained.final_loss


SLOWER = [pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 5)]


@pytest.mark.parametrize("steps", [3, *SLOWER])
def test_c5_an_interrupted_training_reaches_the_uninterrupted_loss(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint, steps: int
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InterruptedRunError, match=f"stopped at step {steps}"):
        training(folder, prepared, stopping=stop_after(steps)).run(pairs_of())
    assert not (folder / "TRAINING_SUCCESS").exists()
    resumed = training(folder, prepared).run(pairs_of())
    assert resumed.final_loss == pytest.approx(trained.final_loss, rel=1e-4)
    assert events(folder, "train_step")[-1]["number"] == 6
    numbers = [event["number"] for event in events(folder, "train_step")]
    assert numbers == [1, 2, 3, 4, 5, 6][:steps] + [1, 2, 3, 4, 5, 6][steps:]


def test_c5_a_killed_training_goes_on_from_its_newest_whole_checkpoint(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint
) -> None:
    """What a kill leaves: a whole checkpoint of step 2, a torn one of step 4."""
    folder = tmp_path / "run"
    with pytest.raises(InterruptedRunError):
        training(folder, prepared, stopping=stop_after(4)).run(pairs_of())
    torn = next(folder.glob("work/*/checkpoint-4"))
    (torn / "optimizer.pt").write_bytes(b"torn")
    resumed = training(folder, prepared).run(pairs_of())
    assert resumed.final_loss == pytest.approx(trained.final_loss, rel=1e-4)
    numbers = [event["number"] for event in events(folder, "train_step")]
    assert numbers == [1, 2, 3, 4, 3, 4, 5, 6]


@pytest.mark.slow
def test_c5_a_training_killed_in_its_second_phase_goes_on_there(tmp_path: Path, prepared: PreparedModel) -> None:
    whole = training(tmp_path / "a/run", prepared, training__method="sft+dpo").run(pairs_of())
    folder = tmp_path / "b/run"
    with pytest.raises(InterruptedRunError):
        training(folder, prepared, stopping=stop_after(9), training__method="sft+dpo").run(pairs_of())
    resumed = training(folder, prepared, training__method="sft+dpo").run(pairs_of())
    told = [(event["phase"], event["number"]) for event in events(folder, "train_step")]
    # A finished phase that is gone through again ends after one step, at a learning rate of 0.
    assert sorted({*told} - {(0, 7)}) == [(phase, number) for phase in (0, 1) for number in range(1, 7)]
    assert resumed.final_loss == pytest.approx(whole.final_loss, rel=1e-4)
    assert resumed.sha256 == whole.sha256


def test_c3_8_too_few_pairs_are_refused_before_training(tmp_path: Path, prepared: PreparedModel) -> None:
    with pytest.raises(CaiError, match="only 7 preference pairs are left, at least 8") as caught:
        training(tmp_path / "run", prepared).run(pairs_of(7))
    assert caught.value.exit_code == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("watch_every", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_c3_8_a_collapse_gets_no_marker_not_even_when_it_is_started_again(
    tmp_path: Path, prepared: PreparedModel, watch_every: int
) -> None:
    """A learning rate of 1e30 leaves no number; with and without the watch that is exit code 1 and no marker."""
    folder = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(TrainingCollapsedError) as caught:
            training(
                folder,
                prepared,
                training__learning_rate=1e30,
                training__watch_every=watch_every,
                training__warmup_ratio=0,
            ).run(pairs_of())
        assert caught.value.exit_code == 1
        assert "No success marker was written" in str(caught.value)
    assert not list(tmp_path.rglob("TRAINING_SUCCESS"))
    assert find_checkpoint(tmp_path, "f" * 64) is None


def test_c3_8_the_watch_stops_a_model_that_falls_apart(tmp_path: Path, prepared: PreparedModel) -> None:
    """Ten thousand times the learning rate: the loss stays a number, the answers do not stay answers."""
    folder = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(TrainingCollapsedError, match=r"nats a token less likely|empty|repeat|the loss is"):
            training(
                folder, prepared, training__method="dpo", training__learning_rate=5.0, training__watch_every=1,
                training__max_steps=20, training__warmup_ratio=0,
            ).run(pairs_of())  # fmt: skip
    assert not list(tmp_path.rglob("TRAINING_SUCCESS"))


def test_c4_11_the_loaded_model_is_the_model_in_training(
    tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one way to load a trained model gives the logits that it had when its training ended."""
    import torch

    from cai_bootstrap.inference.transformers_engine import load
    from cai_bootstrap.training import train as module

    asked = torch.tensor([[1, 40, 41, 42, 43, 44]])
    seen: dict[str, Any] = {}
    original = module._refuse_collapsed

    def remember(model: Any, losses: Any) -> None:
        with torch.inference_mode():
            seen["trained"] = model.eval()(input_ids=asked).logits.clone()
            with model.disable_adapter():
                seen["base"] = model(input_ids=asked).logits.clone()
        original(model, losses)

    monkeypatch.setattr(module, "_refuse_collapsed", remember)
    made = training(tmp_path / "run", prepared, training__learning_rate=1e-2).run(pairs_of())
    loaded = load(prepared, precision="fp32", adapter=made.path)
    with torch.inference_mode():
        logits = loaded.model(input_ids=asked).logits
        with loaded.model.disable_adapter():
            base = loaded.model(input_ids=asked).logits
    assert torch.equal(logits, seen["trained"])
    assert torch.equal(base, seen["base"])
    assert not torch.allclose(logits, base, atol=1e-3)


@pytest.mark.slow
def test_the_watch_leaves_the_training_as_it_was(tmp_path: Path, prepared: PreparedModel, trained: Checkpoint) -> None:
    """Looking at the model in training changes nothing that is trained."""
    looked = training(tmp_path / "run", prepared, training__watch_every=2).run(pairs_of())
    assert looked.sha256 == trained.sha256
    assert [look.step for look in looked.marker.watch or []] == [0, 2, 4, 6]


@pytest.mark.slow
def test_with_several_rounds_the_last_look_is_made_also_where_the_watch_is_off(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint
) -> None:
    """A round is chosen by it."""
    looked = training(tmp_path / "run", prepared, training__watch_every=0, training__rounds=2).run(pairs_of())
    assert [look.step for look in looked.marker.watch or []] == [0, 6]
    assert looked.sha256 == trained.sha256


@pytest.mark.slow
def test_a_resumed_training_is_judged_against_the_untrained_model(tmp_path: Path, prepared: PreparedModel) -> None:
    whole = training(tmp_path / "a/run", prepared, training__watch_every=2).run(pairs_of())
    folder = tmp_path / "b/run"
    with pytest.raises(InterruptedRunError):
        training(folder, prepared, stopping=stop_after(3), training__watch_every=2).run(pairs_of())
    resumed = training(folder, prepared, training__watch_every=2).run(pairs_of())
    steps = [look.step for look in resumed.marker.watch or []]
    assert steps == [0, 2, 4, 6]
    first_looks = [(checkpoint.marker.watch or [])[0] for checkpoint in (resumed, whole)]
    assert first_looks[0].eos_rate == first_looks[1].eos_rate


@pytest.mark.slow
def test_out_of_memory_halves_the_batch_and_doubles_the_accumulation(
    tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap.training.fast import answer_head as module

    original = module.answer_logps

    def small_memory(model: Any, batch: Any) -> Any:
        if model.training and len(batch["input_ids"]) > 2:
            raise MemoryError
        return original(model, batch)

    monkeypatch.setattr(module, "answer_logps", small_memory)
    folder = tmp_path / "run"
    training(folder, prepared, training__batch_size=4).run(pairs_of())
    said = [event["message"] for event in events(folder, "notice")]
    assert any("out of memory: going on with 2 pairs a step, 2 steps added up" in message for message in said)
    assert any("out of memory: going on with 1 pairs a step, 4 steps added up" in message for message in said)


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_out_of_memory_before_a_checkpoint_begins_again_with_untrained_adapters(
    tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch, noise: float
) -> None:
    """Memory runs out at step 2 of batches of 4; what comes is the training that began with batches of 2."""
    from safetensors.torch import load_file

    from cai_bootstrap.training.fast import answer_head as module

    settings = {
        "training__max_steps": 4, "training__save_every": 4, "training__learning_rate": 1e-2,
        "training__warmup_ratio": 0, "training__neftune_alpha": noise,
    }  # fmt: skip
    halved = training(tmp_path / "a/run", prepared, training__batch_size=2, training__accumulate=2, **settings)
    expected = halved.run(pairs_of())
    original = module.answer_logps
    fits = iter([True, False])  # then all batches do

    def full_once(model: Any, batch: Any) -> Any:
        if model.training and not next(fits, True):
            raise MemoryError
        return original(model, batch)

    monkeypatch.setattr(module, "answer_logps", full_once)
    made = training(tmp_path / "b/run", prepared, training__batch_size=4, training__accumulate=1, **settings).run(
        pairs_of()
    )
    losses = [[e["figures"]["loss"] for e in events(tmp_path / run, "train_step")] for run in ("a/run", "b/run")]
    assert len(losses[0]) == 4
    assert losses[1][-4:] == pytest.approx(losses[0], rel=1e-4)
    weights, others = (load_file(c.path / "adapter_model.safetensors") for c in (made, expected))
    assert weights.keys() == others.keys()
    assert all(weights[name].allclose(others[name], rtol=1e-3, atol=1e-5) for name in weights)


@pytest.mark.parametrize("error", [NotRecordedError("capture was broken off"), MemoryError()])
def test_steps_that_cannot_be_recorded_are_made_without(
    tmp_path: Path, prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The second shape of a batch fails; what comes is the training that recorded nothing, with the same batches."""
    settings = {"training__max_steps": 4, "training__save_every": 4, "training__batch_size": 4}
    training(tmp_path / "a/run", prepared, **settings).run(pairs_of())
    make = TrainingRun._trainer

    def recording(self: TrainingRun, *given: Any, recorded: bool) -> Any:
        trainer = make(self, *given, recorded=recorded)
        trainer._graphs = FailingGraphs(trainer._loss, error) if recorded else None
        return trainer

    monkeypatch.setattr(TrainingRun, "_trainer", recording)
    training(tmp_path / "b/run", prepared, **settings).run(pairs_of())
    losses = [[e["figures"]["loss"] for e in events(tmp_path / run, "train_step")] for run in ("a/run", "b/run")]
    assert losses[1][-4:] == pytest.approx(losses[0], rel=1e-4)
    said = [event["message"] for event in events(tmp_path / "b/run", "notice")]
    why = "out of memory" if isinstance(error, MemoryError) else "capture was broken off"
    assert f"training steps are not recorded as CUDA graphs ({why}): going on without" in said


class FailingGraphs:
    """Stands for `GraphedSteps` where there is no GPU: one step works, the next cannot be recorded."""

    def __init__(self, loss_of: Any, error: Exception) -> None:
        self._loss_of, self._error, self._steps = loss_of, error, 0

    def __call__(self, batch: Any, share: float) -> Any:
        self._steps += 1
        if self._steps > 1:
            raise self._error
        loss, figures = self._loss_of(batch)
        (loss * share).backward()
        return loss.detach(), figures

    def forget(self) -> None:
        pass


@pytest.mark.parametrize("name", ["optimizer.pt", "adapter_model.safetensors"])
def test_a_training_with_a_damaged_checkpoint_goes_on_from_the_sound_one_before(
    tmp_path: Path, prepared: PreparedModel, trained: Checkpoint, name: str
) -> None:
    """As a power cut leaves it: the right size, zeros for content; and the reference was touched."""
    folder = tmp_path / "run"
    with pytest.raises(InterruptedRunError):
        training(folder, prepared, stopping=stop_after(5)).run(pairs_of())
    newest = folder / "work/0-joint/checkpoint-5" / name
    newest.write_bytes(b"\0" * newest.stat().st_size)
    reference = folder / "work/0-joint/reference.json"
    reference.write_text(reference.read_text().replace("-", "-1", 1))
    resumed = training(folder, prepared).run(pairs_of())
    said = " ".join(event["message"] for event in events(folder, "notice"))
    assert f"{name} is not what was saved; this checkpoint is not used, training goes on from checkpoint-4" in said
    assert "the reference's log-probabilities are computed again" in said
    assert resumed.sha256 == trained.sha256


def test_a_copied_adapter_is_still_believed(tmp_path: Path, trained: Checkpoint) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(trained.path, copied)
    assert read_success(copied).sha256 == trained.sha256


def test_the_dpo_loss_is_that_of_trls_trainer(tmp_path: Path, prepared: PreparedModel) -> None:
    """Of the first batch with its figures, from a reference that is another model than the one in training."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from cai_bootstrap.training.batch_split import Share
    from cai_bootstrap.training.pairs import rows_of, tokenise
    from cai_bootstrap.training.train import Phase

    run = training(tmp_path / "run", prepared)
    model, tokenizer = run._load()
    tokenised = tokenise(pairs_of(), tokenizer, max_length=64)
    reference = [(-100.0 - n, -120.0 + n) for n in range(len(tokenised))]
    rows = rows_of(tokenised, reference)
    ours = run._trainer(Phase("dpo", 1.0, 0.0), model, tokenizer, tokenised, tmp_path, Share(1, 4, 1), recorded=False)
    loss, figures = ours._loss(ours.on_device(ours.data_collator(rows[:4])))
    settings = DPOConfig(
        str(tmp_path), beta=0.1, bf16=False, use_cpu=True, report_to=[], gradient_checkpointing=False,
        precompute_ref_log_probs=True,
    )  # fmt: skip
    texts = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    theirs = DPOTrainer(ours.model, args=settings, train_dataset=texts, processing_class=tokenizer)
    batch = theirs.data_collator(rows[:4])
    expected = theirs.compute_loss(theirs.model, batch)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert abs(float(expected) - 0.6931) > 0.1
    assert {"dpo", "nll", "rewards/margins", "logps/rejected"} <= figures.keys()


def test_dropout_of_the_adapters_acts_and_that_of_the_base_does_not(tmp_path: Path, prepared: PreparedModel) -> None:
    import torch

    from cai_bootstrap.training.adapters import with_adapters

    run = training(tmp_path / "run", prepared, training__lora_dropout=0.25)
    model = run._load()[0]
    model.model.embed_dropout = torch.nn.Dropout(0.5)
    adapted = with_adapters(model, run.config.training, seed=0)
    rates = {name: module.p for name, module in adapted.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert {rate for name, rate in rates.items() if "lora_dropout" in name} == {0.25}
    assert {rate for name, rate in rates.items() if "lora_dropout" not in name} == {0.0}


def test_adapters_on_the_head_are_refused(tmp_path: Path, prepared: PreparedModel) -> None:
    run = training(tmp_path / "run", prepared, training__lora_targets=["q_proj", "lm_head"])
    with pytest.raises(UsageError, match=r"training\.lora_targets"):
        run.run(pairs_of())
