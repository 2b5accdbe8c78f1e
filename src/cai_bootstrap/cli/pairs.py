"""`cai pairs`: preference pairs checked before they train, brought from elsewhere, and taken elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured_by, json_option, print_json
from cai_bootstrap.cli.printed import say, table
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder

if TYPE_CHECKING:
    from cai_bootstrap.config import RunConfig
    from cai_bootstrap.steps.context import StepContext
    from cai_bootstrap.steps.import_pairs import Import
    from cai_bootstrap.training.preflight import Preflight


@click.group()
def pairs() -> None:
    """Preference pairs: check them, bring your own, take them elsewhere."""


# What decides the pairs of the constitution stage, and what is held out from them.
_STAGE_KEYS = {
    "--constitution": "constitution",
    "--prompts": "prompts",
    "--prompt-column": "prompt_column",
    "--from": "start_from",
    "--control": "control",
}


@pairs.command("check", cls=HelpWithBase)
@configured_by("--model", "--suite", "--seed", "--stage", *_STAGE_KEYS)
@json_option
def check(settings: Settings, as_json: bool) -> int:
    """Check every pair on its token ids: BOS, EOS, truncation, echoes, duplicates, leakage. Exit 1 if none is sound.

    With --stage constitution the pairs of the constitution, those replayed from Stage 1, and those of the control.
    """
    from cai_bootstrap.inference.models import load_tokenizer

    context = _context(settings)
    looks = _looks(context, load_tokenizer(context.prepared()))
    figures = {
        name: {"checked": len(look.sound) + len(look.faults), "faults": look.fault_counts, **look.figures.as_json()}
        for name, look in looks.items()
    }
    own, *others = figures
    if as_json:
        print_json({**figures[own], **{name: figures[name] for name in others}})
    else:
        for name in figures:
            if others:
                say(f"{name}:")
            _print_preflight(figures[name])
    return 0 if looks[own].sound else 1


def _context(settings: Settings) -> "StepContext":
    from cai_bootstrap.errors import UsageError

    resolved = settings.resolve()
    workspace = settings.workspace(resolved)
    given = [flag for flag, key in _STAGE_KEYS.items() if resolved.origins[key] == "command line"]
    if workspace.stage is not CONSTITUTION and given:
        raise UsageError(f"{given[0]} is read with --stage constitution alone: add that, or leave it out")
    return _context_of(resolved.config, workspace, "pairs-check")


def _context_of(config: "RunConfig", workspace: RunFolder, name: str) -> "StepContext":
    from cai_bootstrap.events import EventLog, Progress
    from cai_bootstrap.steps.context import StepContext

    progress = Progress(EventLog(workspace.events(name.replace("-", "_")), name), "pairs")
    return StepContext(config, workspace, progress, lambda: False, name)


def _looks(context: "StepContext", tokenizer: Any) -> "dict[str, Preflight]":
    """The look at each set of pairs, the one that trains the model first."""
    from cai_bootstrap.steps.constitution import train as constitution_train
    from cai_bootstrap.steps.constitution.identities import both
    from cai_bootstrap.steps.constitution.inputs import read_inputs
    from cai_bootstrap.steps.train import preflight

    if context.workspace.stage is not CONSTITUTION:
        return {"pairs": preflight(context, tokenizer)}
    folders = both(context, read_inputs(context.config))
    names = ("constitution", "control")
    return {
        name: constitution_train.preflight(context, data, tokenizer)[0]
        for name, (data, _) in zip(names, folders, strict=False)
    }


def _print_preflight(figures: dict[str, object]) -> None:
    from rich.console import Console
    from rich.text import Text

    from cai_bootstrap.printable import visible

    console = Console()
    sample = figures.get("sample", [])
    for name, value in figures.items():
        if name != "sample":
            console.print(f"{name}: {value}", highlight=False)
    columns = ("prompt", "chosen", "rejected", "label")
    pairs_to_read = sample if isinstance(sample, list) else []
    # Line breaks of an answer stay.
    rows = [[Text(visible(str(pair[column]))) for column in columns] for pair in pairs_to_read]
    console.print(table(*columns, rows=rows, title="ten pairs to read", ruled=True))


@pairs.command("import", cls=HelpWithBase)
@click.argument("source")
@configured_by("--model", "--suite", "--seed", "--prompt-column", "--force-data")
@click.option("--chosen-column", default="chosen", show_default=True, help="The column with the better answers.")
@click.option("--rejected-column", default="rejected", show_default=True, help="The column with the worse answers.")
@click.option("--split", default=None, help="The split of a dataset of the hub; else train, or its first.")
@click.option("--limit", type=click.IntRange(1), default=None, help="Read the first rows alone, so many.")
@json_option
def import_command(
    source: str,
    settings: Settings,
    chosen_column: str,
    rejected_column: str,
    split: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Bring pairs of your own: SOURCE is a file (JSON lines, JSON, CSV, TSV, Parquet) or a dataset's id on the hub.

    They take the place of generated pairs in the base directory: `cai train` trains on them, `cai run` generates
    nothing. Rows that may not train are kept in rejected_pairs.jsonl, each with its reason.
    """
    from cai_bootstrap.instructions.pair_rows import Columns
    from cai_bootstrap.steps.import_pairs import Source, import_pairs

    resolved = settings.resolve()
    named = resolved.config.prompt_column
    columns = Columns(named or "prompt", chosen_column, rejected_column)
    context = _context_of(resolved.config, settings.workspace(resolved), "pairs-import")
    done = import_pairs(context, Source(source, columns, named is not None, split, limit))
    if as_json:
        counts = {**done.summary.as_json(), "first_places": done.first_places, "there_before": done.there_before}
        print_json({**counts, "data": str(context.data.path)})
    else:
        _print_import(done, context)


