"""`cai report`: what a run found, as one HTML file, as a live page, or as two runs side by side."""

import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import HelpWithBase, json_option, print_json
from cai_bootstrap.errors import CaiError, UsageError
from cai_bootstrap.run.folder import STAGES, RunFolder

if TYPE_CHECKING:
    from cai_bootstrap.report.money import Plan, Rental

_PATH = click.Path(path_type=Path)


@click.command(cls=HelpWithBase)
@click.option("--base-dir", type=_PATH, default=None, help="The run's base directory.")
@click.option(
    "--stage",
    type=click.Choice(list(STAGES)),
    default=None,
    help="The stage whose page is written. [default: each that is there; with --live the newest run's]",
)
@click.option("--data-dir", type=_PATH, default=None, help="Where its data are, if not under BASE/data.")
@click.option(
    "--checkpoint-dir", type=_PATH, default=None, help="Where its adapters are, if not under BASE/checkpoints."
)
@click.option("--results-dir", type=_PATH, default=None, help="Where its results are, if not under BASE/results.")
@click.option("--open", "open_page", is_flag=True, help="Show it in the browser.")
@click.option(
    "--compare", nargs=2, type=_PATH, metavar="A B", help="Put two results files or base directories side by side."
)
@click.option(
    "--side",
    type=click.Choice(["trained", "base", "rival", "trained_bare"]),
    help="With --compare: which side of each file.",
)
@click.option(
    "--suite", "suite_file", type=_PATH, help="With --compare: the suite file of results on a suite of your own."
)
@click.option("--out", type=_PATH, help="With --compare: where the page goes. [default: beside B]")
@click.option("--live", is_flag=True, help="Serve the page on 127.0.0.1 while a run goes on; Ctrl-C ends it.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="With --live: the port. [default: 8765]")
@json_option
def report(
    base_dir: Path | None,
    stage: str | None,
    data_dir: Path | None,
    checkpoint_dir: Path | None,
    results_dir: Path | None,
    open_page: bool,
    compare: tuple[Path, Path] | None,
    side: str | None,
    suite_file: Path | None,
    out: Path | None,
    live: bool,
    port: int | None,
    as_json: bool,
) -> None:
    """Write results/report.html from a run's files, results/constitution_report.html from a constitution's.

    Whatever is missing is named in the page; where both stages are there, each page links to the other.
    --compare refuses files measured under other conditions, with exit code 4, as `cai compare` does. --live reads only;
    through a tunnel: ssh -L 8765:127.0.0.1:8765 HOST.
    """
    if live and compare:
        raise UsageError("--live follows one run; leave out --compare")
    if not compare and (side or suite_file or out):
        raise UsageError("--side, --suite and --out belong to --compare")
    if port is not None and not live:
        raise UsageError("--port belongs to --live")
    if compare:
        paths = [_compare(*compare, out=out, side=side, suite_file=suite_file)]
    else:
        folders = _folders(base_dir, stage, data_dir, checkpoint_dir, results_dir)
        if live:
            _serve(_newest(folders), port, open_page=open_page, as_json=as_json)
            return
        paths = [_write(folder) for folder in folders]
    if as_json:
        print_json({"report": str(paths[-1]), "bytes": paths[-1].stat().st_size, "reports": list(map(str, paths))})
    else:
        for path in paths:
            click.echo(path)
    if open_page:
        webbrowser.open(paths[-1].absolute().as_uri())


def write_report(workspace: RunFolder) -> Path:
    """The report of a stage, with what this user's ledger and the measured rates know of time and money.

    If the other stage is there too and its page does not link to this one yet, that page is written anew.
    """
    from cai_bootstrap.report.stages import links_to, other_stage

    path = _write(workspace)
    other = other_stage(workspace)
    if other is not None and not links_to(other.report, path):
        _write(other)
    return path


def _write(workspace: RunFolder) -> Path:
    from cai_bootstrap.report.build import build_report

    return build_report(workspace, rentals=_rentals(), planned=_planned(workspace))


def _folders(
    base_dir: Path | None, stage: str | None, data: Path | None, checkpoints: Path | None, results: Path | None
) -> list[RunFolder]:
    """The stages whose pages are wanted: the named one, else each that is there, else Stage 1.

    Raises UsageError if there is no base directory, or folders of one stage are named and it is not said of which.
    """
    from cai_bootstrap.report.stages import stages_of

    base = RunFolder.at(base_dir, results=results)
    if not base.base.is_dir():
        raise UsageError(f"{base.base}: no such base directory; name the run's with --base-dir")
    there = [folder.stage.name for folder in stages_of(base)]
    names = [stage] if stage is not None else there or [base.stage.name]
    if len(names) > 1 and (data or checkpoints):
        raise UsageError("--data-dir and --checkpoint-dir belong to one stage, and two are there; add --stage")
    return [
        RunFolder.at(base_dir, data=data, checkpoints=checkpoints, results=results, stage=STAGES[name])
        for name in names
    ]


def _newest(folders: Sequence[RunFolder]) -> RunFolder:
    """The stage of the newest run."""
    from cai_bootstrap.report.stage_files import logs_of

    return max(folders, key=lambda folder: [log.name for log in logs_of(folder)[-1:]])


def _planned(workspace: RunFolder) -> "Plan | None":
    """What the run's preset was seen to take, for as many instructions; None if nobody measured it."""
    from cai_bootstrap.pod.estimate import estimate_preset
    from cai_bootstrap.report.money import Plan
    from cai_bootstrap.run.record import read_record

    try:
        record = read_record(workspace)
    except (CaiError, OSError):
        return None
    preset, count = (None, None) if record is None else (record.config("preset"), record.config("generation.count"))
    if not isinstance(preset, str):
        return None
    planned = estimate_preset(preset, 0.0, count=count if isinstance(count, int) else None)
    return Plan.model_validate(planned.record()) if planned.seconds is not None else None


def _rentals() -> "Sequence[Rental]":
    from cai_bootstrap.pod.ledger import rentals
    from cai_bootstrap.report.money import rentals_of

    try:
        return rentals_of(rentals())
    except (OSError, UsageError):
        return ()


def _compare(a: Path, b: Path, *, out: Path | None, side: str | None, suite_file: Path | None) -> Path:
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.report.comparing import build_comparison

    return build_comparison(a, b, out=out, side=side, suite=load_suite(suite_file) if suite_file else None)


def _serve(workspace: RunFolder, port: int | None, *, open_page: bool, as_json: bool) -> None:
    from cai_bootstrap.report.live import HOST, PORT, serve

    server = serve(workspace, PORT if port is None else port)
    address = f"http://{HOST}:{server.server_address[1]}/"
    try:
        if as_json:
            print_json({"address": address})
        else:
            click.echo(f"{address}  (only from this machine; Ctrl-C ends it)")
        if open_page:
            threading.Timer(0.2, webbrowser.open, [address]).start()
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("ended", err=True)
    finally:
        server.server_close()
