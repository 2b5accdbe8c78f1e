"""`cai elicit`: the best prompted base, chosen on dev."""

from typing import Any

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured, json_option, print_json


@click.command(cls=HelpWithBase)
@configured
@json_option
def elicit(settings: Settings, as_json: bool) -> None:
    """Try every rendering and few-shot prompt on the dev items and name the best: the rival of a trained model."""
    import time

    from cai_bootstrap.events import EventLog, Progress
    from cai_bootstrap.steps.context import StepContext
    from cai_bootstrap.steps.elicit import run
    from cai_bootstrap.supervise import StopRequest
    from cai_bootstrap.workspace import hold

    resolved = settings.resolve()
    workspace = settings.workspace(resolved).create()
    name = f"elicit-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    progress = Progress(EventLog(workspace.logs / f"{name}.jsonl", name), "elicit")
    with hold(workspace, "cai elicit"):
        found = run(StepContext(resolved.config, workspace, progress, StopRequest().install(), name))
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"first-line rate on {found['suite']['n']} dev items", title_justify="left")
    table.add_column("rendering")
    table.add_column("followed", justify="right")
    for name, rate in sorted(found["rates"].items(), key=lambda pair: -pair[1]):
        table.add_row(f"{name} (chosen)" if name == found["best"] else name, f"{rate:.1%}")
    Console().print(table)
