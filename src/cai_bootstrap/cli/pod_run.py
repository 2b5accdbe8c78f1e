"""Reads the job's command line as the pod will: by click, and by the resolver of a run's configuration."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_bootstrap.cli.options import Settings, take_settings
from cai_bootstrap.cli.pod_inputs import own_inputs, own_scorers
from cai_bootstrap.cli.pod_servers import check_pod_servers
from cai_bootstrap.cli.unknown_options import explained
from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod.job import job_argv, job_environment
from cai_bootstrap.pod.push import pushed_files
from cai_bootstrap.pod.run_line import Call, RunLine, command_in, source_of
from cai_bootstrap.pod.settings import PodSettings

if TYPE_CHECKING:
    from cai_bootstrap.config import RunConfig

# What `cai prepare` reads of a configuration.
PREPARE_KEYS = (
    "model", "revision", "adapter", "precision", "generation.precision", "training.precision", "evaluation.precision",
    "timeouts.prepare",
)  # fmt: skip


def read_run(settings: PodSettings, arguments: Sequence[str], source: Path | None = None) -> RunLine:
    """The run that `arguments` make of pod.yaml's job, its preset put in front where they name none.

    `source` is the checkout that will be pushed; without it a --config file is read on the pod alone. Raises UsageError
    for arguments that the command on the pod would refuse, for a --config file that is not pushed, and for the key of a
    server whose variable the job will not have.
    """
    call = command_in(job_argv(settings, arguments))
    command = None if call is None else _command(call.name)
    if call is None or command is None:
        return _of_another_program(settings, arguments)
    line_settings = _parse(command, call)
    if settings.preset and not (line_settings.preset or line_settings.config_file):
        arguments = ["--preset", settings.preset, *arguments]
        call = command_in(job_argv(settings, arguments)) or call
        line_settings = _parse(command, call)
    environment = job_environment(settings) | {
        name: os.environ[name] for name in settings.secrets if name in os.environ
    }
    files = {"--config": line_settings.config_file, "CAI_CONFIG": environment.get("CAI_CONFIG")}
    local = {what: _pushed_file(what, str(name), settings, source) for what, name in files.items() if name}
    if None in local.values():  # only the pod can read it: `prepare` takes the very words of the run
        return RunLine(tuple(arguments), line_settings.preset, None, call.words)
    line_settings.config_file = local.get("--config")
    if "CAI_CONFIG" in local:
        environment["CAI_CONFIG"] = str(local["CAI_CONFIG"])
    resolved = line_settings.resolve(environment)
    check_pod_servers(resolved.config, settings)
    preset = resolved.config.preset if resolved.origins["preset"].startswith("preset ") else None
    inputs = own_inputs(resolved, settings, source)
    places = {given.key: given.place(settings) for given in inputs}
    prepare = _prepare_arguments(preset, resolved.config, environment, places)
    moved = [word for key, place in places.items() for word in ("--set", f"{key}={_yaml(place)}")]
    trusted = tuple(sorted({scorers.sha256 for scorers in own_scorers(resolved, settings, source)}))
    return RunLine((*arguments, *moved), preset, resolved.config, prepare, tuple(inputs), trusted)


def _command(name: str) -> click.Command | None:
    """The command of that name, if it takes a run's configuration."""
    from cai_bootstrap.cli import cli

    command = cli.get_command(click.Context(cli), name)
    takes = {parameter.name for parameter in command.params} if command is not None else set()
    return command if {"assignments", "config_file", "preset"} <= takes else None


def _parse(command: click.Command, call: Call) -> Settings:
    try:
        with command.make_context(call.name, list(call.words)) as context:
            return take_settings(dict(context.params))
    except click.ClickException as error:
        raise UsageError(f"the pod would refuse these arguments: {explained(error).format_message()}") from None
    except click.exceptions.Exit:
        raise UsageError(f"the arguments ask `cai {call.name}` for its help, which needs no pod") from None


def _of_another_program(settings: PodSettings, arguments: Sequence[str]) -> RunLine:
    """The job is a program of the user's own: its arguments say nothing to us but which preset they name."""
    from cai_bootstrap.cli.run import run

    lenient = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    try:
        with click.Command("job", params=run.params, context_settings=lenient).make_context(
            "job", list(arguments), resilient_parsing=True
        ) as context:
            parameters = context.params
    except click.ClickException:
        parameters = {}
    preset = "quick-test" if parameters.get("quick_test") else parameters.get("preset")
    if settings.preset and not (preset or parameters.get("config_file")):
        preset = settings.preset
        arguments = ["--preset", preset, *arguments]
    return RunLine(tuple(arguments), preset, None, ("--preset", preset) if preset else None)


def _pushed_file(what: str, path: str, settings: PodSettings, source: Path | None) -> Path | None:
    """The local file that will lie at `path` on the pod; None if it does not lie in what is pushed there."""
    name = source_of(path, settings)
    if name is None or source is None:
        return None
    if name not in set(pushed_files(source)):
        raise UsageError(
            f"{what} {path}: the job will look for it in the pushed checkout, and {source / name} is not pushed there "
            "(missing, ignored by git, or left out as a result or secret); put it into the checkout, or name a file "
            "that lies on the pod by its absolute path"
        )
    return source / name


def _prepare_arguments(
    preset: str | None, config: "RunConfig", environment: dict[str, str], places: Mapping[str, str]
) -> tuple[str, ...]:
    """The preset, and each key of `prepare` in which the run differs from it; `places` are those of inputs there."""
    from cai_bootstrap.config import resolve

    plain = resolve({}, preset=preset, environment=environment).config
    words = ["--preset", preset] if preset else []
    for key in PREPARE_KEYS:
        value = places.get(key, _value(config, key))
        if value != _value(plain, key):
            words += ["--model", value] if key == "model" else ["--set", f"{key}={_yaml(value)}"]
    return tuple(words)


def _yaml(value: Any) -> str:
    """A value as `--set` reads it back."""
    from cai_bootstrap.config import parse_value

    plain = str(value)
    try:
        return plain if parse_value(plain, "") == value else json.dumps(value, default=str)
    except UsageError:
        return json.dumps(value, default=str)


def _value(config: "RunConfig", key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config
