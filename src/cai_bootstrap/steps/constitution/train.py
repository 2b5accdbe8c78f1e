"""Train: LoRA adapters on the pairs of the constitution; and, apart, on those of the control."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from cai_bootstrap.constitution import Constitution
from cai_bootstrap.files import fingerprint, read_jsonl, sha256_file, write_json
from cai_bootstrap.generation.candidates import normalise
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.run.counts import PreflightReport
from cai_bootstrap.run.folder import SUCCESS, DataFolder
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.constitution.identities import both, pairs_file, replayed_files, training_identity
from cai_bootstrap.steps.constitution.inputs import read_inputs, start_checkpoint
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint, find_checkpoint
from cai_bootstrap.training.pairs import Asking
from cai_bootstrap.training.preflight import Preflight, check_pairs
from cai_bootstrap.training.train import TrainingRun


def identity(context: StepContext) -> str:
    """What decides the adapter, and the control's."""
    inputs = read_inputs(context.config)
    return fingerprint([training_identity(context, data) for data, _ in both(context, inputs)])


def run(context: StepContext, _: str) -> dict[str, Path]:
    """Check the pairs one last time, then train and mark each adapter that is not there yet."""
    tokenizer = load_tokenizer(context.prepared())
    folders = both(context, read_inputs(context.config))
    reports = (context.workspace.preflight, context.workspace.control_preflight)
    checkpoints = [
        _trained(context, data, constitution, tokenizer, report)
        for (data, constitution), report in zip(folders, reports, strict=False)
    ]
    names = ("success", "control-success")
    return {name: checkpoint.path / SUCCESS for name, checkpoint in zip(names, checkpoints, strict=False)}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the adapter lies where this run would put it."""
    return before.path("success").is_relative_to(context.workspace.checkpoints)


def preflight(context: StepContext, data: DataFolder, tokenizer: Any) -> tuple[Preflight, int]:
    """The look at the pairs on disk and at those replayed (also `cai pairs check`), and how many are replayed."""
    pairs = list(read_jsonl(pairs_file(data), PreferencePair))
    replayed = _replayed(context, len(pairs))
    limit = context.config.training.max_length
    asking = Asking(context.config.training.bare_share, context.config.seed)
    checked = check_pairs([*pairs, *replayed], tokenizer, max_length=limit, leaks=_leaks(context), asking=asking)
    return checked, len(replayed)


def _trained(
    context: StepContext, data: DataFolder, constitution: Constitution, tokenizer: Any, report: Path
) -> Checkpoint:
    """The adapter of these pairs, trained unless it is there."""
    expected = training_identity(context, data)
    config = context.config
    checked, replayed = preflight(context, data, tokenizer)
    if checked.faults:
        total = len(checked.sound) + len(checked.faults)
        context.progress.say(f"{len(checked.faults)} of {total} pairs do not train: {checked.fault_counts}")
    figures = {"sound": len(checked.sound), "faults": checked.fault_counts, **checked.figures.as_json()}
    write_json(report, PreflightReport.model_validate(figures).as_json())
    checkpoint = find_checkpoint(context.workspace.checkpoints, expected)
    if checkpoint is not None:
        return checkpoint
    start = start_checkpoint(config, context.prepared())
    return TrainingRun(
        config=config,
        prepared=context.prepared(),
        folder=context.workspace.adapter(expected),
        fingerprint=expected,
        progress=context.progress,
        stopping=context.stopping,
        details={
            "pairs_sha256": [sha256_file(path) for path in (data.pairs, *replayed_files(context))],
            "labels": dict(sorted(Counter(pair.label_source for pair in checked.sound).items())),
            "stage": context.workspace.stage.name,
            "constitution": {"name": constitution.name, "sha256": constitution.sha256},
            "control": data == context.workspace.control_data,
            "replayed": replayed,
            "started_from": None if start is None else start.sha256,
        },
        tokenizer=tokenizer,
        start=None if start is None else start.path,
    ).run(checked.sound)


def _replayed(context: StepContext, own: int) -> list[PreferencePair]:
    """Pairs of the Stage 1 run that is gone on from, drawn by the seed: `steering.replay` of all that train."""
    share = context.config.steering.replay
    pairs = [pair for path in replayed_files(context) for pair in read_jsonl(path, PreferencePair)]
    count = len(pairs) if share == 1 else min(len(pairs), round(own * share / (1 - share)))
    return Random(f"replay:{context.config.seed}").sample(pairs, count)


def _leaks(context: StepContext) -> Callable[[str], str | None]:
    """Names a text that is a held-out prompt, word for word."""
    inputs = read_inputs(context.config)
    held_out = {normalise(prompt.text) for prompt in (*inputs.held_out(context.config).items, *inputs.prompts.test)}
    return lambda text: "held_out" if normalise(text) in held_out else None
