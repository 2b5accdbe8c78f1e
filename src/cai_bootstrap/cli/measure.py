"""`cai gate`, `cai compare`, `cai rescore` and `cai power`: judging results that were measured before."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import json_option, print_json
from cai_bootstrap.cli.printed import line, say, table
from cai_bootstrap.errors import EXIT_OK, EXIT_UNTRUSTED, GateError
from cai_bootstrap.run.folder import CONSTITUTION

if TYPE_CHECKING:
    from cai_bootstrap.measuring.comparison import Comparison
    from cai_bootstrap.measuring.conditions import Difference
    from cai_bootstrap.measuring.principles.comparison import PrincipleComparison

_SUITE_HELP = "The suite file, for results measured on a suite of your own."
_FILE = click.Path(path_type=Path, dir_okay=False)
# Whatever stands there, the reader of results says what is wrong with it, and the exit code is 4.
_RESULTS = click.Path(path_type=Path, readable=False)


@click.command()
@click.argument("results", type=_RESULTS)
@click.option("--suite", "suite_file", type=_FILE, help=_SUITE_HELP)
@click.option("--constitution", type=_FILE, help="Constitution stage: the results must be of this constitution.")
@json_option
def gate(results: Path, suite_file: Path | None, constitution: Path | None, as_json: bool) -> None:
    """Judge a results file alone, of Stage 1 or of the constitution stage: every stored answer is judged again.

    Exit code 0: at least 95% followed; of a constitution, every judged principle is held, or none could be judged. 3:
    fewer. 4: the file cannot be trusted.
    """
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.gate import judge_file
    from cai_bootstrap.measuring.stages import stage_of_file

    _name_others(results)
    if stage_of_file(results) is CONSTITUTION:
        if suite_file is not None:
            raise UsageError(f"--suite: {results} is of the constitution stage, which no suite decides; leave it out")
        _judge_principles(results, constitution, as_json)
        return
    if constitution is not None:
        raise UsageError(f"--constitution: {results} is no results file of the constitution stage; leave it out")
    verdict = judge_file(results, suite=load_suite(suite_file) if suite_file else None)
    if as_json:
        print_json(asdict(verdict))
        raise SystemExit(EXIT_OK if verdict.passed else GateError.exit_code)
    say(verdict.message if verdict.passed else verdict.shown_message)
    if verdict.passed:
        say(verdict.shown_message)
    verdict.demand()


def _judge_principles(results: Path, constitution: Path | None, as_json: bool) -> None:
    from cai_bootstrap.constitution import load_constitution
    from cai_bootstrap.measuring.principles.gate import judge_principle_file

    verdict = judge_principle_file(results, constitution=load_constitution(constitution) if constitution else None)
    if as_json:
        print_json(asdict(verdict))
        raise SystemExit(GateError.exit_code if verdict.passed is False else EXIT_OK)
    for sentence in verdict.lines:
        say(sentence)
    if verdict.passed is not False:
        say(verdict.message)
    verdict.demand()


@click.command()
@click.argument("a", type=_RESULTS)
@click.argument("b", type=_RESULTS)
@click.option(
    "--side",
    type=click.Choice(["trained", "base", "rival", "trained_bare", "control"]),
    help="Which side (arm) of each file. [default: trained]",
)
@click.option("--suite", "suite_file", type=_FILE, help=_SUITE_HELP)
@json_option
def compare(a: Path, b: Path, side: str | None, suite_file: Path | None, as_json: bool) -> None:
    """Compare two results files of one stage item by item, if they were measured under the same conditions.

    A baseline stands for its base model. Files measured under other conditions are refused with exit code 4 and a table
    of the differences. Of a constitution, each principle is compared that both files judge by the same rule.
    """
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.comparison import Refusal, compare_files
    from cai_bootstrap.measuring.stages import must_be_of_one_stage

    _name_others(a, b)
    if must_be_of_one_stage(a, b) is CONSTITUTION:
        if suite_file is not None:
            raise UsageError("--suite: files of the constitution stage were measured on no suite; leave it out")
        _compare_principles(a, b, side, as_json)
        return
    comparison = compare_files(a, b, side=side, suite=load_suite(suite_file) if suite_file else None)
    if as_json:
        print_json(comparison.as_dict())
    elif isinstance(comparison, Refusal):
        _print_differences(a, b, comparison.differences)
    else:
        _print_comparison(comparison)
    if isinstance(comparison, Refusal):
        raise SystemExit(EXIT_UNTRUSTED)


def _compare_principles(a: Path, b: Path, arm: str | None, as_json: bool) -> None:
    from cai_bootstrap.measuring.principles.comparison import PrincipleRefusal, compare_principle_files

    comparison = compare_principle_files(a, b, arm=arm)
    if as_json:
        print_json(comparison.as_dict())
    elif isinstance(comparison, PrincipleRefusal):
        _print_differences(a, b, comparison.differences)
    else:
        _print_changes(comparison)
    if isinstance(comparison, PrincipleRefusal):
        raise SystemExit(EXIT_UNTRUSTED)


@click.command()
@click.argument("results", type=_RESULTS)
@click.option("--out", type=_FILE, help="The file to write. [default: beside RESULTS, with the scorers' version]")
@click.option("--suite", "suite_file", type=_FILE, help=_SUITE_HELP)
@json_option
def rescore(results: Path, out: Path | None, suite_file: Path | None, as_json: bool) -> None:
    """Score the outputs in a results file of an older scorer version again; of either stage.

    Rates, statistics and gate are computed anew from the present verdicts, on the same suite. The new file records what
    it was made from and every verdict that changed. Exit code 4 if the old file cannot be trusted.
    """
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.rescore import rescore_file
    from cai_bootstrap.measuring.results import percent
    from cai_bootstrap.measuring.stages import stage_of_file

    if stage_of_file(results) is CONSTITUTION:
        if suite_file is not None:
            raise UsageError(f"--suite: {results} is of the constitution stage, which no suite decides; leave it out")
        _rescore_principles(results, out, as_json)
        return
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


def _rescore_principles(results: Path, out: Path | None, as_json: bool) -> None:
    from cai_bootstrap.judging.scorers import SCORER_VERSION
    from cai_bootstrap.measuring.principles.rescore import rescore_principle_file
    from cai_bootstrap.measuring.results import percent

    rescored = rescore_principle_file(results, out)
    block, before, after = rescored.block, rescored.before.principles, rescored.results.principles
    rates = {
        arm: {
            id: {"before": rate.successes, "after": after[id].present()[arm].successes, "total": rate.total}
            for id, figures in before.items()
            for rate in [figures.present()[arm]]
        }
        for arm in block.changed
    }
    if as_json:
        print_json({"path": str(rescored.path), "rates": rates, **block.model_dump(mode="json")})
        return
    say(f"{rescored.path}: version {block.from_scorer_version} → {SCORER_VERSION}")
    for arm, principles in rates.items():
        for id, row in principles.items():
            was, now = (percent(row[name], row["total"]) for name in ("before", "after"))
            say(f"{arm}, {line(id)} (first line): {was} → {now} of {row['total']}")
        for change in block.changed[arm]:
            say(f"    {line(change.prompt)}, {line(change.principle)}, {change.scored}: was {change.before}")
    for name in block.not_rescored:
        say(f"{line(name)} is as it was: the file holds no answers of it")


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


def _print_changes(comparison: "PrincipleComparison") -> None:
    from rich.console import Console

    from cai_bootstrap.measuring.results import percent

    headings = ("principle", ">before", ">after", ">of", ">lift, points", ">lower bound", ">p, Holm")
    rows = [
        (
            change.id,
            percent(change.rate_a.successes, change.rate_a.total),
            percent(change.rate_b.successes, change.rate_b.total),
            change.lift.total,
            f"{100 * change.lift.estimate:+.1f}",
            f"{100 * change.lift.lower:+.1f}",
            "-" if change.lift.p_holm is None else f"{change.lift.p_holm:.3g}",
        )
        for change in comparison.changes
    ]
    title = f"{comparison.a} ({comparison.arm_a}) → {comparison.b} ({comparison.arm_b}), by first line"
    Console().print(table(*headings, rows=rows, title=title))
    for change in comparison.changes:
        say(change.in_words())
    for id, reason in comparison.left_out.items():
        say(f"{line(id)}: not compared: {reason}")
    for factor in comparison.factors:
        say(f"{factor.field}: {line(factor.a)} → {line(factor.b)}")


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
