"""The flags that commands and scripts share, and how they become a configuration."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from cai_bootstrap.errors import UsageError
from cai_bootstrap.run.folder import STAGES, RunFolder, resolve_base_dir

if TYPE_CHECKING:
    from cai_bootstrap.config import Resolved, RunConfig

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path)


class Flag(NamedTuple):
    """A flag and the configuration key that it sets; `kind` is click's type, None for text, bool for a switch."""

    name: str
    key: str
    kind: "click.ParamType[Any] | type | None"
    help: str

    @property
    def parameter(self) -> str:
        """The name under which click hands the value over."""
        return self.name.removeprefix("--").replace("-", "_")


# Every command that takes a configuration takes these: they say where a run lies.
_FOLDERS = (
    Flag("--data-dir", "paths.data_dir", _FOLDER, "Where data are kept, instead of BASE/data/stage1."),
    Flag("--checkpoint-dir", "paths.checkpoint_dir", _FOLDER,
         "Where adapters are kept, instead of BASE/checkpoints/stage1."),
    Flag("--results-dir", "paths.results_dir", _FOLDER, "Where results are kept, instead of BASE/results."),
)  # fmt: skip
_FLAGS = (
    Flag("--model", "model", None, "gemma-3-270m (embedded), a local folder, a .gguf file, or a hub id."),
    Flag("--adapter", "adapter", _FOLDER, "Evaluate this adapter instead of the run's own."),
    Flag("--constitution", "constitution", _FOLDER, "The constitution (YAML)."),
    Flag("--stage", "stage", None, "instructions (Stage 1) or constitution (its principles, held and measured)."),
    Flag("--prompts", "prompts", None, "Constitution stage: prompts of your own, a file or a hub id."),
    Flag("--prompt-column", "prompt_column", None, "The column that holds the prompts."),
    Flag("--from", "start_from", _FOLDER, "Constitution stage: go on from the Stage 1 adapter of this base directory."),
    Flag("--control", "control", None, "Constitution stage: another constitution (YAML) to compare with, or none."),
    Flag("--count", "generation.count", int, "How many instructions to generate, in each round."),
    Flag("--seed", "seed", int, "Seed of everything that is drawn."),
    Flag("--precision", "precision", None, "auto, fp32, bf16, fp16, int8 or fp8; never 4-bit."),
    Flag("--engine", "engine", None,
         "auto, transformers, vllm (the extra gpu), or openai: a server at --endpoint generates."),
    Flag("--endpoint", "server.endpoint", None, "With --engine openai: the completions server that holds the base."),
    Flag("--judge", "judge.endpoint", None, "Constitution stage: the completions server of a model that judges."),
    Flag("--judge-model", "judge.model", None, "The name of that model at its server."),
    Flag("--select", "generation.select", None,
         "Judges that choose: critic, constraint, agreement, gold; joined by +."),
    Flag("--self-instruct-share", "generation.self_instruct_share", float,
         "Share of instructions the model writes itself."),
    Flag("--method", "training.method", None, "sft, dpo, sft+dpo or joint."),
    Flag("--rounds", "training.rounds", int, "Rounds of generation and training."),
    Flag("--min-gain", "training.min_gain", float, "Dev gain below which no further round is made."),
    Flag("--suite", "evaluation.suite", None, "A named suite, or a suite file of your own."),
    Flag("--track", "track", None, "Show the run while it goes on: tensorboard, trackio or wandb."),
    Flag("--enforce-gate", "evaluation.enforce_gate", bool,
         "Fail with exit code 3 below the threshold, also in a quick test."),
    Flag("--train-anyway", "evaluation.train_anyway", bool, "Train although prompting alone reaches the threshold."),
    Flag("--allow-instruct", "allow_instruct", bool, "Do not warn about a base model that looks chat-tuned."),
    Flag("--force-data", "force_data", bool, "Make the data again instead of reusing or refusing them."),
)  # fmt: skip
_BASE_DIR = "--base-dir"
# `--timeout` is no `Flag`, because it sets the key of the step that it names.
_TIMEOUT = "--timeout"


