"""`cai suite`: what stands in the held-out suite, whether it is whole, and how often its test items were opened."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cai_bootstrap.cli.options import json_option, print_json
from cai_bootstrap.cli.printed import line, say, table, text
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.run.folder import CONSTITUTION

_FILE = click.Path(path_type=Path, dir_okay=False)
_named = click.argument("name", default="stage1")
_file = click.option("--suite", "suite_file", type=_FILE, help="A suite file of your own, instead of a named suite.")


@click.group()
def suite() -> None:
    """The held-out suite. NAME is stage1 (all test items), stage1-dev, stage1-120 or quick."""


@suite.command()
@_named
@_file
@click.option("--type", "kind", type=click.Choice(TASK_TYPES), help="Only this type.")
@click.option("--skill", help="Only this skill.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many items.")
@json_option
def show(
    name: str, suite_file: Path | None, kind: str | None, skill: str | None, limit: int | None, as_json: bool
) -> None:
    """Print items: id, difficulty, label tier, instruction, and what is accepted."""
    from cai_bootstrap.judging.scorers import label_tier
    from cai_bootstrap.judging.suite import load_suite

    loaded = load_suite(suite_file or name)
    items = [item for item in loaded.items if kind in (None, item.type) and skill in (None, item.skill)][:limit]
    if as_json:
        print_json([item.model_dump() for item in items])
        return
    for item in items:
        click.echo(f"{item.id}  [{item.difficulty}, {label_tier(item)}]")
        click.echo("    " + item.instruction.replace("\n", "\n    "))
        click.echo(f"    → {accepted(item.scorer, item.args, item.gold)}")
    click.echo(f"{len(items)} of {len(loaded.items)} items of {loaded.name} (sha256 {loaded.sha256[:16]}…)")


def accepted(scorer: str, args: dict[str, Any], gold: list[str]) -> str:
    """What an item accepts, in one line."""
    from cai_bootstrap.judging.own.names import own_name, plain

    if scorer != "checks":
        answers = " | ".join(json.dumps(answer, ensure_ascii=False) for answer in gold[:4])
        settings = "".join(f" {key}={value}" for key, value in args.items()) if own_name(scorer) else ""
        return f"{plain(scorer)}{settings}: {answers}" + (f" and {len(gold) - 4} more" if len(gold) > 4 else "")
    return ", ".join(
        " ".join([plain(check["check"]), *(f"{k}={v}" for k, v in check.items() if k != "check")])
        for check in args["checks"]
    )


@suite.command()
@_file
@json_option
def verify(suite_file: Path | None, as_json: bool) -> None:
    """Check the hash, the counts, the splits and every accepted answer. Exit code 4 if something is wrong.

    Scorers of your own are tried: each item's accepted answers must pass; an empty output, the instruction again, other
    items' answers, a very long output and a refusal must not; none may raise.
    """
    from cai_bootstrap.judging.own.entering import sources_of
    from cai_bootstrap.judging.own.trial import try_own_scorers
    from cai_bootstrap.judging.suite import SUITE_VERSION, load_suite
    from cai_bootstrap.judging.suite.integrity import gold_faults, shipped_faults

    loaded = load_suite(suite_file or "stage1")
    faults = gold_faults(loaded.items) if suite_file else shipped_faults()
    sources = sources_of(loaded.items)
    tried = try_own_scorers(loaded.items) if sources else None
    if tried is not None:
        faults += tried.faults
    if as_json:
        own = {} if tried is None else {"own_scorers": sources, "tried": asdict(tried) | {"faults": len(tried.faults)}}
        print_json({"suite": loaded.name, "version": loaded.version, "sha256": loaded.sha256, "faults": faults, **own})
    if faults:
        listed = "\n  ".join(faults[:20]) + (f"\n  and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise UntrustedResultError(f"{loaded.name}: {len(faults)} faults:\n  {listed}")
    if not as_json:
        shipped = "" if suite_file else f", version {SUITE_VERSION}: hash, counts, splits"
        click.echo(f"{loaded.name} ({loaded.sha256[:16]}…){shipped or ': format'} and accepted answers are in order")
        if tried is not None:
            listed = ", ".join(f"{line(name)} ({sha256[:12]}…)" for name, sha256 in sources.items())
            say(
                f"own scorers {listed}: {tried.accepted} accepted answers pass; {tried.adversarial} outputs that "
                "follow nothing fail, or may pass by the scorer's own word"
            )


@suite.command()
@_named
@_file
@json_option
def stats(name: str, suite_file: Path | None, as_json: bool) -> None:
    """Count items by split, type, skill, difficulty, label tier and scorer, and templates by type.

    Facts are parted into those that the untrained embedded model can be brought to tell by prompting, and others.
    """
    from rich.console import Console

    from cai_bootstrap.judging.suite import counts, held_out_skills, load_suite
    from cai_bootstrap.measuring.facts import flagged_facts

    loaded = load_suite(suite_file or name)
    counted: dict[str, Mapping[str, int]] = {**counts(loaded.items)}
    if facts := flagged_facts(loaded.items):
        counted["facts"] = {name: len(part) for name, part in facts.items()}
    if as_json:
        plain = {key: dict(values) for key, values in counted.items()}
        print_json({"suite": loaded.name, "sha256": loaded.sha256, "n": len(loaded.items), **plain})
        return
    printed = table("", "", ">items", ">share", rows=(), title=f"{loaded.name}: {len(loaded.items)} items")
    for key, values in counted.items():
        total = sum(values.values())
        for row, (value, count) in enumerate(values.items()):
            label = f"{value} (held out)" if key == "skill" and value in held_out_skills() else value
            printed.add_row(key if row == 0 else "", text(label), str(count), f"{count / total:.0%}")
        printed.add_section()
    Console().print(printed)


@suite.command()
@_named
@_file
@click.option("--note", type=_FILE, multiple=True, help="Enter the opening of this results file, measured elsewhere.")
@json_option
def ledger(name: str, suite_file: Path | None, note: tuple[Path, ...], as_json: bool) -> None:
    """List every opening of the suite's items: when, and what was measured.

    `cai pod pull` notes what a rented machine opened; --note does it for results that came another way. Results of the
    constitution stage are noted in the ledger of their held-out prompts.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.ledger import ledger_key, ledger_path, note_opening, openings
    from cai_bootstrap.measuring.principles.results import read_principle_results
    from cai_bootstrap.measuring.results import read_results
    from cai_bootstrap.measuring.stages import stage_of_file

    loaded = load_suite(suite_file or name)
    for results in note:
        if stage_of_file(results) is CONSTITUTION:
            measured = read_principle_results(results)
            note_opening(measured)
            prompts = measured.prompts
            times = len(openings(prompts.sha256))
            say(f"{line(prompts.name)}: opened {times} times ({ledger_path(prompts.sha256)})", err=True)
        else:
            note_opening(read_results(results, loaded if suite_file else None))
    key = ledger_key(loaded)
    opened = openings(key)
    if as_json:
        print_json([entry.as_json() for entry in opened])
        return
    for entry in opened:
        elsewhere = entry.elsewhere
        there = f" (measured on another machine, there opening {elsewhere.number}; noted then)" if elsewhere else ""
        click.echo(f"{entry.number:>4}  {entry.opened_at}  {entry.what}{there}")
    click.echo(f"{loaded.name}: opened {len(opened)} times ({ledger_path(key)})")
