"""`cai elicit`: the best prompted base, chosen on dev."""

from typing import Any

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured_by, json_option, print_json
from cai_bootstrap.cli.printed import table


@click.command(cls=HelpWithBase)
@configured_by("--model", "--seed", "--precision", "--engine", "--suite")
@click.option("--flags", is_flag=True, help="Ask the facts of the suite instead, five typed prompts each.")
@json_option
def elicit(settings: Settings, flags: bool, as_json: bool) -> None:
    """Try every rendering and few-shot prompt on the dev items and name the best: the rival of a trained model.

    With --flags: find which facts of the shipped suite the base can be brought to tell at all. This opens the test
    items, which the ledger notes.
    """
    import time

    from cai_bootstrap.events import EventLog, Progress
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
        report = make_flags(context) if flags else run(context)
    if as_json:
        print_json(report)
    elif flags:
        elicitable = sum(right >= report["needed"] for right in report["right"].values())
        click.echo(f"{elicitable} of {len(report['right'])} facts can be brought out of {report['model']} by prompting")
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    rates = sorted(report["rates"].items(), key=lambda pair: -pair[1])
    rows = [(f"{name} (chosen)" if name == report["best"] else name, f"{rate:.1%}") for name, rate in rates]
    title = f"first-line rate on {report['suite']['n']} dev items"
    Console().print(table("rendering", ">followed", rows=rows, title=title))
