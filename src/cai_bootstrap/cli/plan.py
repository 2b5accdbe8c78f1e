"""`cai plan`: what a run needs of a GPU, and what it costs, before anything is loaded."""

import click

from cai_bootstrap.cli.options import Settings, configured, json_option, print_json
from cai_bootstrap.errors import UsageError


@click.command()
@configured
@click.option("--gpu", default="A100 80GB", show_default=True, help="Such as H100 or L4, or its memory: 24GiB.")
@click.option("--price", type=click.FloatRange(min=0), default=None, help="Dollars per hour of that GPU.")
@json_option
def plan(settings: Settings, gpu: str, price: float | None, as_json: bool) -> int:
    """GPU memory, hours and dollars of each step, before anything is loaded.

    Exit code 2 if a step does not fit, with what to change. Time and money come from measured rates only.
    """
    from cai_bootstrap.planning.memory import GIB
    from cai_bootstrap.planning.plan import plan as make

    made = make(settings.resolve().config, gpu, price)
    if as_json:
        print_json(made.record())
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("step", "GPU memory", "fits", "hours", "dollars", "largest parts")
        for step in made.steps:
            parts = sorted(step.memory.parts.items(), key=lambda part: -part[1])[:2]
            table.add_row(
                step.step,
                f"{step.memory.needed / GIB:.1f} GiB",
                "yes" if step.fits else "NO",
                "not measured" if step.hours is None else f"{step.hours:.2f}",
                "not measured"
                if step.hours is None
                else "no --price"
                if step.dollars is None
                else f"{step.dollars:.2f}",
                ", ".join(f"{name.replace('_', ' ')} {size / GIB:.1f}" for name, size in parts),
            )
        billions = made.shape.parameters / 1e9
        click.echo(f"{made.shape.name}: {billions:.2f} billion weights (shape from {made.shape.source})")
        click.echo(f"on one {made.gpu} ({made.gpu_gib:g} GiB); rates: {made.rates}")
        Console(width=110).print(table)
    if made.fits:
        return 0
    wrong = "; ".join(f"{step.step}: {step.change}" for step in made.steps if step.change)
    raise UsageError(f"this does not fit on one {made.gpu}; change {wrong}")
