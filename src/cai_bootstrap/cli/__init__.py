"""The `cai` command: parses, calls, prints; decides nothing. Commands are loaded when they are called.

Start reading at `COMMANDS`, the list of commands.
"""

import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from cai_bootstrap import __version__
from cai_bootstrap.cli.streams import Streams
from cai_bootstrap.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, CaiError, UsageError
from cai_bootstrap.interpreter import leave_current_directory
from cai_bootstrap.printable import is_text, message, one_line

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("cai_bootstrap.cli.run:run", "All of Stage 1: baseline, generate, train, evaluate, gate, report."),
    "prepare": ("cai_bootstrap.cli.run:prepare", "Fetch or convert the model, check it, and cache it."),
    "baseline": ("cai_bootstrap.cli.run:baseline", "Measure the untrained base model on the held-out suite."),
    "generate": ("cai_bootstrap.cli.run:generate", "Let the model make its own preference pairs."),
    "train": ("cai_bootstrap.cli.run:train", "Train LoRA adapters on the pairs."),
    "evaluate": ("cai_bootstrap.cli.run:evaluate", "Base and trained model on the same held-out suite, then the gate."),
    "gate": ("cai_bootstrap.cli.measure:gate", "Judge a results file alone."),
    "verify": (
        "cai_bootstrap.cli.verify:verify",
        "Show a sample of answers to the models that should have written them.",
    ),
    "compare": ("cai_bootstrap.cli.measure:compare", "Compare two results files, if their conditions are equal."),
    "benchmark": ("cai_bootstrap.cli.benchmark:benchmark", "IFEval or IFBench before and after, by its own checkers."),
    "rescore": ("cai_bootstrap.cli.measure:rescore", "Score the outputs of an older results file again."),
    "power": ("cai_bootstrap.cli.measure:power", "What a suite of a given size can show."),
    "report": ("cai_bootstrap.cli.report:report", "One self-contained HTML page of a run, or two side by side."),
    "ablate": ("cai_bootstrap.cli.ablate:ablate", "Run variations on dev and say what the gain comes from."),
    "elicit": ("cai_bootstrap.cli.elicit:elicit", "Find the best prompted base on dev."),
    "suite": ("cai_bootstrap.cli.suite:suite", "Show, verify and count the held-out suite; its ledger."),
    "trust": ("cai_bootstrap.cli.trust:trust", "Let scorers of your own run that a suite or constitution names."),
    "instructions": ("cai_bootstrap.cli.instructions:instructions", "Sample training instructions into a file."),
    "constitution": ("cai_bootstrap.cli.constitution:constitution", "Check, try and draft a constitution."),
    "prompts": ("cai_bootstrap.cli.inspect:prompts", "Print the exact prompts; check your own."),
    "pairs": ("cai_bootstrap.cli.pairs:pairs", "Check preference pairs; import and export them."),
    "config": ("cai_bootstrap.cli.inspect:config", "Show the configuration and where each value came from."),
    "plan": ("cai_bootstrap.cli.plan:plan", "GPU memory, hours and dollars of a run, before anything is loaded."),
    "pod": ("cai_bootstrap.cli.pod:pod", "Use a rented GPU pod: deploy, watch, pull, stop."),
    "ask": ("cai_bootstrap.cli.use:ask", "Ask base, best prompted base and trained model, side by side."),
    "chat": ("cai_bootstrap.cli.use:chat", "The same, one instruction after the other."),
    "export": ("cai_bootstrap.cli.use:export", "Write the trained model and its pairs, with their cards."),
    "push": ("cai_bootstrap.cli.use:push", "Upload an export to a hub; private by default."),
    "lm-eval-task": ("cai_bootstrap.cli.use:lm_eval_task", "Write the suite as a task for lm-evaluation-harness."),
    "inspect-task": ("cai_bootstrap.cli.elsewhere:inspect_task", "Write the suite as a task for Inspect."),
    "verifiers-env": ("cai_bootstrap.cli.elsewhere:verifiers_env", "Write the suite as an environment of verifiers."),
    "doctor": ("cai_bootstrap.cli.doctor:doctor", "What this machine can do, what would not work, and why."),
    "completion": ("cai_bootstrap.cli.completion:completion", "Print a shell's completion script."),
    "step": ("cai_bootstrap.cli.step:step", ""),
}
HIDDEN = {"step"}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], list(COMMANDS), n=1)
            if near and near[0] not in HIDDEN:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error
            raise


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="cai")
def cli() -> None:
    """Bootstrap instruction following in a base language model, and measure it honestly.

    Start with: cai run --quick-test
    """


def main(arguments: list[str] | None = None, *, command: str | None = None, name: str = "cai") -> NoReturn:
    """Be the command line, or one `command` of it under another name; exits with the code that README's table names.

    For a process that does nothing else: the current directory goes from its import path.
    """
    leave_current_directory()
    streams = Streams()
    entry = cli if command is None else cli.get_command(click.Context(cli), command)
    assert entry is not None, command
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = run_command(words, entry, name)
    except Exception as error:
        if words[:1] == ["step"]:
            raise  # into the step's log
        code = _own_fault(error)
    sys.exit(streams.exit_code(code))


def run_command(arguments: list[str], command: click.Command = cli, name: str = "cai") -> int:
    """Run one command and return its exit code; expected failures are one line on stderr."""
    try:
        _must_be_text(arguments)
        result = command.main(arguments, prog_name=name, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except CaiError as error:
        click.echo(f"error: {message(str(error))}", err=True)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        from cai_bootstrap.cli.unknown_options import explained

        explained(error).show()
        return EXIT_USAGE
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        # A disk that filled up, a file that may not be read: the place and the reason are what the user can act on.
        where = one_line(str(error.filename or "input or output"))
        click.echo(f"error: {where}: {error.strerror or error}", err=True)
        return EXIT_FAILURE
    finally:
        _remind_of_pod(arguments)


def _own_fault(error: Exception) -> int:
    """Say in a line that this program is at fault, and where its traceback is for whoever mends it."""
    import tempfile
    import traceback

    trace = "".join(traceback.format_exception(error))
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename.rsplit('/', 1)[-1]}, line {place.lineno}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="cai-", suffix=".trace", delete=False, errors="replace") as target:
            target.write(trace)
    except OSError:
        attachment = ""
    else:
        attachment = f" with {target.name}"
    sentence = f"error: a fault of cai itself: {type(error).__name__}: {error} ({where}); please report it{attachment}"
    click.echo(one_line(sentence), err=True)
    return EXIT_FAILURE


def _must_be_text(arguments: list[str]) -> None:
    """Raise UsageError for an argument that is not UTF-8: no file of a run could hold it."""
    for argument in arguments:
        if not is_text(argument):
            raise UsageError(
                f"the argument {argument} is not UTF-8 text; write it in UTF-8 (and set a locale that has it, such as "
                "LC_ALL=C.UTF-8), or rename the file"
            )


def _remind_of_pod(arguments: list[str]) -> None:
    """Say loudly that a recorded pod may still cost money; never in the way of the command itself."""
    if arguments[:1] == ["step"]:
        return
    from cai_bootstrap.pod.reminder import reminder

    if text := reminder():
        click.echo(message(text), err=True)
