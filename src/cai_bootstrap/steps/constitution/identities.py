"""What decides the data, the adapters and the measurement of a constitution stage: their fingerprints."""

from pathlib import Path

from cai_bootstrap.constitution import Constitution
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import fingerprint, sha256_file
from cai_bootstrap.generation import applicability
from cai_bootstrap.generation.prompts import PROMPT_VERSION
from cai_bootstrap.run.counts import SteeringSummary, read_counts
from cai_bootstrap.run.folder import SUCCESS, DataFolder, RunFolder
from cai_bootstrap.steps.constitution.inputs import Inputs, read_inputs, start_checkpoint
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import IMPORTED, stored_identity
from cai_bootstrap.steps.servers import answering_key
from cai_bootstrap.training.checkpoints import Checkpoint, find_checkpoint

STEERING = ("select", "show_flawless", "shown", "redraws", "redraw_temperature", "outside", "by_twins",
            "chosen_share")  # fmt: skip
GENERATION = ("chunk", "max_new_tokens", "critique_tokens", "top_p")
UNTRAINED = {"watch_every", "watch_items", "save_every", "rounds", "min_gain", "processes"}


def data_identity(context: StepContext, inputs: Inputs, constitution: Constitution) -> dict[str, object]:
    """What decides the data of a constitution (the measured one or the control's), by name."""
    config = context.config
    start = start_checkpoint(config, context.prepared())
    model, precision = answering_key(context)
    return {
        "answering adapter": [] if start is None else [start.sha256],
        "model": model,
        "constitution": constitution.sha256,
        "prompts": fingerprint([prompt.model_dump() for prompt in inputs.training(config, constitution)]),
        "precision": precision,
        "seed": config.seed,
        "prompt_version": [PROMPT_VERSION, applicability.PROMPT_VERSION],
        "settings": {
            **config.generation.model_dump(mode="json", include=set(GENERATION)),
            **config.steering.model_dump(mode="json", include=set(STEERING)),
            "max_similarity": config.pairs.max_similarity,
        },
        **({} if config.fast else {"fast": False}),
    }


def both(context: StepContext, inputs: Inputs) -> list[tuple[DataFolder, Constitution]]:
    """The data folders with their constitutions: the measured one, then the control if there is one."""
    folders = [(context.data, inputs.constitution)]
    return folders if inputs.control is None else [*folders, (context.workspace.control_data, inputs.control)]


def check_data(context: StepContext) -> None:
    """Refuse data on disk that were made under another identity. Raises UsageError naming what differs."""
    inputs = read_inputs(context.config)
    for data, constitution in both(context, inputs):
        stored = stored_identity(data)
        if stored is None:
            continue
        if IMPORTED in stored.identity and not context.config.force_data:
            raise UsageError(
                f"{data.path}: holds imported pairs, and a constitution is taught on pairs that its principles make; "
                "use another --data-dir (with --from, Stage 1's imported pairs are replayed), or --force-data to "
                "replace them"
            )
        identity = data_identity(context, inputs, constitution)
        changed = [name for name, value in identity.items() if stored.identity.get(name) != value]
        if changed and not has_too_few(context, data):
            raise UsageError(
                f"{data.path}: holds data made with another {', '.join(changed)}; use another --base-dir, "
                "the earlier settings, or --force-data to make them again"
            )


def has_too_few(context: StepContext, data: DataFolder) -> bool:
    """Whether these data were made whole and hold fewer pairs than can train: nothing is lost by making others."""
    if not data.summary.exists():
        return False
    return (read_counts(data.summary, SteeringSummary).pairs or 0) < context.config.pairs.min_pairs


def training_identity(context: StepContext, data: DataFolder) -> str:
    """The fingerprint of a training: its pairs' bytes, those replayed, the settings, the base weights, the seed."""
    config = context.config
    start = start_checkpoint(config, context.prepared())
    return fingerprint(
        [
            "constitution",
            sha256_file(pairs_file(data)),
            [sha256_file(path) for path in replayed_files(context)],
            config.steering.replay if start is not None else 0,
            config.training.model_dump(mode="json", exclude=UNTRAINED),
            config.training_precision,
            config.pairs.min_pairs,
            config.seed,
            context.model_key(),
            *context.path_key(),
            [] if start is None else [start.sha256],
        ]
    )


def pairs_file(data: DataFolder) -> Path:
    """The pairs of a constitution. Raises DataError if they were not made."""
    if not data.pairs.exists():
        raise DataError(f"{data.pairs}: no such file; run `cai generate --stage constitution` first")
    return data.pairs


def replayed_files(context: StepContext) -> list[Path]:
    """The pairs of the Stage 1 run that is gone on from; none without --from."""
    start = context.config.start_from
    if start is None:
        return []
    return [data.pairs for data in RunFolder.at(start).rounds() if data.pairs.exists()]


def own_checkpoint(context: StepContext, data: DataFolder) -> Checkpoint:
    """The finished training on these pairs. Raises DataError if there is none."""
    expected = training_identity(context, data)
    checkpoint = find_checkpoint(context.workspace.checkpoints, expected)
    if checkpoint is None:
        raise DataError(
            f"{context.workspace.checkpoints}: no finished training of this run (a valid {SUCCESS} with fingerprint "
            f"{expected[:12]}...); run `cai train --stage constitution` first"
        )
    return checkpoint
