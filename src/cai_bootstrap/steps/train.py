"""Train: the last look at the pairs, then LoRA adapters on those that are sound."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import fingerprint, read_jsonl, sha256_file, write_json
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import Critique, PreferencePair, Revision
from cai_bootstrap.run.markers import SUCCESS
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint, find_checkpoint
from cai_bootstrap.training.preflight import Preflight, check_pairs
from cai_bootstrap.training.train import TrainingRun


def identity(context: StepContext) -> str:
    """The fingerprint of a training: the pairs' bytes, the settings, the base weights, the seed."""
    config = context.config
    other = {"watch_every", "watch_items", "save_every", "rounds", "min_gain", "processes"}
    settings = config.training.model_dump(mode="json", exclude=other)
    return fingerprint(
        [
            *(sha256_file(path) for path in _pairs_files(context)),
            settings,
            config.training_precision,
            config.pairs.min_pairs,
            config.seed,
            context.model_key(),
            *context.path_key(),
        ]
    )


def run(context: StepContext, expected: str) -> list[Path]:
    """Check the pairs one last time, then train and mark the adapter."""
    config, workspace = context.config, context.workspace
    tokenizer = load_tokenizer(context.prepared())
    checked = preflight(context, tokenizer)
    if checked.faults:
        total = len(checked.sound) + len(checked.faults)
        context.progress.say(f"{len(checked.faults)} of {total} pairs do not train: {checked.fault_counts}")
    report = {"sound": len(checked.sound), "faults": checked.fault_counts, **checked.figures}
    write_json(workspace.logs / "pair_preflight.json", report)
    checkpoint = find_checkpoint(workspace.checkpoints, expected)
    if checkpoint is None:
        checkpoint = TrainingRun(
            config=config,
            prepared=context.prepared(),
            folder=workspace.checkpoints / expected[:12],
            fingerprint=expected,
            progress=context.progress,
            stopping=context.stopping,
            dev_items=context.watched_items,
            details={
                "leakage_checked": [context.suite.sha256, load_suite(config.evaluation.dev_suite).sha256],
                "pairs_sha256": [sha256_file(path) for path in _pairs_files(context)],
                "round": context.round,
                "watched": "dev" if context.dev_items else "held-back instructions",
                "labels": dict(sorted(Counter(pair.label_source for pair in checked.sound).items())),
            },
            tokenizer=tokenizer,
        ).run(checked.sound)
    return [checkpoint.path / SUCCESS]


def preflight(context: StepContext, tokenizer: Any) -> Preflight:
    """The look at the pairs on disk, with this run's model and held-out suites (also `cai pairs check`)."""
    files = _pairs_files(context)
    pairs = [pair for path in files for pair in read_jsonl(path, PreferencePair)]
    leaks = context.leakage()
    critiques = _critiques([path.parent for path in files], {id for p in pairs for id in (p.chosen_id, p.rejected_id)})
    return check_pairs(
        pairs, tokenizer, max_length=context.config.training.max_length, leaks=leaks.hit, critiques=critiques
    )


def _critiques(folders: Iterable[Path], wanted: set[str]) -> dict[str, str]:
    """What was said before each of the wanted revisions, by the revision's id, where the data hold it."""
    found: dict[str, str] = {}
    for folder in folders:
        revisions, critiques = folder / "revisions.jsonl", folder / "critiques.jsonl"
        if revisions.exists() and critiques.exists():
            after = {r.critique_id: r.id for r in read_jsonl(revisions, Revision) if r.id in wanted}
            found |= {after[c.id]: c.text for c in read_jsonl(critiques, Critique) if c.id in after}
    return found


def checkpoint_of(context: StepContext) -> Checkpoint:
    """The finished training of this run and round. Raises DataError if there is none."""
    wanted = identity(context)
    found = find_checkpoint(context.workspace.checkpoints, wanted)
    if found is None:
        raise DataError(
            f"{context.workspace.checkpoints}: no finished training of this run (a valid {SUCCESS} with fingerprint "
            f"{wanted[:12]}...); run `cai train` first"
        )
    return found


def _pairs_files(context: StepContext) -> list[Path]:
    """The pairs of this round and all before it: every round trains a fresh adapter on all of them."""
    paths = [context.data(number) / "preference_pairs.jsonl" for number in range(1, context.round + 1)]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file; run `cai generate` first")
    return paths
