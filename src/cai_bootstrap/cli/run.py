"""`cai run` and the commands of its single steps: all supervised, timed, locked and resumable in the same way."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cai_bootstrap.cli.options import HelpWithBase, Settings, configured, json_option, print_json
from cai_bootstrap.cli.printed import say
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder

if TYPE_CHECKING:
    from cai_bootstrap.config import Resolved, RunConfig, Step
    from cai_bootstrap.events import Event
    from cai_bootstrap.pipeline import RunOutcome
    from cai_bootstrap.tracking.live import Tracking


@click.command(cls=HelpWithBase)
@configured
@json_option
def run(settings: Settings, as_json: bool) -> int:
    """All of a stage: baseline, generate, train, evaluate, gate, report.

    Stage 1 teaches to follow instructions; `--stage constitution` teaches a constitution's principles and measures
    whether they hold. Start it again after a kill or a time-out: it goes on from what is finished. Exit code 0: passed,
    not enforced, or nothing to teach. 3: the gate was not met.
    """
    from cai_bootstrap.config import STEPS

    return _run(settings, STEPS, as_json)


@click.command(cls=HelpWithBase)
@configured
@json_option
def prepare(settings: Settings, as_json: bool) -> int:
    """Fetch or convert the model, check it, and cache it for every later step."""
    return _run(settings, ("prepare",), as_json)


@click.command(cls=HelpWithBase)
@configured
@json_option
def baseline(settings: Settings, as_json: bool) -> int:
    """Measure the untrained base model on the held-out suite, plainly asked and at its best when prompted."""
    return _run(settings, ("prepare", "baseline"), as_json)


@click.command(cls=HelpWithBase)
@configured
@json_option
def generate(settings: Settings, as_json: bool) -> int:
    """Instructions → responses → critiques → revisions → preference pairs."""
    return _run(settings, ("prepare", "generate"), as_json)


@click.command(cls=HelpWithBase)
@configured
@json_option
def train(settings: Settings, as_json: bool) -> int:
    """Train LoRA adapters with DPO (and SFT) on the preference pairs."""
    return _run(settings, ("prepare", "train"), as_json)


@click.command(cls=HelpWithBase)
@configured
@json_option
def evaluate(settings: Settings, as_json: bool) -> int:
    """Measure base and trained model on the same held-out suite, and judge the result."""
    return _run(settings, ("prepare", "evaluate"), as_json)


def _run(settings: Settings, steps: Sequence["Step"], as_json: bool) -> int:
    from cai_bootstrap.tracking.live import Tracking

    resolved = settings.resolve()
    _check_early(resolved.config, steps)
    workspace = settings.workspace(resolved)
    _ask_servers(resolved.config, workspace, steps)
    with Tracking(resolved.config, workspace, screen=not as_json) as tracking:
        if as_json:
            outcome, report = _printed(resolved, workspace, steps, tracking)
        else:
            outcome, report = _shown(resolved, workspace, steps, tracking)
        if (sentence := tracking.finish(report)) is not None:
            say(sentence, err=True)
    failed = outcome.exit_code != 0
    if outcome.message and (failed or not as_json):
        say(f"error: {outcome.message}" if failed else outcome.message, err=failed)
    return outcome.exit_code


def _printed(
    resolved: "Resolved", workspace: RunFolder, steps: Sequence["Step"], tracking: "Tracking"
) -> tuple["RunOutcome", Path | None]:
    """Run the steps and print how they ended as JSON; the outcome, and the report of a whole run."""
    from cai_bootstrap.pipeline import run_pipeline

    outcome = run_pipeline(resolved, workspace, steps, on_event=tracking.see)
    report = _report(workspace) if _is_whole(steps) else None
    print_json({**outcome.as_json(), "report": report})
    return outcome, report


def _shown(
    resolved: "Resolved", workspace: RunFolder, steps: Sequence["Step"], tracking: "Tracking"
) -> tuple["RunOutcome", Path | None]:
    """The same for people: the steps as they go on, then a table of what was measured."""
    from cai_bootstrap.cli.principle_screen import principle_table
    from cai_bootstrap.cli.screen import Screen, final_table
    from cai_bootstrap.constitution import located
    from cai_bootstrap.measuring.principles.results import read_principle_results
    from cai_bootstrap.measuring.results import read_results
    from cai_bootstrap.pipeline import run_pipeline
    from cai_bootstrap.use.trained import own_suite

    with Screen() as screen:

        def show(event: "Event") -> None:
            tracking.see(event)
            screen.show(event)

        outcome = run_pipeline(resolved, workspace, steps, on_event=show)
    report = _report(workspace) if _is_whole(steps) else None
    if outcome.results_file is not None and outcome.exit_code in {0, 3}:
        files = [outcome.results_file, workspace.record, workspace.data, workspace.checkpoints]
        files += [report] if report else []
        if workspace.stage is CONSTITUTION:
            results = read_principle_results(outcome.results_file)
            principle_table(results, outcome.steps, files, located(resolved.config.constitution))
        else:
            final_table(read_results(outcome.results_file, own_suite(resolved.config)), outcome.steps, files)
    elif outcome.exit_code == 0 and outcome.verdict == "done":
        say(f"done; files are under {workspace.base}")
    return outcome, report


def _is_whole(steps: Sequence["Step"]) -> bool:
    return set(steps) >= {"baseline", "evaluate"}


def _report(workspace: RunFolder) -> Path | None:
    """The last step: the report of whatever the run left. That it fails changes no verdict, and is said."""
    try:
        from cai_bootstrap.cli.report import write_report

        return write_report(workspace)
    except Exception as error:
        say(f"WARNING: the report could not be built ({type(error).__name__}: {error}); try `cai report`", err=True)
        return None


def _check_early(config: "RunConfig", steps: Sequence["Step"]) -> None:
    """Find bad input before a step is started or a folder is made."""
    from cai_bootstrap.servers import ModelServer

    if config.track is not None:
        from cai_bootstrap.tracking.trackers import require_tracker

        require_tracker(config.track)
    if config.engine == "openai" or config.server != ModelServer() or config.judge != ModelServer():
        from cai_bootstrap.steps.servers import check_servers

        check_servers(config)
    if config.stage == "constitution":
        from cai_bootstrap.generation.principles import alone_warning
        from cai_bootstrap.judging.own.trial import must_answer
        from cai_bootstrap.judging.suite import load_suite
        from cai_bootstrap.steps.constitution.inputs import read_inputs

        if config.start_from is not None:  # its evaluation asks the suite too
            must_answer(load_suite(config.evaluation.suite).items)
        if warning := alone_warning(read_inputs(config).constitution):
            say(warning, err=True)
    else:
        _check_instructions(config, steps)


def _ask_servers(config: "RunConfig", workspace: RunFolder, steps: Sequence["Step"]) -> None:
    """Find a missing key and a dead server before a step is started."""
    if config.engine == "openai" or config.judge.endpoint is not None:
        from cai_bootstrap.steps.servers import ask_servers

        ask_servers(config, workspace, steps)


def _check_instructions(config: "RunConfig", steps: Sequence["Step"]) -> None:
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.generation.principles import alone_warning, load_checked
    from cai_bootstrap.instructions.sampler import pool_size
    from cai_bootstrap.judging.own.trial import must_answer
    from cai_bootstrap.judging.suite import USER_VERSION, load_suite

    if given := _of_the_constitution_stage(config):
        raise UsageError(f"{given} belongs to the constitution stage: add --stage constitution, or leave it out")
    if {"generate"} & set(steps):
        if warning := alone_warning(load_checked(config.constitution)):
            say(warning, err=True)
        for count in (config.generation.count, config.generation.later_count or 1):
            if count > pool_size():
                raise UsageError(f"--count {count}: the pool holds {pool_size()} instructions; ask for fewer")
    if {"baseline", "evaluate", "train", "generate"} & set(steps):
        suite, dev = load_suite(config.evaluation.suite), load_suite(config.evaluation.dev_suite)
        must_answer(suite.items)
        must_answer(dev.items)
        if suite.version == USER_VERSION and any(item.split != "test" for item in suite.items):
            raise UsageError(
                f"{config.evaluation.suite}: holds dev items, which the gate does not judge; give them as "
                "evaluation.dev_suite, and a suite of test items as --suite"
            )


def _of_the_constitution_stage(config: "RunConfig") -> str | None:
    """The first flag given that Stage 1 would ignore."""
    flags = {"--prompts": config.prompts, "--prompt-column": config.prompt_column, "--from": config.start_from}
    return next((flag for flag, value in flags.items() if value is not None), None)
