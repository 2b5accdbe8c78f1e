"""`cai elicit`: the best prompted base, chosen on dev."""

from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured, json_option, print_json

if TYPE_CHECKING:
    from cai_bootstrap.steps.elicit import Elicited


@click.command(cls=HelpWithBase)
@configured
@click.option("--flags", is_flag=True, help="Ask the facts of the suite instead, five typed prompts each.")
@json_option
def elicit(settings: Settings, flags: bool, as_json: bool) -> None:
    """Try every rendering and few-shot prompt on the dev items and name the best: the rival of a trained model.

    With --flags: find which facts of the shipped suite the base can be brought to tell at all. This opens the test
    items, which the ledger notes.
    """
    import time

    from cai_bootstrap.events import EventLog, Progress
    from cai_bootstrap.measuring.facts import Flags
    from cai_bootstrap.run.lock import hold
    from cai_bootstrap.steps.context import StepContext
    from cai_bootstrap.steps.elicit import make_flags, run
    from cai_bootstrap.supervise import StopRequest

    resolved = settings.resolve()
    workspace = settings.workspace(resolved).create()
    name = f"elicit-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    progress = Progress(EventLog(workspace.events(name), name), "elicit")
    with hold(workspace, "cai elicit"):
        context = StepContext(resolved.config, workspace, progress, StopRequest().install(), name)
        answer = make_flags(context) if flags else run(context)
    if as_json:
        print_json(answer.model_dump())
    elif isinstance(answer, Flags):
        count = sum(right >= answer.needed for right in answer.right.values())
        click.echo(f"{count} of {len(answer.right)} facts can be brought out of {answer.model} by prompting")
    else:
        _print(answer)


def _print(elicited: "Elicited") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"first-line rate on {elicited.suite.n} dev items", title_justify="left")
    table.add_column("rendering")
    table.add_column("followed", justify="right")
    for name, rate in sorted(elicited.rates.items(), key=lambda pair: -pair[1]):
        table.add_row(f"{name} (chosen)" if name == elicited.best else name, f"{rate:.1%}")
    Console().print(table)