def _print_import(done: "Import", context: "StepContext") -> None:
    from rich.console import Console

    summary, data = done.summary, context.data
    rows = [("rows read", f"{summary.produced or 0:,}", "")]
    lost = sorted(summary.dropped.items(), key=lambda entry: -entry[1])
    rows += [(f"dropped: {r.replace('_', ' ')}", f"{n:,}", f"{done.first_places[r]:,}") for r, n in lost]
    rows += [("pairs that may train", f"{summary.pairs or 0:,}", "")]
    Console().print(table("pairs", ">count", ">first line or row", rows=rows))
    if summary.imported is not None:
        forms = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in summary.imported.forms.items())
        say(f"From {summary.imported.described()}; forms: {forms}.")
    if done.there_before:
        say(f"{data.path} holds these pairs already; nothing was changed.")
    else:
        say(f"Written to {data.pairs}; what was dropped is in {data.rejected.name} beside it. Next: cai train")


@pairs.command("export", cls=HelpWithBase)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@configured_by("--stage")
@click.option(
    "--format",
    "form",
    type=click.Choice(["plain", "messages", "prompts"]),
    default="plain",
    show_default=True,
    help="Pairs as texts, or as lists of messages; or the instructions as prompts with their verifiers.",
)
@json_option
def export_command(file: Path, settings: Settings, form: Any, as_json: bool) -> None:
    """Write the pairs of all rounds to FILE as JSON lines that TRL loads: `prompt`, `chosen`, `rejected`.

    With --format prompts the instructions that a rule can judge, for TRL's GRPO: `prompt`, and what the rule needs.
    """
    from cai_bootstrap.use.pairs_file import export_pairs
    from cai_bootstrap.use.prompts_file import export_prompts

    workspace = settings.workspace(settings.resolve())
    count = export_prompts(workspace, file) if form == "prompts" else export_pairs(workspace, file, form)
    unit = "prompts" if form == "prompts" else "pairs"
    if as_json:
        print_json({"file": str(file), "format": form, unit: count})
    else:
        say(f"{count:,} {unit} in {file}")
