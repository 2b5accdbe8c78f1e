"""A finished run told to an experiment tracker: settings, curves, verdict and report, read from the run's own files.

It is told once, after the run, from the events; the trainer reports to nobody. trackio writes a local database
(`TRACKIO_DIR`), wandb whatever its own settings say (`WANDB_MODE=offline` for no network).
"""

import importlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.events import TrainingEvent, TrainStep, newest_training, training_offsets
from cai_bootstrap.files import read_json
from cai_bootstrap.run.folder import Workspace

PROJECT = "cai-bootstrap"
PROJECT_VARIABLE = {"trackio": "TRACKIO_PROJECT", "wandb": "WANDB_PROJECT"}


def require_tracker(name: str) -> None:
    """Raise UsageError if the tracker is not installed; it is imported only when a run is told to it."""
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"--track {name}: it is not installed; run: pip install 'cai-bootstrap[track]'")


def track_run(
    name: str, workspace: Workspace, config: dict[str, Any], ended: dict[str, Any], report: Path | None
) -> str:
    """Tell the newest run to `trackio` or `wandb`; returns what was told, in words.

    `ended` is how it ended: verdict, exit_code, message, steps, results_file. Training steps keep their numbers; those
    of later phases and rounds follow on. Raises UsageError if the tracker is not installed, DataError if there is no
    run, and whatever the tracker raises.
    """
    require_tracker(name)
    library = importlib.import_module(name)
    logs = workspace.event_files()
    if not logs:
        raise DataError(f"{workspace.logs}: no run's events are there; there is nothing to track")
    run = logs[-1].stem
    # An earlier run may have trained what this one went on with.
    curves = list(training_curves(newest_training(logs))) if "train" in ended["steps"] else []
    verdict = _verdict(ended)
    project = os.environ.get(PROJECT_VARIABLE[name], PROJECT)
    if name == "wandb":
        tracked = library.init(
            project=project, name=run, id=run, resume="allow", config=config, dir=str(workspace.logs)
        )
    else:
        tracked = library.init(
            project=project, name=run, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
    for step, figures in curves:
        tracked.log(figures, step=step)
    last = curves[-1][0] + 1 if curves else 0
    numbers = {key: value for key, value in verdict.items() if isinstance(value, int | float)}
    tracked.log(numbers, step=last)
    if name == "wandb":
        tracked.summary.update(verdict)
        if report is not None:
            tracked.save(str(report), base_path=str(report.parent), policy="now")
    else:
        tracked.log({"verdict": library.Markdown(_as_text(verdict))}, step=last + 1)
        if report is not None:
            library.save(report, project=project)
    tracked.finish()
    return f"told {name}: project {project}, run {run}, {last - 1 if curves else 0} training steps" + (
        ", the report" if report else ""
    )


def training_curves(training: Sequence[TrainingEvent]) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and figures of every training step and look at the model, on one axis for all rounds and phases."""
    offsets = training_offsets(training)
    placed = [(offsets[row.part] + row.event.number, row) for row in training]
    for step, row in sorted(placed, key=lambda each: (each[0], each[1].round, each[1].event.event)):
        kind = "train" if isinstance(row.event, TrainStep) else "watch"
        figures = row.event.figures.items()
        yield step, {f"{kind}/{name}": float(value) for name, value in figures if value is not None}


def _verdict(ended: dict[str, Any]) -> dict[str, Any]:
    """How the run ended, and the sides' rates of success where there was an evaluation."""
    verdict = {key: ended.get(key) for key in ("verdict", "exit_code", "message")}
    if ended.get("results_file"):
        try:
            rates = read_json(Path(ended["results_file"]))["statistics"]["rates"]
            verdict |= {f"success_rate/{side}": rate["success_rate"] for side, rate in rates.items()}
        except (DataError, KeyError, TypeError):
            pass  # a torn file: the message says so
    return {key: value for key, value in verdict.items() if value is not None}


def _as_text(verdict: dict[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in verdict.items())
