"""`cai instructions`: the instruction sampler alone."""

from dataclasses import asdict
from pathlib import Path

import click

from cai_bootstrap.cli.options import json_option, print_json
from cai_bootstrap.cli.printed import table


@click.command("instructions")
@click.option("--count", type=int, required=True, help="How many instructions; exactly so many are written.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The JSONL file to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@json_option
def instructions(count: int, out: Path, seed: int, as_json: bool) -> None:
    """Sample instructions from the training templates into a JSONL file."""
    from cai_bootstrap.files import write_jsonl
    from cai_bootstrap.instructions.diversity import measure
    from cai_bootstrap.instructions.sampler import sample_with_report

    drawn, report = sample_with_report(count, seed=seed)
    write_jsonl(out, drawn)
    figures = {**asdict(report), "diversity": measure(drawn), "out": str(out), "seed": seed}
    if as_json:
        print_json(figures)
        return
    from rich.console import Console

    rows = [
        (f"{group.replace('by_', '')}: {name}", f"{value:.3f}" if isinstance(value, float) else value)
        for group in ("by_type", "dropped", "diversity")
        for name, value in figures[group].items()
    ]
    Console().print(table("figure", ">value", rows=rows, title=f"{count} instructions in {out}"))
