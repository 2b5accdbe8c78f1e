"""`cai gate`, `cai compare`, `cai rescore` and `cai power`: judging results that were measured before."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import json_option, print_json
from cai_bootstrap.cli.printed import line, say, table
from cai_bootstrap.errors import EXIT_OK, EXIT_UNTRUSTED, GateError

if TYPE_CHECKING:
    from cai_bootstrap.measuring.comparison import Comparison
    from cai_bootstrap.measuring.conditions import Difference

_SUITE_HELP = "The suite file, for results measured on a suite of your own."
_FILE = click.Path(path_type=Path, dir_okay=False)
# Whatever stands there, the reader of results says what is wrong with it, and the exit code is 4.
_RESULTS = click.Path(path_type=Path, readable=False)


@click.command()
@click.argument("results", type=_RESULTS)
@click.option("--suite", "suite_file", type=_FILE, help=_SUITE_HELP)
@json_option
def gate(results: Path, suite_file: Path | None, as_json: bool) -> None:
    """Judge a results file alone: every stored response is scored again.

    Exit code 0: at least 95% followed. 3: fewer. 4: the file cannot be trusted.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.gate import judge_file

    _name_others(results)
    verdict = judge_file(results, suite=load_suite(suite_file) if suite_file else None)
    if as_json:
        print_json(asdict(verdict))
        raise SystemExit(EXIT_OK if verdict.passed else GateError.exit_code)
    say(verdict.message if verdict.passed else verdict.shown_message)
    if verdict.passed:
        say(verdict.shown_message)
    verdict.demand()


@click.command()
@click.argument("a", type=_RESULTS)
@click.argument("b", type=_RESULTS)
@click.option(
    "--side",
    type=click.Choice(["trained", "base", "rival", "trained_bare"]),
    help="Which side of each file. [default: trained]",
)
@click.option("--suite", "suite_file", type=_FILE, help=_SUITE_HELP)
@json_option
def compare(a: Path, b: Path, side: str | None, suite_file: Path | None, as_json: bool) -> None:
    """Compare two results files item by item, if they were measured under the same conditions.

    A baseline stands for its base model. Files measured under other conditions are refused with exit code 4 and a table
    of the differences.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.comparison import Refusal, compare_files

    _name_others(a, b)
    comparison = compare_files(a, b, side=side, suite=load_suite(suite_file) if suite_file else None)
    if as_json:
        print_json(comparison.as_dict())
    elif isinstance(comparison, Refusal):
        _print_differences(a, b, comparison.differences)
    else:
        _print_comparison(comparison)
    if isinstance(comparison, Refusal):
        raise SystemExit(EXIT_UNTRUSTED)


@click.command()
@click.argument("results", type=_RESULTS)
@click.option("--out", type=_FILE, help="The file to write. [default: beside RESULTS, with the scorers' version]")
@click.option("--suite", "suite_file", type=_FILE, help=_SUITE_HELP)
@json_option
def rescore(results: Path, out: Path | None, suite_file: Path | None, as_json: bool) -> None:
    """Score the outputs in a results file of an older scorer version again.

    Rates, statistics and gate are computed anew from the present verdicts, on the same suite. The new file records what
    it was made from and every verdict that changed. Exit code 4 if the old file cannot be trusted.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.rescore import rescore_file
    from cai_bootstrap.measuring.results import percent

    rescored = rescore_file(results, out, suite=load_suite(suite_file) if suite_file else None)
    block = rescored.block
    if as_json:
        print_json({"path": str(rescored.path), "rates": rescored.rates, **block.as_dict()})
        return
    say(f"{rescored.path}: version {block.from_scorer_version} → {rescored.results.conditions.scorer_version}")
    for side, row in rescored.rates.items():
        before, after = (percent(count, row["total"]) for count in (row["before"], row["after"]))
        say(f"{side} ({row['scored']}): {before} → {after} of {row['total']}")
        for change in block.changed[side]:
            say(f"    {line(change.id)}, {change.scored}: {change.before} → {change.after}")
    for name in block.not_rescored:
        say(f"{name} is as it was: the file holds no outputs of it")


@click.command()
@click.option("--n", "n", type=click.IntRange(min=1), required=True, help="Items of the suite.")
@click.option("--rate", type=click.FloatRange(0.0, 1.0), required=True, help="The model's true rate, such as 0.97.")
@json_option
def power(n: int, rate: float, as_json: bool) -> None:
    """Tell what a suite of N items can show about a model whose true rate is RATE."""
    from cai_bootstrap.judging import statistics

    figures = statistics.power(n, rate)
    if as_json:
        print_json(asdict(figures))
        return
    click.echo(f"{n} items, true rate {rate:.1%}, items taken as independent")
    click.echo(
        f"gate (95% followed): at most {figures.allowed_by_gate} failures; "
        f"passed {figures.chance_of_gate:.1%} of the time"
    )
    if figures.allowed_when_shown < 0:
        click.echo(f"≥ 95% shown: impossible with {n} items, even without a failure")
    else:
        click.echo(
            f"≥ 95% shown (exact bound): at most {figures.allowed_when_shown} failures; "
            f"shown {figures.chance_of_shown:.1%} of the time"
        )


def _name_others(*paths: Path) -> None:
    """Say of each file that lies in a base directory whose run did not write it."""
    from cai_bootstrap.measuring.origin import foreign

    for path in paths:
        if (why := foreign(path)) is not None:
            click.echo(f"note: {why}", err=True)


def _print_differences(a: Path, b: Path, differences: "list[Difference]") -> None:
    from rich.console import Console

    rows = [(row.field, row.a, row.b) for row in differences]
    title = "Not comparable: measured under other conditions"
    Console().print(table("condition", str(a), str(b), rows=rows, title=title, left=False))
    click.echo(f"error: {len(differences)} conditions differ; evaluate both under the same ones", err=True)


def _print_comparison(comparison: "Comparison") -> None:
    from rich.console import Console

    from cai_bootstrap.measuring.side_figures import beside_rows
    from cai_bootstrap.report.findings import comparison_cells, p_value

    tests = (("whole output", comparison.strict), ("first line", comparison.first_line))
    headings = (
        "scored by",
        "before",
        "after",
        "lift, points (95%)",
        "gained / lost",
        "McNemar p",
        "template p",
        "Cohen's h",
    )
    title = f"{comparison.a} ({comparison.side_a}) → {comparison.b} ({comparison.side_b})"
    types = [
        (kind, row.gained, row.lost, p_value(row.mcnemar_p), p_value(row.mcnemar_p_adjusted))
        for kind, row in comparison.strict.by_type.items()
    ]
    console = Console()
    console.print(
        table(
            *headings,
            rows=[(label, *comparison_cells(test)) for label, test in tests],
            title=title,
            left=False,
        )
    )
    by_type = "Whole output by type (p adjusted for four tests, Benjamini–Hochberg)"
    console.print(table("type", "gained", "lost", "p", "p adjusted", rows=types, title=by_type, left=False))
    beside = "Beside the rate, whole output; none of it gates"
    rows = beside_rows([comparison.beside_a, comparison.beside_b])
    console.print(table("", "before", "after", rows=rows, title=beside, left=False))
    for factor in comparison.factors:
        say(f"{factor.field}: {line(factor.a)} → {line(factor.b)}")
    say(f"{comparison.a}: {comparison.shown_a}")
    say(f"{comparison.b}: {comparison.shown_b}")
