"""What a run left on disk, read without trust and without failing: what is not there or not sound is named instead."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import CaiError, DataError
from cai_bootstrap.events import Event, Rows, TrainingEvent, newest_training, read_events, rows, run_logs
from cai_bootstrap.files import read_json
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.origin import foreign
from cai_bootstrap.measuring.rescore import rescored_path
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.records import EvalItem
from cai_bootstrap.run.folder import Workspace
from cai_bootstrap.run.markers import DATA_REMEDY, check_outputs
from cai_bootstrap.run.record import RunRecord, read_record


@dataclass
class RunFiles:
    """A run as its files tell it. `results` and `baseline` were scored again and are sound, or they are None.

    `events` are those of the newest run, `training` the steps and looks of the newest training, which an earlier
    run may have done. `missing` names what is not there, `faults` what is there and cannot be believed.
    """

    workspace: Workspace
    run: RunRecord | None = None
    results: dict[str, Any] | None = None
    results_file: Path | None = None
    baseline: dict[str, Any] | None = None
    items: dict[str, EvalItem] = field(default_factory=dict)
    summary: dict[str, Any] | None = None
    diversity: dict[str, Any] | None = None
    preflight: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    checkpoints: Rows = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    training: list[TrainingEvent] = field(default_factory=list)
    rentals: Sequence[dict[str, Any]] = ()
    planned: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def measured(self) -> dict[str, Any] | None:
        """The evaluation, or the baseline where there is none."""
        return self.results or self.baseline

    @property
    def checkpoint(self) -> dict[str, Any] | None:
        """The marker of the adapter that was evaluated, or of the newest one."""
        used = dig(self.results, "run", "adapter", "sha256")
        own = (row for row in self.checkpoints if used and dig(row, "files", "adapter_model.safetensors") == used)
        return next(own, self.checkpoints[-1] if self.checkpoints else None)

    def data_folders(self) -> list[Path]:
        """Where the data of each round lie: the first one's in the data folder itself, later ones' below it."""
        later = [path for path in self.workspace.data.glob("round-*") if path.name.removeprefix("round-").isdigit()]
        return [self.workspace.data, *sorted(later, key=lambda path: int(path.name.removeprefix("round-")))]

    def data_rows(self, name: str) -> Rows:
        """The records of one data file over all rounds, each with its `round`."""
        folders = enumerate(self.data_folders(), 1)
        return [{**row, "round": number} for number, folder in folders for row in rows(folder / name)[0]]

    def config(self, key: str) -> Any:
        """A value of the run's configuration by its dotted name, or None."""
        return None if self.run is None else self.run.config(key)


def load(
    workspace: Workspace, rentals: Sequence[dict[str, Any]] = (), planned: dict[str, Any] | None = None
) -> RunFiles:
    """Read a run; `rentals` are those of the pod's ledger, `planned` what its preset was seen to take.

    Raises nothing that the files could be the reason of.
    """
    found = RunFiles(workspace, rentals=rentals, planned=planned)
    data, logs = workspace.data, workspace.logs
    found.run = _run(found)
    found.events = _newest_events(found)
    _measurements(found)
    found.summary = _summary(found)
    found.diversity = _object(found, data / "diversity.json", None) or dig(found.summary, "diversity")
    _data_faults(found)
    found.preflight = _object(found, logs / "pair_preflight.json", "the pairs were not checked on their tokens")
    found.model = _object(found, logs / "model.json", "no model was prepared")
    found.checkpoints = _checkpoints(found)
    found.training = newest_training(run_logs(logs))
    if not found.checkpoints:
        found.missing.append(f"{_short(found, workspace.checkpoints)}: no finished training (no TRAINING_SUCCESS)")
    if not found.training:
        found.missing.append(f"{_short(found, logs)}: no training step is recorded")
    return found


