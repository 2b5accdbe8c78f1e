"""`cai inspect-task` and `cai verifiers-env`: the suite in other people's programs, scored by our own scorers."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cai_bootstrap.cli.options import json_option, print_json

MAX_NEW_TOKENS = 48
_target = click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A new folder.")
_suite = click.option("--suite", "name", default="stage1", help="A named suite, or a suite file. [default: stage1]")
_tokens = click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=MAX_NEW_TOKENS, help="Of an answer. [default: 48]"
)


def _written_suite(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that writes a suite for another program."""
    return _target(_suite(_tokens(json_option(command))))


@click.command("inspect-task")
@_written_suite
def inspect_task(target: Path, name: str, max_new_tokens: int, as_json: bool) -> None:
    """Write the suite as a task for Inspect (`inspect eval FILE@TASK --model ...`).

    Inspect knows why an answer ended, so its rate is our strict one. Ask a model by a chat template that renders a
    message as the model was trained to be asked; `cai export` writes one.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.use.inspect_task import write_inspect_task

    task = write_inspect_task(load_suite(name), target, max_new_tokens=max_new_tokens)
    if as_json:
        print_json(asdict(task))
        return
    click.echo(f"{task.task}: {task.items} items, in {task.folder}")
    click.echo(f"inspect eval {task.file}@{task.task} --model hf/local -M model_path=MODEL -M do_sample=false")


@click.command("verifiers-env")
@_written_suite
def verifiers_env(target: Path, name: str, max_new_tokens: int, as_json: bool) -> None:
    """Write the suite as an environment of verifiers, a package for `vf-eval` and prime-rl.

    The reward is 1 where the whole answer follows its instruction and the model ended it. A test suite is for
    measuring: train on other items, or what is measured is what was trained on.
    """
    from cai_bootstrap.judging.suite import load_suite
    from cai_bootstrap.use.verifiers_env import write_verifiers_env

    environment = write_verifiers_env(load_suite(name), target, max_new_tokens=max_new_tokens)
    if as_json:
        print_json(asdict(environment))
        return
    click.echo(f"{environment.name}: {environment.items} tasks, in {environment.folder}")
    click.echo(f"pip install --no-deps {environment.folder}")
    click.echo(f"vf-eval {environment.name} --model NAME --client.base-url URL --sampling.temperature 0 --no-push")
