"""`cai verify`: a sample of a results file's answers, shown to the models that are said to have written them."""

import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import HelpWithBase, json_option, print_json
from cai_bootstrap.cli.printed import line, say

if TYPE_CHECKING:
    from cai_bootstrap.use.verification import VerificationReport

_FOLDER = click.Path(path_type=Path)
SEEDS = 2**31


@click.command(cls=HelpWithBase)
@click.argument("results", type=click.Path(path_type=Path, readable=False))
@click.option("--items", type=click.IntRange(min=1), default=25, show_default=True, help="How many items are drawn.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the draw. [default: one that nobody could foresee]")
@click.option("--model", help="Where the base model lies, if not where the file says; its hash must be the recorded.")
@click.option("--adapter", type=_FOLDER, help="Where the adapter lies, if not in the base directory.")
@click.option("--base-dir", type=_FOLDER, help="Where adapters are looked for. [default: the one RESULTS lies in]")
@click.option("--suite", "suite_file", type=_FOLDER, help="The suite file, for results on a suite of your own.")
@json_option
def verify(
    results: Path,
    items: int,
    seed: int | None,
    model: str | None,
    adapter: Path | None,
    base_dir: Path | None,
    suite_file: Path | None,
    as_json: bool,
) -> None:
    """Show a sample of a results file's answers, of either stage, to the models that are said to have written them.

    Exit code 0: the base and the side that the gate judges write these answers. 4: they do not write one of them, or
    the file disagrees with itself. 1: not verified, since a model is not here or cannot be run as recorded.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.stages import stage_of_file
    from cai_bootstrap.run.folder import RunFolder
    from cai_bootstrap.use.verification import verify as verify_file

    report = verify_file(
        results,
        items=items,
        seed=secrets.randbelow(SEEDS) if seed is None else seed,
        workspace=None if base_dir is None else RunFolder.at(base_dir, stage=stage_of_file(results)),
        model=model,
        adapter=adapter,
        suite=load_suite(suite_file) if suite_file else None,
        say=lambda text: say(text, err=True),
    )
    if as_json:
        print_json({**asdict(report), "outcome": report.outcome})
    else:
        _show(report)
    report.demand()


def _show(report: "VerificationReport") -> None:
    from cai_bootstrap.use.verification import chance

    say(f"{report.items} of {report.of} items, drawn with seed {report.seed}; tolerance {report.tolerance:g}")
    for name, side in report.sides.items():
        if side.why_not is not None:
            say(f"{name}: not verified: {line(side.why_not)}")
            continue
        say(
            f"{name}: {side.texts - len(side.contradicted) - len(side.undecided)} of {side.texts} answers are what the "
            f"model writes, {side.exact} word for word, the others at most {side.largest:.2g} from it"
        )
    odds = chance(report.of, -(-report.of // 10), report.items)
    say(f"one changed answer in ten would be among {report.items} drawn items with a probability of {odds:.1%}")
    if report.ledger_entry is not None:
        say(f"entered in the ledger of these items as opening {report.ledger_entry}")
    if report.outcome == "verified":
        say("verified")
