"""`cai plan`: what a run needs of a GPU, and what it costs, before anything is loaded."""

from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import Settings, configured, json_option, print_json
from cai_bootstrap.cli.printed import table
from cai_bootstrap.errors import UsageError

if TYPE_CHECKING:
    from cai_bootstrap.planning.plan import PlannedStep
    from cai_bootstrap.pod.estimate import StepWork

GIB = 1024**3


@click.command()
@configured
@click.option("--gpu", default="A100 80GB", show_default=True, help="Such as H100 or L4, or its memory: 24GiB.")
@click.option("--price", type=click.FloatRange(min=0), default=None, help="Dollars per hour of that GPU.")
@json_option
def plan(settings: Settings, gpu: str, price: float | None, as_json: bool) -> int:
    """GPU memory, hours and dollars of each step, before anything is loaded.

    Of the constitution stage also what is asked of the model, at most: completions, new tokens, pairs.

    Exit code 2 if a step does not fit, with what to change. Time and money come from measured rates only.
    """
    from cai_bootstrap.planning.plan import plan as make

    needs = make(settings.resolve().config, gpu, price)
    if as_json:
        print_json(needs.record())
    else:
        from rich.console import Console

        billions = needs.shape.parameters / 1e9
        click.echo(f"{needs.shape.name}: {billions:.2f} billion weights (shape from {needs.shape.source})")
        click.echo(f"on one {needs.gpu} ({needs.gpu_gib:g} GiB); rates: {needs.rates}")
        headings = ["step", "GPU memory", "fits", "hours", "dollars", "largest parts"]
        if any(step.work is not None for step in needs.steps):
            headings.append("asked, at most")
        Console(width=130).print(table(*headings, rows=map(_row, needs.steps)))
    if needs.fits:
        return 0
    wrong = "; ".join(f"{step.step}: {step.change}" for step in needs.steps if step.change)
    raise UsageError(f"this does not fit on one {needs.gpu}; change {wrong}")


def _row(step: "PlannedStep") -> tuple[str, ...]:
    parts = sorted(step.memory.parts.items(), key=lambda part: -part[1])[:2]
    unmeasured = step.hours is None
    return (
        step.step,
        f"{step.memory.needed / GIB:.1f} GiB",
        "yes" if step.fits else "NO",
        "not measured" if step.hours is None else f"{step.hours:.2f}",
        "not measured" if unmeasured else "no --price" if step.dollars is None else f"{step.dollars:.2f}",
        ", ".join(f"{name.replace('_', ' ')} {size / GIB:.1f}" for name, size in parts),
        *(() if step.work is None else (_asked(step.work),)),
    )


def _asked(work: "StepWork") -> str:
    if work.pairs:
        return f"{work.pairs:,} pairs"
    return f"{work.completions:,} answers, {work.tokens:,} tokens"
