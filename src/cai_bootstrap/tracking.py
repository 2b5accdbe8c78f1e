"""A finished run told to an experiment tracker: settings, curves, verdict and report, read from the run's own files.

It is told once, after the run, from the events; the trainer reports to nobody. trackio writes a local database
(`TRACKIO_DIR`), wandb whatever its own settings say (`WANDB_MODE=offline` for no network).
"""

import importlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.workspace import Workspace, read_json

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

    `ended` is how it ended: verdict, exit_code, message, results_file. Training steps keep their numbers; those of
    later phases and rounds follow on. Raises UsageError if the tracker is not installed, DataError if there is no run,
    and whatever the tracker raises.
    """
    require_tracker(name)
    library = importlib.import_module(name)
    events = max(workspace.logs.glob("*.jsonl"), default=workspace.logs / "run.jsonl")
    run = events.stem
    curves = list(training_curves(events))
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


def training_curves(events: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and figures of every training step and look at the model, in the order in which they happened.

    Raises DataError if there is no such file.
    """
    if not events.exists():
        raise DataError(f"{events}: no such file; there is nothing to track")
    base = last = 0
    for line in events.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # torn by a kill
        kind = event.get("event")
        if kind == "step_started" and event.get("step") == "train":
            base = last
        if kind not in {"train_step", "watch"}:
            continue
        number = int(event["number"])
        if kind == "train_step":
            if number == 1 and base + 1 <= last:
                base = last  # the next phase of one training counts from one again
            last = base + number
            figures = {f"train/{key}": value for key, value in event["figures"].items()}
        else:
            figures = {f"watch/{key}": value for key, value in event.items() if key not in {"number", "phase"}}
        yield last, {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}


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
