"""The settings of the run whose base directory is used: its models are asked as they were measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai_bootstrap.config import Resolved, RunConfig, resolve
from cai_bootstrap.errors import UsageError
from cai_bootstrap.events import RunStarted, read_event
from cai_bootstrap.run.folder import RunFolder

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


def as_the_run(resolved: Resolved, workspace: RunFolder, *, say: Callable[[str], None]) -> RunConfig:
    """The configuration, with what nobody set taken from the newest run in the base directory.

    `logs/RUN.config.yaml` holds that run's whole configuration. One that cannot be read (of another version, or torn)
    is named by `say`, and the defaults stay. One that only prepared a model says nothing about those that are here.
    """
    files = [path for path in workspace.configs() if not _only_prepared(workspace, path)]
    if not files:
        return resolved.config
    try:
        ran = resolve(config_file=files[-1], environment={}).config
    except UsageError as error:
        say(f"the run's own settings are not used: {error}")
        return resolved.config
    config = resolved.config
    for key in (key for key in KEYS if resolved.origins[key] == "default"):
        section, _, name = key.rpartition(".")
        value: Any = getattr(getattr(ran, section) if section else ran, name)
        if section:
            part = getattr(config, section).model_copy(update={name: value})
            config = config.model_copy(update={section: part})
        else:
            config = config.model_copy(update={name: value})
    return config


def _only_prepared(workspace: RunFolder, config_file: Path) -> bool:
    """The run of this configuration fetched or converted a model, and did nothing else."""
    try:
        with workspace.events_beside(config_file).open("rb") as events:
            first = read_event(events.readline())
    except OSError:
        return False
    return isinstance(first, RunStarted) and first.steps == ["prepare"]
