"""A finished run with a tiny model, made in seconds: an adapter of random weights, measured by the real steps."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from tiny import make_model, make_suite

from cai_bootstrap.config import RunConfig, resolve
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.files import sha256_file, write_json, write_jsonl
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.records import Instruction, PreferencePair
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.steps import baseline, evaluate, train
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint, mark_success


@dataclass(frozen=True)
class Finished:
    """A run, and the environment that points the `cai` command at it."""

    config: RunConfig
    workspace: RunFolder
    prepared: PreparedModel
    checkpoint: Checkpoint
    environment: dict[str, str]

    @property
    def results_file(self) -> Path:
        return next(self.workspace.results.glob("stage1_evaluation_*.json"))


def make_finished(folder: Path) -> Finished:
    """Baseline, adapter and evaluation under `folder`; needs CAI_CACHE_DIR to point away from the user's cache."""
    trained = make_trained(folder, make_model(folder / "model"))
    context = _context(trained.config, trained.workspace)
    baseline.run(context, baseline.identity(context))
    named = replace(context, config=trained.config.model_copy(update={"adapter": trained.checkpoint.path}))
    evaluate.run(named, evaluate.identity(named))
    return trained


def make_trained(folder: Path, model: Path | str, *, alpha: int = 64) -> Finished:
    """An adapter of a model in a run under `folder`, and its pairs, with nothing measured. `alpha`: how strongly its
    random weights change the model."""
    environment = {
        "CAI_MODEL": str(model),
        "CAI_BASE_DIR": str(folder / "base"),
        "CAI_EVALUATION__SUITE": str(make_suite(folder / "mine.jsonl", "test", 8)),
        "CAI_EVALUATION__DEV_SUITE": str(make_suite(folder / "mydev.jsonl", "dev", 4)),
        "CAI_EVALUATION__MAX_NEW_TOKENS": "12",
        "CAI_EVALUATION__BATCH_SIZE": "4",
    }
    config = resolve(environment=environment).config
    workspace = RunFolder.at(folder / "base").create()
    prepared = prepare(str(model), say=lambda _: None)
    _write_data(workspace)
    context = _context(config, workspace)
    checkpoint = _make_adapter(workspace.checkpoints / "made", context, prepared, alpha)
    return Finished(config, workspace, prepared, checkpoint, environment)


def _context(config: RunConfig, workspace: RunFolder) -> StepContext:
    progress = Progress(EventLog(workspace.logs / "made.jsonl", "made"), "made")
    return StepContext(config, workspace, progress, lambda: False, "made")


def _write_data(workspace: RunFolder) -> None:
    kinds = ("question", "completion", "generation", "transformation")
    pairs = [
        PreferencePair(
            id=f"p{n}", instruction_id=f"i{n}", type=kinds[n % 4], template=f"train.{n}", prompt=f"Say word {n}.\n",
            chosen=f"word {n}", rejected="no", chosen_source="revision" if n % 2 else "response", chosen_id=f"c{n}",
            rejected_id=f"r{n}", rejected_finished=True, principle_id="clear", label_source="critic",
        )
        for n in range(9)
    ]  # fmt: skip
    write_jsonl(workspace.data / "preference_pairs.jsonl", pairs)
    own = Instruction(
        id="i0", type="generation", template="train.0", instruction="Say one word only.", source="template",
        scorer="checks", args={"checks": [{"check": "words", "max": 1}]},
    )  # fmt: skip
    write_jsonl(workspace.data / "instructions.jsonl", [own])
    write_json(
        workspace.data / "generation_summary.json",
        {"requested": 12, "produced": 12, "by_label_source": {"critic": 9}, "dropped": {"near_duplicate": 3}},
    )


def _make_adapter(folder: Path, context: StepContext, prepared: PreparedModel, alpha: int) -> Checkpoint:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = LoraConfig(
        r=4, lora_alpha=alpha, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(prepared.path), settings)
    model.save_pretrained(folder)
    pairs = context.workspace.data / "preference_pairs.jsonl"
    return mark_success(
        folder,
        fingerprint=train.identity(context),
        final_loss=0.5,
        epochs=1.0,
        details={
            "base_weights_sha256": prepared.weights_sha256,
            "leakage_checked": [context.suite.sha256],
            "pairs": 9,
            "pairs_sha256": sha256_file(pairs),
            "labels": {"critic": 9},
            "method": "joint",
        },
    )


def first_instruction(suite_file: str) -> str:
    """The first item's instruction of a suite file."""
    return str(json.loads(Path(suite_file).read_text().splitlines()[0])["instruction"])
