"""A finished run told to an experiment tracker: settings, curves, verdict and report, read from the run's own files.

It is told once, after the run, from the events; the trainer reports to nobody. trackio writes a local database
(`TRACKIO_DIR`), wandb whatever its own settings say (`WANDB_MODE=offline` for no network).
"""

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError, UntrustedResultError, UsageError
from cai_bootstrap.events import TrainingEvent, TrainStep, newest_training, training_offsets
from cai_bootstrap.measuring.declared import StoredRates
from cai_bootstrap.measuring.principles.declared import StoredPrincipleRates
from cai_bootstrap.pipeline import RunOutcome
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.run.markers import read_typed, trained_folder

PROJECT = "cai-bootstrap"
PROJECT_VARIABLE = {"trackio": "TRACKIO_PROJECT", "wandb": "WANDB_PROJECT"}


def require_tracker(name: str) -> None:
    """Raise UsageError if the tracker is not installed; it is imported only when a run is told to it."""
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"--track {name}: it is not installed; run: pip install 'cai-bootstrap[track]'")


def track_run(name: str, workspace: RunFolder, config: RunConfig, outcome: RunOutcome, report: Path | None) -> str:
    """Tell the newest run to `trackio` or `wandb`; returns in words what was told.

    Training steps keep their numbers; those of later phases and rounds follow on. Raises UsageError if the tracker is
    not installed, DataError if there is no run, and whatever the tracker raises.
    """
    require_tracker(name)
    library = importlib.import_module(name)
    logs = workspace.event_files()
    if not logs:
        raise DataError(f"{workspace.logs}: no run's events are there; there is nothing to track")
    run = logs[-1].stem
    # An earlier run may have trained what this one went on with.
    adapter = trained_folder(workspace) if workspace.stage is CONSTITUTION else None  # a control is trained beside it
    curves = list(training_curves(newest_training(logs, adapter))) if "train" in outcome.steps else []
    verdict = _verdict(outcome)
    settings = config.model_dump(mode="json")
    project = os.environ.get(PROJECT_VARIABLE[name], PROJECT)
    if name == "wandb":
        record = library.init(
            project=project, name=run, id=run, resume="allow", config=settings, dir=str(workspace.logs)
        )
    else:
        record = library.init(
            project=project, name=run, config=settings, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
    for step, figures in curves:
        record.log(figures, step=step)
    last = curves[-1][0] + 1 if curves else 0
    numbers = {key: value for key, value in verdict.items() if isinstance(value, int | float)}
    record.log(numbers, step=last)
    if name == "wandb":
        record.summary.update(verdict)
        if report is not None:
            record.save(str(report), base_path=str(report.parent), policy="now")
    else:
        record.log({"verdict": library.Markdown(_as_text(verdict))}, step=last + 1)
        if report is not None:
            library.save(report, project=project)
    record.finish()
    return f"told {name}: project {project}, run {run}, {last - 1 if curves else 0} training steps" + (
        ", the report" if report else ""
    )


def training_curves(training: Sequence[TrainingEvent]) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and figures of every training step and look at the model, on one axis for all rounds and phases."""
    offsets = training_offsets(training)
    numbered = [(offsets[row.part] + row.event.number, row) for row in training]
    for step, row in sorted(numbered, key=lambda each: (each[0], each[1].round, each[1].event.event)):
        kind = "train" if isinstance(row.event, TrainStep) else "watch"
        figures = row.event.figures.items()
        yield step, {f"{kind}/{name}": float(value) for name, value in figures if value is not None}


def _verdict(outcome: RunOutcome) -> dict[str, str | float]:
    """How the run ended, and the rates of sides or arms where there was an evaluation that can be read."""
    figures: dict[str, str | float | None] = {
        "verdict": outcome.verdict,
        "exit_code": outcome.exit_code,
        "message": outcome.message,
    }
    if outcome.results_file is not None:
        with contextlib.suppress(UntrustedResultError):  # a torn file: the message says so
            figures |= _rates(outcome.results_file)
    return {key: value for key, value in figures.items() if value is not None}


def _rates(results: Path) -> dict[str, float | None]:
    """The rates that a results file states: `success_rate/trained`; of principles `thanks/trained`, by first line."""
    if results.name.startswith(CONSTITUTION.evaluation):
        principles = read_typed(results, StoredPrincipleRates, "").principles
        return {f"{id}/{arm}": rate for id, arms in principles.items() for arm, rate in arms.rates().items()}
    sides = read_typed(results, StoredRates, "").statistics.rates
    return {f"success_rate/{side}": rate.success_rate for side, rate in sides.items()}


def _as_text(verdict: dict[str, str | float]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in verdict.items())