class HelpWithBase(click.Command):
    """A command whose help names the base directory that it would use, without creating it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        # Not as text, which would be wrapped in the middle of the path.
        formatter.write(f"\nBase directory: {resolve_base_dir()}\n(--base-dir, else $CAI_BASE_DIR)\n")


def configured(command: CommandT) -> CommandT:
    """Add all shared flags; the command gets `settings: Settings` in their place."""
    return _with_flags(command, {flag.name for flag in _FLAGS} | {_TIMEOUT})


def configured_by(*names: str) -> Callable[[CommandT], CommandT]:
    """The same for a command that reads these of the flags alone: any other is refused, not ignored."""
    return lambda command: _with_flags(command, set(names))


def _with_flags(command: CommandT, names: set[str]) -> CommandT:
    @functools.wraps(command)
    def wrapper(**parameters: Any) -> Any:
        settings = take_settings(parameters)
        return command(settings=settings, **parameters)

    options = [
        click.option("--preset", help="A whole run that ships with the product (see `cai config presets`)."),
        click.option("--quick-test", is_flag=True, help="The same as --preset quick-test."),
        click.option("--config", "config_file", type=_FOLDER, help="A YAML file with configuration keys."),
        click.option(_BASE_DIR, type=_FOLDER, help="Everything a run writes lies under it."),
    ]
    if _TIMEOUT in names:
        about = "Time limit of a step; may be repeated."
        options.append(click.option(_TIMEOUT, multiple=True, metavar="STEP=SECONDS", help=about))
    else:
        options.append(_refused(_TIMEOUT, "timeouts.STEP", switch=False))
    options.append(
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any configuration key.")
    )
    for flag in (*_FOLDERS, *_FLAGS):
        switch = flag.kind is bool
        if flag in _FOLDERS or flag.name in names:
            options.append(click.option(flag.name, type=flag.kind, is_flag=switch, default=None, help=flag.help))
        else:
            options.append(_refused(flag.name, flag.key, switch=switch))
    decorated: Any = wrapper
    for option in reversed(options):
        decorated = option(decorated)
    result: CommandT = decorated
    return result


def flag_of(key: str) -> tuple[str, ...]:
    """The words by which a shared flag sets a configuration key: `("--model", "VALUE")`; none without such a flag."""
    if key == "paths.base_dir":
        return _BASE_DIR, "VALUE"
    found = next((flag for flag in (*_FOLDERS, *_FLAGS) if flag.key == key), None)
    return () if found is None else (found.name,) if found.kind is bool else (found.name, "VALUE")


def _refused(name: str, key: str, *, switch: bool) -> Callable[[Any], Any]:
    """A hidden flag that this command would ignore: to give it is an error, which says what is possible."""

    def refuse(context: click.Context, _: click.Parameter, value: object) -> None:
        if value not in (None, False):
            raise UsageError(
                f"`{context.command_path}` does not use {name}: leave it out (`--set {key}=…` is accepted, since other "
                "commands share the configuration)"
            )

    return click.option(name, is_flag=switch, default=None, hidden=True, expose_value=False, callback=refuse)


def take_settings(parameters: dict[str, Any]) -> "Settings":
    """The settings among a command's parameters as click has parsed them; they are taken out."""
    overrides: dict[str, object] = {}
    for flag in (*_FOLDERS, *_FLAGS):
        value = parameters.pop(flag.parameter, None)
        if value is not None and value is not False:
            overrides[flag.key] = value
    overrides |= _timeouts(parameters.pop("timeout", ())) | _settings(parameters.pop("assignments"))
    preset = parameters.pop("preset")
    if parameters.pop("quick_test"):
        preset = "quick-test"
    return Settings(overrides, preset, parameters.pop("config_file"), parameters.pop("base_dir"))


class Settings:
    """What the command line said. `resolve` reads the other sources too, and fails on bad input."""

    def __init__(
        self, overrides: dict[str, object], preset: str | None, config_file: Path | None, base_dir: Path | None
    ) -> None:
        self._overrides, self._base_dir = overrides, base_dir
        self.preset, self.config_file = preset, config_file

    def resolve(self, environment: Mapping[str, str] | None = None) -> "Resolved":
        """The resolved configuration, with this process's environment unless another is given."""
        from cai_bootstrap.config import resolve

        overrides = dict(self._overrides)
        if self._base_dir is not None:
            overrides["paths.base_dir"] = self._base_dir
        return resolve(overrides, preset=self.preset, config_file=self.config_file, environment=environment)

    def workspace(self, resolved: "Resolved") -> RunFolder:
        """The folders of this run; creates nothing."""
        return folder_of(resolved.config)


def folder_of(config: "RunConfig") -> RunFolder:
    """The folders of the stage that a configuration runs; creates nothing."""
    paths = config.paths
    return RunFolder.at(
        paths.base_dir,
        data=paths.data_dir,
        checkpoints=paths.checkpoint_dir,
        results=paths.results_dir,
        stage=STAGES[config.stage],
    )


def json_option(command: CommandT) -> CommandT:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def print_json(value: object) -> None:
    """Print a value as JSON on stdout; what a terminal might obey, or cannot show, is escaped as JSON escapes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _timeouts(texts: tuple[str, ...]) -> dict[str, object]:
    timeouts: dict[str, object] = {}
    for text in texts:
        step, equals, seconds = text.partition("=")
        if not equals or not seconds.isdigit():
            raise UsageError(f"--timeout {text}: expected STEP=SECONDS, for example train=14400")
        timeouts[f"timeouts.{step}"] = int(seconds)
    return timeouts


def _settings(assignments: tuple[str, ...]) -> dict[str, object]:
    from cai_bootstrap.config import parse_value

    values: dict[str, object] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected KEY=VALUE, for example training.epochs=2")
        values[key] = parse_value(value, f"--set {key}")
    return values
