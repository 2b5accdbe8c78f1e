"""`cai ablate`: a named set of variations of a run, on dev, and what the gain comes from."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured, json_option, print_json
from cai_bootstrap.cli.printed import table

if TYPE_CHECKING:
    from cai_bootstrap.ablation.outcome import Outcome
    from cai_bootstrap.ablation.plan import VariationSet


@click.command(cls=HelpWithBase)
@configured
@click.option(
    "--set-file", type=click.Path(path_type=Path), default=None, help="A set of variations (YAML) of your own."
)
@click.option(
    "--only", default=None, metavar="NAMES", help="These variations alone (comma-separated), and their needs."
)
@click.option("--devices", default=None, metavar="0,1", help="CUDA devices to run variations on.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Variations at once on each device."
)
@click.option("--list", "list_only", is_flag=True, help="Print the variations of the set and run nothing.")
@json_option
def ablate(
    settings: Settings,
    set_file: Path | None,
    only: str | None,
    devices: str | None,
    jobs: int,
    list_only: bool,
    as_json: bool,
) -> int:
    """Run variations of a run on dev and say what the gain comes from; start again to go on.

    Finished variations are skipped; a failed one is reported and does not stop the others (exit code 1 at the end).
    """
    from cai_bootstrap.ablation.plan import DEFAULT_SET, load_set

    plan = load_set(set_file or DEFAULT_SET)
    if list_only:
        _list(plan.only(only), as_json)
        return 0
    from cai_bootstrap.ablation.run import run_set, visible_devices
    from cai_bootstrap.ablation.show import plot, print_tables

    resolved = settings.resolve()
    workspace = settings.workspace(resolved)

    def say_start(name: str, device: str) -> None:
        click.echo(f"{name}: started" + (f" on device {device}" if device else ""), err=as_json)

    def say_end(outcome: "Outcome") -> None:
        reason = f": {outcome.message}" if outcome.message else ""
        click.echo(f"{outcome.name}: {outcome.status.replace('_', ' ')} ({outcome.seconds:.0f} s){reason}", err=as_json)

    ablation = run_set(
        plan,
        resolved,
        workspace,
        only=only,
        devices=visible_devices(devices),
        at_once=jobs,
        on_start=say_start,
        on_end=say_end,
    )
    files = [workspace.ablation_table, *plot(ablation, workspace.results)]
    if as_json:
        print_json(ablation.as_json())
    else:
        print_tables(ablation)
        for path in files:
            click.echo(f"  {path}")
    unfinished = [entry.name for entry in ablation.variations if entry.status in {"failed", "not_run"}]
    if unfinished:
        click.echo(f"error: not finished: {', '.join(unfinished)}; start again to go on", err=True)
    return 1 if unfinished else 0


def _list(plan: "VariationSet", as_json: bool) -> None:
    if as_json:
        print_json(plan.model_dump(mode="json"))
        return
    from rich.console import Console

    rows = [(variation.group, variation.name, variation.what) for variation in plan.variations]
    Console().print(table("group", "name", "what", rows=rows, title=f"variations of the set '{plan.name}'"))
