"""`cai prompts`, `cai pairs` and `cai config`: looking at what a run would use, without running it."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured, configured_by, json_option, print_json
from cai_bootstrap.cli.printed import say, table
from cai_bootstrap.run.folder import CONSTITUTION

if TYPE_CHECKING:
    from cai_bootstrap.steps.context import StepContext
    from cai_bootstrap.training.preflight import Preflight


@click.group()
def prompts() -> None:
    """The exact prompts that generation uses, and the prompts that a constitution is taught on."""


@prompts.command("show")
@click.argument("kind", type=click.Choice(["respond", "critique", "revise"]))
@click.option("--instruction", required=True, help="The instruction to be answered.")
@click.option("--response", default="[the model's response]", help="The response to criticise or revise.")
@click.option("--critique", default="[the model's critique]", help="The critique to revise by.")
@click.option("--principle", "principle_id", default=None, help="A principle's id; the first one if left out.")
@click.option("--constitution", type=click.Path(path_type=Path), default=None, help="The constitution (YAML).")
@click.option("--skill", default="", help="Show exemplars of this skill; mixed ones if left out.")
@click.option("--type", "kind_of_task", default="question", help="The instruction's type.")
@click.option("--shots", default=4, show_default=True, help="How many exemplars to show.")
@click.option("--seed", default=0, show_default=True, help="Seed of the exemplars.")
@json_option
def show_prompt(
    kind: str,
    instruction: str,
    response: str,
    critique: str,
    principle_id: str | None,
    constitution: Path | None,
    skill: str,
    kind_of_task: str,
    shots: int,
    seed: int,
    as_json: bool,
) -> None:
    """Print the prompt that a base model would be given to respond, criticise or revise.

    A principle's own demonstrations stand in it, if it has any. With --principle, `respond` shows their better answers
    as direct examples: how the base is asked without critique.
    """
    from cai_bootstrap.constitution import load_constitution
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.generation import prompts as wording
    from cai_bootstrap.instructions.exemplars import draw, draw_mixed
    from cai_bootstrap.records import TASK_TYPES
    from cai_bootstrap.shipped import shipped

    loaded = load_constitution(constitution or shipped("constitution.yaml"))
    principle = loaded.principle(principle_id) if principle_id else loaded.principles[0]
    task = next((t for t in TASK_TYPES if t == kind_of_task), None)
    if task is None:
        raise UsageError(f"--type {kind_of_task}: one of {', '.join(TASK_TYPES)}")
    exemplars = (
        draw(skill, task, shots, seed=seed, exclude=instruction)
        if skill
        else draw_mixed(task, shots, seed=seed, exclude=instruction)
    )
    own = wording.own_cases(principle, seed=seed, use=f"{kind}:{instruction}", exclude=instruction)
    cases = own or wording.worked_examples(exemplars, seed=seed)
    text = {
        "respond": lambda: (
            wording.direct_prompt(instruction, own)
            if principle_id and own
            else wording.respond_prompt(instruction, exemplars)
        ),
        "critique": lambda: wording.critique_prompt(instruction, response, principle, cases),
        "revise": lambda: wording.revise_prompt(instruction, response, critique, principle, cases),
    }[kind]()
    if as_json:
        print_json(
            {"kind": kind, "prompt": text, "principle_id": principle.id, "prompt_version": wording.PROMPT_VERSION}
        )
    else:
        click.echo(text)


@prompts.command("check")
@click.argument("source", required=False)
@click.option("--prompt-column", default=None, help="The column with the prompts; else the first known one.")
@click.option("--seed", default=0, show_default=True, help="Seed of the split, the same as for the run.")
@json_option
def check_prompts(source: str | None, prompt_column: str | None, seed: int, as_json: bool) -> None:
    """Read and split the prompts of SOURCE, a file or a hub id, as a run would; the shipped ones if left out."""
    from cai_bootstrap.instructions.prompt_set import load_prompt_set

    loaded = load_prompt_set(source, column=prompt_column, seed=seed)
    if as_json:
        print_json({"name": loaded.name, "sha256": loaded.sha256, "seed": seed, **loaded.counts.model_dump()})
        return
    from rich.console import Console

    counts = loaded.counts
    rows = [("read", f"{counts.read:,}")]
    rows += [(f"dropped: {reason.replace('_', ' ')}", f"{count:,}") for reason, count in counts.dropped.items()]
    rows += [("kept", f"{counts.kept:,}")]
    for split in ("train", "dev", "test", "unseen"):
        group = getattr(loaded, split)
        kinds = Counter(prompt.kind.replace("_", "/") for prompt in group)
        rows += [(f"{split}: {kind}", f"{count:,}") for kind, count in sorted(kinds.items())]
    Console().print(table("prompts", ">count", rows=rows, title=loaded.name))
    for sentence in (*counts.remarks(), f"sha256 {loaded.sha256}"):
        say(sentence)


@click.group()
def pairs() -> None:
    """Preference pairs, before they train."""


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
    from cai_bootstrap.events import EventLog, Progress
    from cai_bootstrap.steps.context import StepContext

    resolved = settings.resolve()
    workspace = settings.workspace(resolved)
    given = [flag for flag, key in _STAGE_KEYS.items() if resolved.origins[key] == "command line"]
    if workspace.stage is not CONSTITUTION and given:
        raise UsageError(f"{given[0]} is read with --stage constitution alone: add that, or leave it out")
    progress = Progress(EventLog(workspace.events("pairs_check"), "pairs-check"), "pairs")
    return StepContext(resolved.config, workspace, progress, lambda: False, "pairs-check")


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


@click.group()
def config() -> None:
    """The configuration of a run."""


@config.command("show", cls=HelpWithBase)
@configured
@json_option
def show_config(settings: Settings, as_json: bool) -> None:
    """Print each value with where it came from."""
    from cai_bootstrap.config import show

    rows = show(settings.resolve())
    if as_json:
        print_json({key: {"value": value, "from": origin} for key, value, origin in rows})
        return
    from rich.console import Console

    cells = [(key, "" if value is None else value, origin) for key, value, origin in rows]
    Console().print(table("key", "value", "from", rows=cells))


@config.command("presets")
@json_option
def presets(as_json: bool) -> None:
    """List the presets that ship with the product."""
    from cai_bootstrap.config import preset_names
    from cai_bootstrap.shipped import shipped

    names = preset_names()
    about = {n: (shipped("configs") / f"{n}.yaml").read_text().splitlines()[0].removeprefix("# ") for n in names}
    if as_json:
        print_json(about)
        return
    for name, text in about.items():
        click.echo(f"{name:<20} {text}")
