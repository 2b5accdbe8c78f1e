"""Train: the last look at the pairs, then LoRA adapters on those that are sound."""

from collections import Counter
from pathlib import Path
from typing import Any

from cai_bootstrap.files import read_jsonl, sha256_file, write_json
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import Critique, PreferencePair, Revision
from cai_bootstrap.run.counts import GenerationSummary, PreflightReport, read_counts
from cai_bootstrap.run.folder import SUCCESS
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.adapter import pairs_files, training_identity, unbare_hint
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import IMPORTED, imported_identity
from cai_bootstrap.training.checkpoints import find_checkpoint
from cai_bootstrap.training.pairs import Asking
from cai_bootstrap.training.preflight import Preflight, check_pairs
from cai_bootstrap.training.train import TrainingRun

identity = training_identity


def run(context: StepContext, expected: str) -> dict[str, Path]:
    """Check the pairs one last time, then train and mark the adapter."""
    config, workspace = context.config, context.workspace
    tokenizer = load_tokenizer(context.prepared())
    checked = preflight(context, tokenizer)
    if checked.faults:
        total = len(checked.sound) + len(checked.faults)
        context.progress.say(f"{len(checked.faults)} of {total} pairs do not train: {checked.fault_counts}")
    report = {"sound": len(checked.sound), "faults": checked.fault_counts, **checked.figures.as_json()}
    write_json(workspace.preflight, PreflightReport.model_validate(report).as_json())
    checkpoint = find_checkpoint(workspace.checkpoints, expected)
    if checkpoint is None:
        if hint := unbare_hint(context):
            context.progress.say(f"trains anew: {hint}")
        checkpoint = TrainingRun(
            config=config,
            prepared=context.prepared(),
            folder=workspace.adapter(expected),
            fingerprint=expected,
            progress=context.progress,
            stopping=context.stopping,
            dev_items=context.watched_items,
            details={
                "leakage_checked": [context.suite.asked_sha256, load_suite(config.evaluation.dev_suite).asked_sha256],
                "pairs_sha256": [sha256_file(path) for path in pairs_files(context)],
                "round": context.round,
                "watched": "dev" if context.dev_items else "held-back instructions",
                **_imported(context),
                "labels": dict(sorted(Counter(pair.label_source for pair in checked.sound).items())),
            },
            tokenizer=tokenizer,
        ).run(checked.sound)
    return {"success": checkpoint.path / SUCCESS}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the adapter lies where this run would put it."""
    return before.path("success").is_relative_to(context.workspace.checkpoints)


def preflight(context: StepContext, tokenizer: Any) -> Preflight:
    """The look at the pairs on disk, with this run's model and held-out suites (also `cai pairs check`)."""
    pairs = [pair for path in pairs_files(context) for pair in read_jsonl(path, PreferencePair)]
    leaks = context.leakage()
    critiques = _critiques(context, {id for p in pairs for id in (p.chosen_id, p.rejected_id)})
    settings = context.config.training
    return check_pairs(
        pairs,
        tokenizer,
        max_length=settings.max_length,
        asking=Asking(settings.bare_share, context.config.seed),
        leaks=leaks.hit,
        critiques=critiques,
    )


def _imported(context: StepContext) -> dict[str, object]:
    """Where the pairs came from, if a person brought them: the first round's, since no later one is imported."""
    data = context.workspace.round_data(1)
    if imported_identity(data) is None:
        return {}
    imported = read_counts(data.summary, GenerationSummary).imported
    return {} if imported is None else {IMPORTED: imported.as_json()}


def _critiques(context: StepContext, revisions: set[str]) -> dict[str, str]:
    """What was said before each of these revisions, by the revision's id, where the data hold it."""
    critiques: dict[str, str] = {}
    for data in map(context.workspace.round_data, range(1, context.round + 1)):
        if data.revisions.exists() and data.critiques.exists():
            after = {r.critique_id: r.id for r in read_jsonl(data.revisions, Revision) if r.id in revisions}
            critiques |= {after[c.id]: c.text for c in read_jsonl(data.critiques, Critique) if c.id in after}
    return critiques
