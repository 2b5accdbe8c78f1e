"""Train: the last look at the pairs, then LoRA adapters on those that are sound."""

from pathlib import Path

from cai_bootstrap.errors import DataError
from cai_bootstrap.evaluation.suite import load_suite
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import SUCCESS, find_checkpoint
from cai_bootstrap.training.preflight import check_pairs
from cai_bootstrap.training.train import TrainingRun
from cai_bootstrap.workspace import fingerprint, read_jsonl, sha256_file, write_json


def identity(context: StepContext) -> str:
    """The fingerprint of a training: the pairs' bytes, the settings, the base weights, the seed."""
    config = context.config
    settings = config.training.model_dump(mode="json", exclude={"watch_every", "watch_items", "save_every"})
    pairs = context.workspace.data / "preference_pairs.jsonl"
    if not pairs.exists():
        raise DataError(f"{pairs}: no such file; run `cai generate` first")
    return fingerprint(
        [sha256_file(pairs), settings, config.training_precision, config.pairs.min_pairs, config.seed,
         context.model_key()]
    )  # fmt: skip


def run(context: StepContext, expected: str) -> list[Path]:
    """Check the pairs one last time, then train and mark the adapter."""
    from transformers import AutoTokenizer

    config, workspace = context.config, context.workspace
    prepared = context.prepared()
    pairs = list(read_jsonl(workspace.data / "preference_pairs.jsonl", PreferencePair))
    tokenizer = AutoTokenizer.from_pretrained(prepared.path)
    leaks = context.leakage()
    checked = check_pairs(pairs, tokenizer, max_length=config.training.max_length, leaks=leaks.hit)
    if checked.faults:
        context.progress.say(f"{len(checked.faults)} of {len(pairs)} pairs do not train: {checked.fault_counts}")
    report = {"checked": len(pairs), "faults": checked.fault_counts, **checked.figures}
    write_json(workspace.logs / "pair_preflight.json", report)
    folder = workspace.checkpoints / expected[:12]
    checkpoint = find_checkpoint(workspace.checkpoints, expected)
    if checkpoint is None:
        checkpoint = TrainingRun(
            config=config,
            prepared=prepared,
            folder=folder,
            fingerprint=expected,
            progress=context.progress,
            stopping=context.stopping,
            dev_items=context.dev_items,
            details={
                "leakage_checked": [context.suite.sha256, load_suite(config.evaluation.dev_suite).sha256],
                "pairs_sha256": sha256_file(workspace.data / "preference_pairs.jsonl"),
                "labels": report_labels(checked.sound),
            },
        ).run(checked.sound)
    return [checkpoint.path / SUCCESS]


def report_labels(pairs: list[PreferencePair]) -> dict[str, int]:
    """How many pairs each combination of judges labelled."""
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.label_source] = counts.get(pair.label_source, 0) + 1
    return dict(sorted(counts.items()))
