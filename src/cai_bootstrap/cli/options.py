"""The flags that commands and scripts share, and how they become a configuration."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cai_bootstrap.errors import UsageError
from cai_bootstrap.run.folder import Workspace, resolve_base_dir

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path)

# Flag, configuration key, help. `None` as type is text.
_FLAGS: list[tuple[str, str, Any, str]] = [
    ("--data-dir", "paths.data_dir", _FOLDER, "Where data are kept, instead of BASE/data/stage1."),
    (
        "--checkpoint-dir",
        "paths.checkpoint_dir",
        _FOLDER,
        "Where adapters are kept, instead of BASE/checkpoints/stage1.",
    ),
    ("--results-dir", "paths.results_dir", _FOLDER, "Where results are kept, instead of BASE/results."),
    ("--model", "model", None, "gemma-3-270m (embedded), a local folder, a .gguf file, or a hub id."),
    ("--adapter", "adapter", _FOLDER, "Evaluate this adapter instead of the run's own."),
    ("--constitution", "constitution", _FOLDER, "The constitution (YAML)."),
    ("--count", "generation.count", int, "How many instructions to generate, in each round."),
    ("--seed", "seed", int, "Seed of everything that is drawn."),
    ("--precision", "precision", None, "fp32, bf16, fp16, int8 or fp8; never 4-bit."),
    ("--engine", "engine", None, "auto, transformers or vllm (the extra gpu)."),
    ("--select", "generation.select", None, "Judges that choose: critic, constraint, agreement, gold; joined by +."),
    (
        "--self-instruct-share",
        "generation.self_instruct_share",
        float,
        "Share of instructions the model writes itself.",
    ),
    ("--method", "training.method", None, "sft, dpo, sft+dpo or joint."),
    ("--rounds", "training.rounds", int, "Rounds of generation and training."),
    ("--min-gain", "training.min_gain", float, "Dev gain below which no further round is made."),
    ("--suite", "evaluation.suite", None, "A named suite, or a suite file of your own."),
    ("--track", "track", None, "Log to trackio or wandb."),
]
_SWITCHES: list[tuple[str, str, bool, str]] = [
    (
        "--enforce-gate",
        "evaluation.enforce_gate",
        True,
        "Fail with exit code 3 below the threshold, also in a quick test.",
    ),
    ("--train-anyway", "evaluation.train_anyway", True, "Train although prompting alone reaches the threshold."),
    ("--allow-instruct", "allow_instruct", True, "Do not warn about a base model that looks chat-tuned."),
    ("--force-data", "force_data", True, "Make the data again instead of reusing or refusing them."),
]


class HelpWithBase(click.Command):
    """A command whose help names the base directory that it would use, without creating it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        # Not as text, which would be wrapped in the middle of the path.
        formatter.write(f"\nBase directory: {resolve_base_dir()}\n(--base-dir, else $CAI_BASE_DIR)\n")


def configured(command: CommandT) -> CommandT:
    """Add the shared flags; the command gets `settings: Settings` in their place."""
    import functools

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        settings = take_settings(given)
        return command(settings=settings, **given)

    decorated: Any = wrapper
    for flag, _, kind, text in reversed(_FLAGS):
        decorated = click.option(flag, type=kind, default=None, help=text)(decorated)
    for flag, _, _, text in reversed(_SWITCHES):
        decorated = click.option(flag, is_flag=True, default=False, help=text)(decorated)
    for option in (
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any configuration key."),
        click.option("--timeout", multiple=True, metavar="STEP=SECONDS", help="Time limit of a step; may be repeated."),
        click.option("--base-dir", type=_FOLDER, default=None, help="Everything a run writes lies under it."),
        click.option(
            "--config", "config_file", type=_FOLDER, default=None, help="A YAML file with configuration keys."
        ),
        click.option("--quick-test", is_flag=True, help="The same as --preset quick-test."),
        click.option(
            "--preset", default=None, help="A whole run that ships with the product (see `cai config presets`)."
        ),
    ):
        decorated = option(decorated)
    result: CommandT = decorated
    return result


def take_settings(parameters: dict[str, Any]) -> "Settings":
    """The settings among a command's parameters as click has parsed them; they are taken out."""
    overrides: dict[str, Any] = {}
    for flag, key, *_ in [*_FLAGS, *_SWITCHES]:
        value = parameters.pop(_parameter(flag))
        if value is not None and value is not False:
            overrides[key] = value
    overrides |= _timeouts(parameters.pop("timeout")) | _settings(parameters.pop("assignments"))
    preset = parameters.pop("preset")
    if parameters.pop("quick_test"):
        preset = "quick-test"
    return Settings(overrides, preset, parameters.pop("config_file"), parameters.pop("base_dir"))


class Settings:
    """What the command line said. `resolve` reads the other sources too, and fails on bad input."""

    def __init__(
        self, overrides: dict[str, Any], preset: str | None, config_file: Path | None, base_dir: Path | None
    ) -> None:
        self._overrides, self._base_dir = overrides, base_dir
        self.preset, self.config_file = preset, config_file

    def resolve(self, environment: Mapping[str, str] | None = None) -> Any:
        """The resolved configuration (`config.Resolved`), with this process's environment unless another is given."""
        from cai_bootstrap.config import resolve

        overrides = dict(self._overrides)
        if self._base_dir is not None:
            overrides["paths.base_dir"] = self._base_dir
        return resolve(overrides, preset=self.preset, config_file=self.config_file, environment=environment)

    def workspace(self, resolved: Any) -> Workspace:
        """The folders of this run; creates nothing."""
        paths = resolved.config.paths
        return Workspace.at(
            paths.base_dir, data=paths.data_dir, checkpoints=paths.checkpoint_dir, results=paths.results_dir
        )


def json_option(command: CommandT) -> CommandT:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _timeouts(given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        step, equals, seconds = text.partition("=")
        if not equals or not seconds.isdigit():
            raise UsageError(f"--timeout {text}: expected STEP=SECONDS, for example train=14400")
        found[f"timeouts.{step}"] = int(seconds)
    return found


def _settings(given: tuple[str, ...]) -> dict[str, Any]:
    from cai_bootstrap.config import parse_value

    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected KEY=VALUE, for example training.epochs=2")
        found[key] = parse_value(value, f"--set {key}")
    return found
