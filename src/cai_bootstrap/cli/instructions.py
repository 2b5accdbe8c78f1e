"""`cai instructions`: the instruction sampler alone."""

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("instructions")
@click.option("--count", type=int, required=True, help="How many instructions; exactly so many are written.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The JSONL file to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def instructions(count: int, out: Path, seed: int, as_json: bool) -> None:
    """Sample instructions from the training templates into a JSONL file."""
    from cai_bootstrap.files import write_jsonl
    from cai_bootstrap.instructions.diversity import measure
    from cai_bootstrap.instructions.sampler import sample_with_report

    drawn, report = sample_with_report(count, seed=seed)
    write_jsonl(out, drawn)
    figures = {**asdict(report), "diversity": measure(drawn), "out": str(out), "seed": seed}
    if as_json:
        click.echo(json.dumps(figures, indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{count} instructions in {out}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for group in ("by_type", "dropped", "diversity"):
        for name, value in figures[group].items():
            table.add_row(
                f"{group.replace('by_', '')}: {name}", f"{value:.3f}" if isinstance(value, float) else str(value)
            )
    Console().print(table)
