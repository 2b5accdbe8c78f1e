"""`cai prompts` and `cai config`: looking at what a run would use, without running it."""

from collections import Counter
from pathlib import Path

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured, json_option, print_json
from cai_bootstrap.cli.printed import say, table


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
