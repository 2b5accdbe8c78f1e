"""The settings of the run whose base directory is used: its models are asked as they were measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai_bootstrap.config import Resolved, RunConfig, resolve
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.events import RunStarted, read_event
from cai_bootstrap.run.folder import CONSTITUTION, INSTRUCTIONS, STAGES, SUCCESS, RunFolder, Stage
from cai_bootstrap.run.markers import SuccessMarker, read_typed

# What decides an answer of the run's models, and by which items it is judged.
KEYS = (
    "model",
    "revision",
    "seed",
    "precision",
    "evaluation.precision",
    "evaluation.max_new_tokens",
    "evaluation.suite",
    "evaluation.dev_suite",
)
# The constitution stage's best prompting shows the demonstrations of this file.
KEYS_OF_STAGE = {CONSTITUTION.name: ("constitution",)}


def of_the_stage(resolved: Resolved, folder_of: Callable[[RunConfig], RunFolder]) -> Resolved:
    """The configuration with the stage whose model is to be used, where nobody said one.

    A named adapter's own stage; else Stage 1 if it was trained in the base directory, else the constitution stage if
    that was. `folder_of` gives the folders of a configuration.
    """
    if resolved.origins["stage"] != "default":
        return resolved
    config = resolved.config
    if config.adapter is not None:
        trained = [_stage_of(config.adapter / SUCCESS)]
    else:
        trained = [stage for stage in STAGES.values() if _was_trained(folder_of(_with_stage(config, stage)))]
    stage = trained[0] if trained else INSTRUCTIONS
    return resolved.model_copy(update={"config": _with_stage(config, stage)})


def _with_stage(config: RunConfig, stage: Stage) -> RunConfig:
    return config.model_copy(update={"stage": stage.name})


def _was_trained(workspace: RunFolder) -> bool:
    return any(_stage_of(marker) is workspace.stage for marker in workspace.success_markers())


def _stage_of(marker: Path) -> Stage:
    """The stage of a training by its success marker; one that cannot be read is Stage 1's, whose reader says why."""
    try:
        return STAGES.get(read_typed(marker, SuccessMarker, "").stage, INSTRUCTIONS)
    except UntrustedResultError:
        return INSTRUCTIONS


def as_the_run(resolved: Resolved, workspace: RunFolder, *, say: Callable[[str], None]) -> RunConfig:
    """The configuration, with what nobody set taken from the newest run of its stage in the base directory.

    `logs/RUN.config.yaml` holds that run's whole configuration. One that cannot be read (of another version, or torn)
    is named by `say`, and the defaults stay. One that only prepared a model says nothing about those that are here.
    """
    config = resolved.config
    ran: RunConfig | None = None
    try:
        ran = _newest_of_stage(workspace)
    except UsageError as error:
        say(f"the run's own settings are not used: {error}")
    if ran is None:
        return config
    keys = (*KEYS, *KEYS_OF_STAGE.get(workspace.stage.name, ()))
    for key in (key for key in keys if resolved.origins[key] == "default"):
        section, _, name = key.rpartition(".")
        value: Any = getattr(getattr(ran, section) if section else ran, name)
        if section:
            part = getattr(config, section).model_copy(update={name: value})
            config = config.model_copy(update={section: part})
        else:
            config = config.model_copy(update={name: value})
    return config


def _newest_of_stage(workspace: RunFolder) -> RunConfig | None:
    """The configuration of the newest run of this stage. Raises UsageError for a newer one that cannot be read."""
    for path in reversed(workspace.configs()):
        if _only_prepared(workspace, path):
            continue
        config = resolve(config_file=path, environment={}).config
        if config.stage == workspace.stage.name:
            return config
    return None


def _only_prepared(workspace: RunFolder, config_file: Path) -> bool:
    """The run of this configuration fetched or converted a model, and did nothing else."""
    try:
        with workspace.events_beside(config_file).open("rb") as events:
            first = read_event(events.readline())
    except OSError:
        return False
    return isinstance(first, RunStarted) and first.steps == ["prepare"]
