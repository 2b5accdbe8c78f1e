"""`cai ask`, `cai chat`, `cai export`, `cai push` and `cai lm-eval-task`: the trained model in hand, and elsewhere."""

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured_by, folder_of, json_option, print_json
from cai_bootstrap.cli.printed import line, say
from cai_bootstrap.printable import is_text, visible

if TYPE_CHECKING:
    from cai_bootstrap.config import RunConfig
    from cai_bootstrap.inference.gguf_writing import Stored
    from cai_bootstrap.run.folder import RunFolder
    from cai_bootstrap.use.ask import Asker, Reply
    from cai_bootstrap.use.known import Known

_LABELS = {"base": "base, asked plainly", "prompted": "best prompted base", "trained": "trained"}
_sides = click.option(
    "--side", "sides", multiple=True, type=click.Choice(list(_LABELS)), help="Only this side; may be repeated."
)


@click.command(cls=HelpWithBase)
@click.argument("instructions", nargs=-1, required=True, metavar="INSTRUCTION...")
@_sides
@configured_by("--model", "--stage", "--adapter", "--seed", "--precision", "--suite")
@json_option
def ask(instructions: tuple[str, ...], sides: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """Ask base, best prompted base and trained model, side by side.

    Where an instruction is an item of a suite or of this run's data, each answer is judged by the same strict checks as
    in the evaluation; an opened test item goes into the suite's ledger. A model of the constitution stage is judged by
    the rules of the principles that were measured. Stage 1's model is asked if there is one, unless --stage says which.
    """
    asker = _open(settings, quiet=as_json)
    rows = []
    for instruction in instructions:
        if as_json:
            rows.append(_asked(asker, instruction, sides))
        else:
            _show(asker, instruction, sides)
    if as_json:
        print_json(rows)


@click.command(cls=HelpWithBase)
@_sides
@configured_by("--model", "--stage", "--adapter", "--seed", "--precision", "--suite")
def chat(sides: tuple[str, ...], settings: Settings) -> None:
    """Ask one instruction after the other. Each is asked alone: the model sees nothing of those before it.

    End with Ctrl-D, or /quit.
    """
    asker = _open(settings, quiet=False)
    click.echo("one instruction a line; /quit or Ctrl-D ends")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if line == "/quit":
            return
        if not is_text(line):
            click.echo("error: that line is not UTF-8 text, so it was not asked", err=True)
        elif line:
            _show(asker, line, sides)


@click.command(cls=HelpWithBase)
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--merge", is_flag=True, help="Add the adapter into the base's weights, so that PEFT is not needed.")
@click.option(
    "--gguf",
    type=click.Choice(["f16", "q8_0"]),
    default=None,
    help="Instead: the merged model as one GGUF file, with a Modelfile for Ollama.",
)
@click.option(
    "--converter",
    type=click.Path(path_type=Path),
    default=None,
    help="With --gguf: llama.cpp's convert_hf_to_gguf.py, for models that are not Gemma 3.",
)
@click.option(
    "--licence", "--license", "license_id", default=None, help="The base model's licence, as the hub's id for it."
)
@configured_by("--model", "--stage", "--adapter", "--precision", "--suite")
@json_option
def export(
    target: Path,
    merge: bool,
    gguf: "Stored | None",
    converter: Path | None,
    license_id: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Write the trained model with its tokenizer and card, and the pairs with theirs.

    The tokenizer's chat template shows the model the last user message as `cai ask` does.
    The cards' figures come from the newest evaluation of this very adapter, scored again; a file that is not true is
    refused with exit code 4.
    """
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.inference.models import prepare
    from cai_bootstrap.supervise import leaving_cleanly
    from cai_bootstrap.use.export import export as write_export
    from cai_bootstrap.use.gguf import Wanted

    if converter is not None and gguf is None:
        raise UsageError("--converter: it writes GGUF files; say which with --gguf f16 or --gguf q8_0")
    config, workspace = _of_the_run(settings)
    form = None if gguf is None else Wanted(gguf, converter)
    with leaving_cleanly():
        prepared = prepare(config.model, revision=config.revision, say=_aside)
        exported = write_export(
            config, workspace, prepared, target.absolute(), merge=merge, gguf=form, license=license_id, say=_aside
        )
    if as_json:
        print_json(asdict(exported))
        return
    click.echo(f"model: {exported.model}")
    click.echo(f"dataset: {exported.dataset or 'not written: the pairs that trained this adapter are not there'}")
    click.echo(f"measured: {exported.results_file or 'no'}")


@click.command()
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--from", "source", type=click.Path(path_type=Path), required=True, help="A folder by `cai export`.")
@click.option("--dataset", is_flag=True, help="Push the pairs instead of the model.")
@click.option("--public", is_flag=True, help="Make the repository public. Without this it is private.")
@json_option
def push(repository: str, source: Path, dataset: bool, public: bool, as_json: bool) -> None:
    """Upload an export to the Hugging Face hub, or to the one that $HF_ENDPOINT names. Private by default."""
    from cai_bootstrap.use.hub import push as push_export

    kind = "dataset" if dataset else "model"
    upload = push_export(source / kind if (source / kind).is_dir() else source, repository, kind=kind, public=public)
    if as_json:
        print_json(asdict(upload))
    else:
        click.echo(f"{kind} pushed to {upload.repository} ({'private' if upload.private else 'public'}): {upload.url}")
        if kind == "model":
            say("whether a model wrote the answers behind its card's figures: `cai verify RESULTS` on their file")


@click.command("lm-eval-task")
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--suite", "name", default=None, help="A named suite, or a suite file. [default: stage1]")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=None, help="Of the suite's task. [default: 48]")
@click.option(
    "--results",
    type=click.Path(path_type=Path, readable=False),
    help="Instead of a suite: the held-out prompts of this results file of the constitution stage.",
)
@json_option
def lm_eval_task(
    target: Path, name: str | None, max_new_tokens: int | None, results: Path | None, as_json: bool
) -> None:
    """Write the suite as a task for lm-evaluation-harness (`lm_eval --include_path DIR --tasks ...`).

    The harness knows no EOS: its rate equals ours for exact-match items, and is an upper bound for the others. Of a
    constitution's results, each principle that a rule judges becomes a metric, by first line; there the rates are ours.
    """
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.measuring.principles.results import read_principle_results
    from cai_bootstrap.use.lm_eval import write_task
    from cai_bootstrap.use.lm_eval_principles import write_principle_task

    if results is not None:
        if name is not None or max_new_tokens is not None:
            raise UsageError("--results: the file names its prompts and tokens; leave out --suite and --max-new-tokens")
        task = write_principle_task(read_principle_results(results), target)
    else:
        task = write_task(load_suite(name or "stage1"), target, max_new_tokens=max_new_tokens or 48)
    if as_json:
        print_json(asdict(task))
        return
    click.echo(f"{task.task}: {task.items} items, in {task.folder}")
    if task.exact:
        click.echo(f"{task.exact}: the {task.exact_items} exact-match items")
    click.echo(f"lm_eval --include_path {task.folder} --tasks {task.exact or task.task} --model hf --model_args ...")


def _aside(message: str) -> None:
    click.echo(message, err=True)


def _of_the_run(settings: Settings) -> "tuple[RunConfig, RunFolder]":
    """What was said, and for what was not, the settings of the run in the base directory."""
    from cai_bootstrap.use.run_settings import as_the_run, of_the_stage

    resolved = of_the_stage(settings.resolve(), folder_of)
    workspace = settings.workspace(resolved)
    return as_the_run(resolved, workspace, say=_aside), workspace


def _open(settings: Settings, *, quiet: bool) -> "Asker":
    from cai_bootstrap.inference.models import prepare
    from cai_bootstrap.use.ask import Asker

    # transformers' own progress bars would run through the answers.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    config, workspace = _of_the_run(settings)
    prepared = prepare(config.model, revision=config.revision, say=_aside)
    asker = Asker(config, workspace, prepared, say=lambda _: None)
    for side, reason in {} if quiet else asker.missing.items():
        _aside(f"not there: {_LABELS[side]} ({reason})")
    return asker


def _wanted(asker: "Asker", sides: Iterable[str]) -> Any:
    """The sides to ask, in their fixed order. Raises UsageError for one that was named and is not there."""
    from cai_bootstrap.errors import UsageError

    named = set(sides)
    for side, reason in asker.missing.items():
        if side in named:
            raise UsageError(f"--side {side}: {reason}")
    return tuple(side for side in asker.sides if not named or side in named)


def _asked(asker: "Asker", instruction: str, sides: Iterable[str]) -> dict[str, Any]:
    match = asker.recognise(instruction)
    replies = asker.ask(instruction, match, _wanted(asker, sides), lambda _side, _text: None)
    return {
        "instruction": instruction,
        "judged_as": None if match is None else {"id": match.id, "source": match.source},
        "rendering": None if asker.prompted is None else asker.prompted.name,
        "adapter": None if asker.checkpoint is None else asker.checkpoint.sha256,
        "missing": asker.missing,
        "answers": {
            r.side: {**{k: v for k, v in asdict(r).items() if k not in {"side", "verdict"}}, "verdict": r.verdict
                     and r.verdict.model_dump()}
            for r in replies
        },
    }  # fmt: skip


def _show(asker: "Asker", instruction: str, sides: Iterable[str]) -> None:
    """A live table in a terminal, plain sections anywhere else."""
    from rich.console import Console

    match = asker.recognise(instruction)
    asked_sides = _wanted(asker, sides)
    console = Console(soft_wrap=True)
    if console.is_terminal:
        _show_live(asker, instruction, match, asked_sides)
        return
    click.echo(f"instruction: {visible(instruction)}")
    for reply in asker.ask(instruction, match, asked_sides, lambda _side, _text: None):
        click.echo(f"{_label(asker, reply.side)}: {visible(reply.text.strip())}{_ending(reply)}")
        if judgement := _judgement(reply):
            click.echo(f"    {visible(judgement)}")
    click.echo(_judged_as(match))


def _show_live(asker: "Asker", instruction: str, known: "Known | None", wanted: Any) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    texts = dict.fromkeys(wanted, "")
    verdicts = dict.fromkeys(wanted, "")

    def table() -> Table:
        # Of the screen's whole width, so that the columns keep their places while the answers come.
        grid = Table(title=Text(visible(instruction)), title_justify="left", caption=_judged_as(known), expand=True)
        for side in wanted:
            grid.add_column(_label(asker, side), overflow="fold", ratio=1)
        grid.add_row(*(Text(visible(texts[side].strip())) for side in wanted))
        if known is not None:
            grid.add_section()
            grid.add_row(*(Text(visible(verdicts[side])) for side in wanted))
        return grid

    console = Console()
    with Live(table(), console=console, refresh_per_second=8) as live:

        def heard(side: str, text: str) -> None:
            texts[side] = text
            live.update(table())

        for reply in asker.ask(instruction, known, wanted, heard):
            texts[reply.side] = reply.text.strip() + _ending(reply)
            verdicts[reply.side] = _judgement(reply)
            live.update(table())


def _label(asker: "Asker", side: str) -> str:
    named = side == "prompted" and asker.prompted is not None
    return f"{_LABELS[side]} ({asker.prompted.name})" if named and asker.prompted else _LABELS[side]


def _ending(reply: "Reply") -> str:
    return f" [cut at {reply.tokens} tokens]" if reply.ended_by == "length" else ""


def _judgement(reply: "Reply") -> str:
    """How the answer was judged, in a line; empty if nothing judges it."""
    by = f"(judged by its {reply.judged_by})"
    if reply.verdict is not None:
        return f"{'follows' if reply.verdict.success else f'does not follow: {reply.verdict.reason}'} {by}"
    kept = [f"{'keeps' if keeps else 'does not keep'} {line(id)}" for id, keeps in reply.principles.items()]
    return f"{', '.join(kept)} {by}" if kept else ""


def _judged_as(known: "Known | None") -> str:
    return "no rule judges this instruction" if known is None else f"judged as {known.id} ({line(known.source)})"
