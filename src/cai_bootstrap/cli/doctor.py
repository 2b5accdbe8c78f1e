"""`cai doctor`: what this machine can do, what would not work, and why."""

from dataclasses import asdict
from pathlib import Path

import click

from cai_bootstrap.cli.options import HelpWithBase, json_option, print_json

_MARKS = {"ok": "ok", "warning": "!", "failure": "FAIL"}


@click.command(cls=HelpWithBase)
@click.option("--base-dir", type=click.Path(path_type=Path), default=None, help="Where runs would be kept.")
@json_option
def doctor(base_dir: Path | None, as_json: bool) -> int:
    """Look at Python, libraries, GPU, memory, disk and model cache. Exit code 1 if the product cannot work here.

    A warning names something that works differently, or not at all, while the rest does.
    """
    from cai_bootstrap.use.doctor import examine

    findings = examine(base_dir)
    failed = [finding for finding in findings if finding.status == "failure"]
    if as_json:
        print_json({"works": not failed, "findings": [asdict(finding) for finding in findings]})
        return 1 if failed else 0
    for finding in findings:
        click.echo(f"{_MARKS[finding.status]:<5}{finding.name:<16} {finding.found}")
        if finding.advice:
            click.echo(f"{'':<22}{finding.advice}")
    if failed:
        click.echo(f"error: {len(failed)} things keep it from working: {', '.join(f.name for f in failed)}", err=True)
    return 1 if failed else 0