def dig(value: Any, *path: str) -> Any:
    """The value under a path of keys, or None where the path ends early."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _run(found: RunFiles) -> RunRecord | None:
    try:
        record = read_record(found.workspace)
    except DataError as error:
        found.faults.append(str(error))
        return None
    if record is None:
        found.missing.append(f"{_short(found, found.workspace.record)}: no run has ended here yet")
    return record


def _object(found: RunFiles, path: Path, when_missing: str | None) -> dict[str, Any] | None:
    if not path.exists():
        if when_missing:
            found.missing.append(f"{_short(found, path)}: {when_missing}")
        return None
    try:
        value = read_json(path)
    except DataError as error:
        found.faults.append(str(error))
        return None
    if isinstance(value, dict):
        return value
    found.faults.append(f"{path}: holds no JSON object")
    return None


def _measurements(found: RunFiles) -> None:
    folder = found.workspace.results
    suite = _own_suite(found)
    path = _results_file(found)
    if path is not None:
        found.results_file = path
        found.results = _trusted(found, path, suite)
    baseline = folder / "baseline_assessment.json"
    if baseline.exists():
        found.baseline = _trusted(found, baseline, suite)
    else:
        found.missing.append(f"{_short(found, baseline)}: the untrained base was not measured")
    if found.measured is not None:
        name = found.measured["suite"]["name"]
        held_out = suite if suite is not None and suite.name == name else load_suite(name)
        found.items = {item.id: item for item in held_out.items}


def _results_file(found: RunFiles) -> Path | None:
    folder = found.workspace.results
    there = sorted(folder.glob("stage1_evaluation_*.json"))
    named = found.run.results_file if found.run is not None else None
    if named is not None:
        path = folder / Path(named).name
        if not path.exists():
            found.faults.append(f"{path}: the results file that run.json names is not there")
            return None
        again = rescored_path(path)
        return again if again.exists() else path
    if found.run is None and there:
        found.missing.append(f"{there[-1].name} is the newest evaluation; no run.json says which run it belongs to")
        return there[-1]
    if there:
        found.missing.append(f"{there[-1].name} belongs to an earlier run and is not shown; this run has no evaluation")
    else:
        found.missing.append(f"{_short(found, folder)}: no trained model was evaluated")
    return None


def _summary(found: RunFiles) -> dict[str, Any] | None:
    """The counts of all rounds together; diversity is the first round's."""
    name = "generation_summary.json"
    whole = _object(found, found.workspace.data / name, "no data were generated")
    for folder in found.data_folders()[1:]:
        part = _object(found, folder / name, f"round {folder.name.removeprefix('round-')} is not finished")
        if whole is not None and part is not None:
            # How often a text repeats cannot be added up over rounds.
            whole = {key: value for key, value in _added(whole, part).items() if key != "effective"}
    return whole


def _data_faults(found: RunFiles) -> None:
    """Counts of data that were changed after they were made are named and not shown."""
    for number in range(1, len(found.data_folders()) + 1):
        try:
            check_outputs(found.workspace, "generate", DATA_REMEDY, number=number)
        except (CaiError, OSError) as error:
            found.faults.append(str(error))
            found.summary = found.diversity = None


def _added(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(one, dict) and isinstance(other, dict) and key != "diversity":
        names = [*one, *(name for name in other if name not in one)]
        return {name: _added(one.get(name), other.get(name), name) for name in names}
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return other if one is None else one


def _own_suite(found: RunFiles) -> Suite | None:
    name = found.config("evaluation.suite")
    if name is None:
        for path in sorted(found.workspace.logs.glob("*.config.yaml"))[-1:]:
            name = _configured_suite(path)
    if not isinstance(name, str) or name in NAMED_SUITES:
        return None
    try:
        return load_suite(name)
    except CaiError as error:
        found.faults.append(str(error))
        return None


def _configured_suite(path: Path) -> Any:
    import yaml

    try:
        return dig(yaml.safe_load(path.read_text(encoding="utf-8")), "evaluation", "suite")
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _trusted(found: RunFiles, path: Path, suite: Suite | None) -> dict[str, Any] | None:
    try:
        results = read_results(path, suite).as_dict()
        if (why := foreign(path, found.workspace)) is not None:
            found.faults.append(str(why))
            return None
        return results
    except (CaiError, ValueError, TypeError, KeyError) as error:
        found.faults.append(str(error))
        return None


def _newest_events(found: RunFiles) -> list[Event]:
    logs = run_logs(found.workspace.logs)
    if not logs:
        found.missing.append(f"{_short(found, found.workspace.logs)}: no events file")
        return []
    events, bad = read_events(logs[-1])
    if bad:
        found.faults.append(f"{logs[-1]}: {bad} lines are no events")
    return events


def _checkpoints(found: RunFiles) -> Rows:
    marked = []
    for path in sorted(found.workspace.checkpoints.glob("*/TRAINING_SUCCESS")):
        value = _object(found, path, None)
        if value is not None:
            marked.append({"folder": path.parent.name, **value})
    return sorted(marked, key=lambda row: str(row.get("finished_at", "")))


def _short(found: RunFiles, path: Path) -> str:
    base = found.workspace.base
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
