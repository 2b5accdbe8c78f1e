"""What decides a training, and the adapter that it left: asked by the steps that train, answer and measure."""

from dataclasses import replace
from pathlib import Path

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import fingerprint, sha256_file
from cai_bootstrap.run.folder import SUCCESS
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint, find_checkpoint


def training_identity(context: StepContext) -> str:
    """The fingerprint of a training: the pairs' bytes, the settings, the base weights, the seed."""
    config = context.config
    other = {"watch_every", "watch_items", "save_every", "rounds", "min_gain", "processes"}
    if not config.training.bare_share:  # as before there was such a share: adapters of those runs are found again
        other.add("bare_share")
    settings = config.training.model_dump(mode="json", exclude=other)
    return fingerprint(
        [
            *(sha256_file(path) for path in pairs_files(context)),
            settings,
            config.training_precision,
            config.pairs.min_pairs,
            config.seed,
            context.model_key(),
            *context.path_key(),
            *(["dropout acts"] if config.training.lora_dropout else []),  # before, it was set and did nothing
        ]
    )


def pairs_files(context: StepContext) -> list[Path]:
    """The pairs of this round and all before it: every round trains a fresh adapter on all of them."""
    paths = [context.workspace.round_data(number).pairs for number in range(1, context.round + 1)]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file; run `cai generate` first")
    return paths


def own_checkpoint(context: StepContext) -> Checkpoint:
    """The finished training of this run and round. Raises DataError if there is none."""
    expected = training_identity(context)
    checkpoint = find_checkpoint(context.workspace.checkpoints, expected)
    if checkpoint is None:
        hint = unbare_hint(context)
        raise DataError(
            f"{context.workspace.checkpoints}: no finished training of this run (a valid {SUCCESS} with fingerprint "
            f"{expected[:12]}...); run `cai train` first{'' if hint is None else f'. Or: {hint}'}"
        )
    return checkpoint


def unbare_hint(context: StepContext) -> str | None:
    """How to use an adapter that differs from this run's in `training.bare_share` alone: it was trained without any.

    None if there is none. Runs of versions before that share have such adapters, and hours may stand in them.
    """
    training = context.config.training
    if not training.bare_share:
        return None
    unbare = context.config.model_copy(update={"training": training.model_copy(update={"bare_share": 0.0})})
    identity = training_identity(replace(context, config=unbare))
    if (checkpoint := find_checkpoint(context.workspace.checkpoints, identity)) is None:
        return None
    return (
        f"{checkpoint.path} was trained on the same pairs, all of them asked with the line break; to use it: "
        "--set training.bare_share=0"
    )


def answering_adapter(context: StepContext) -> Checkpoint | None:
    """The adapter of the round before, whose model answers this round's instructions; None in the first round."""
    return None if context.round == 1 else own_checkpoint(context.at_round(context.round - 1))
