"""What a run left on disk, read without trust and without failing: what is not there or not sound is named instead."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cai_bootstrap.errors import CaiError, DataError, UntrustedResultError
from cai_bootstrap.events import Event, TrainingEvent, newest_training, read_events, rows
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.origin import foreign
from cai_bootstrap.measuring.rescore import RescoredBlock, read_block, rescored_path
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.records import (
    Critique,
    EvalItem,
    Instruction,
    PreferencePair,
    Record,
    RejectedPair,
    Response,
    Revision,
)
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.run.counts import Counts, Diversity, GenerationSummary, ModelRecord, PreflightReport, read_counts
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import DATA_REMEDY, SuccessMarker, check_outputs, read_typed
from cai_bootstrap.run.record import RunRecord, read_record

CountsT = TypeVar("CountsT", bound=Counts)
RecordT = TypeVar("RecordT", bound=Record)
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Fault:
    """What is there and cannot be believed; `path` is None where the reason names its files itself."""

    path: Path | None
    reason: str

    @classmethod
    def of(cls, path: Path, error: Exception) -> "Fault":
        """The fault of a file that could not be read."""
        return cls(path, str(error).removeprefix(f"{path}: "))

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Adapter:
    """A finished training: its folder's name, and its marker."""

    folder: str
    marker: SuccessMarker

    @property
    def sha256(self) -> str | None:
        """The hash of the adapter's weights."""
        return self.marker.files.get(ADAPTER)


@dataclass
class RunData:
    """The records of all rounds, each with the number of its round."""

    instructions: list[tuple[int, Instruction]] = field(default_factory=list)
    responses: list[tuple[int, Response]] = field(default_factory=list)
    critiques: list[tuple[int, Critique]] = field(default_factory=list)
    revisions: list[tuple[int, Revision]] = field(default_factory=list)
    pairs: list[tuple[int, PreferencePair]] = field(default_factory=list)
    rejected: list[tuple[int, RejectedPair]] = field(default_factory=list)


@dataclass
class RunFiles:
    """A run as its files tell it. `results` and `baseline` were scored again and are sound, or they are None.

    `events` are those of the newest run, `training` the steps and looks of the newest training, which an earlier
    run may have done. `missing` names what is not there, `faults` what is there and cannot be believed.
    """

    workspace: RunFolder
    record: RunRecord | None = None
    results: Results | None = None
    results_file: Path | None = None
    baseline: Results | None = None
    rescored: RescoredBlock | None = None
    items: dict[str, EvalItem] = field(default_factory=dict)
    data: RunData = field(default_factory=RunData)
    summary: GenerationSummary | None = None
    diversity: Diversity | None = None
    preflight: PreflightReport | None = None
    model: ModelRecord | None = None
    adapters: list[Adapter] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    training: list[TrainingEvent] = field(default_factory=list)
    rentals: Sequence[Rental] = ()
    planned: Plan | None = None
    missing: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def measured(self) -> Results | None:
        """The evaluation, or the baseline where there is none."""
        return self.results or self.baseline

    @property
    def evaluated_adapter(self) -> str | None:
        """The hash of the adapter that was evaluated."""
        run = self.results.run if self.results is not None else None
        return None if run is None or run.adapter is None else run.adapter.sha256

    @property
    def adapter(self) -> SuccessMarker | None:
        """The marker of the adapter that was evaluated, or of the newest one."""
        used = self.evaluated_adapter
        own = (adapter.marker for adapter in self.adapters if used and adapter.sha256 == used)
        return next(own, self.adapters[-1].marker if self.adapters else None)

    def config(self, key: str) -> Any:
        """A value of the run's configuration by its dotted name, or None."""
        return None if self.record is None else self.record.config(key)


def load(workspace: RunFolder, rentals: Sequence[Rental] = (), planned: Plan | None = None) -> RunFiles:
    """Read a run; `rentals` are those of the pod's ledger, `planned` what its preset was seen to take.

    Raises nothing that the files could be the reason of.
    """
    run = RunFiles(workspace, rentals=rentals, planned=planned)
    run.record = _record(run)
    run.events = _newest_events(run)
    _measurements(run)
    run.data = _data(run)
    run.summary = _summary(run)
    run.diversity = _counts(run, workspace.round_data(1).diversity, Diversity, None)
    if run.diversity is None and run.summary is not None:
        run.diversity = run.summary.diversity
    _data_faults(run)
    run.preflight = _counts(run, workspace.preflight, PreflightReport, "the pairs were not checked on their tokens")
    run.model = _counts(run, workspace.model, ModelRecord, "no model was prepared")
    run.adapters = _adapters(run)
    run.training = newest_training(workspace.event_files())
    if not run.adapters:
        run.missing.append(
            f"{run.workspace.relative(workspace.checkpoints)}: no finished training (no TRAINING_SUCCESS)"
        )
    if not run.training:
        run.missing.append(f"{run.workspace.relative(workspace.logs)}: no training step is recorded")
    return run


def _record(run: RunFiles) -> RunRecord | None:
    path = run.workspace.record
    try:
        record = read_record(run.workspace)
    except DataError as error:
        run.faults.append(Fault.of(path, error))
        return None
    if record is None:
        run.missing.append(f"{run.workspace.relative(path)}: no run has ended here yet")
    return record


def _counts(run: RunFiles, path: Path, kind: type[CountsT], when_missing: str | None) -> CountsT | None:
    if not path.exists():
        if when_missing:
            run.missing.append(f"{run.workspace.relative(path)}: {when_missing}")
        return None
    try:
        return read_counts(path, kind)
    except DataError as error:
        run.faults.append(Fault.of(path, error))
        return None


def _data(run: RunFiles) -> RunData:
    return RunData(
        _records(run, "instructions", Instruction),
        _records(run, "responses", Response),
        _records(run, "critiques", Critique),
        _records(run, "revisions", Revision),
        _records(run, "pairs", PreferencePair),
        _records(run, "rejected", RejectedPair),
    )


def _records(run: RunFiles, name: str, kind: type[RecordT]) -> list[tuple[int, RecordT]]:
    """The records of one output over all rounds. A torn line is none; other objects are counted in a fault."""
    records = []
    for data in run.workspace.rounds():
        path = data.outputs()[name]
        others = 0
        for value in rows(path)[0]:
            try:
                records.append((data.round, kind.model_validate(value)))
            except ValidationError:
                others += 1
        if others:
            run.faults.append(Fault(path, f"{others} lines are no {kind.__name__} records"))
    return records


def _measurements(run: RunFiles) -> None:
    suite = _own_suite(run)
    path = _results_file(run)
    if path is not None:
        run.results_file = path
        run.results = _trusted(run, path, suite)
    baseline = run.workspace.baseline
    if baseline.exists():
        run.baseline = _trusted(run, baseline, suite)
    else:
        run.missing.append(f"{run.workspace.relative(baseline)}: the untrained base was not measured")
    if run.measured is not None:
        name = run.measured.suite.name
        held_out = suite if suite is not None and suite.name == name else load_suite(name)
        run.items = {item.id: item for item in held_out.items}
        try:
            run.rescored = read_block(run.measured)
        except DataError as error:
            run.faults.append(Fault(path or baseline, str(error)))


def _results_file(run: RunFiles) -> Path | None:
    folder = run.workspace.results
    there = run.workspace.evaluations()
    named = run.record.results_file if run.record is not None else None
    if named is not None:
        path = folder / Path(named).name
        if not path.exists():
            run.faults.append(Fault(path, "the results file that run.json names is not there"))
            return None
        again = rescored_path(path)
        return again if again.exists() else path
    if run.record is None and there:
        run.missing.append(f"{there[0].name} is the newest evaluation; no run.json says which run it belongs to")
        return there[0]
    if there:
        run.missing.append(f"{there[0].name} belongs to an earlier run and is not shown; this run has no evaluation")
    else:
        run.missing.append(f"{run.workspace.relative(folder)}: no trained model was evaluated")
    return None


def _summary(run: RunFiles) -> GenerationSummary | None:
    """The counts of all rounds together; diversity is the first round's."""
    first, *others = run.workspace.rounds()
    whole = _counts(run, first.summary, GenerationSummary, "no data were generated")
    for data in others:
        later = _counts(run, data.summary, GenerationSummary, f"round {data.round} is not finished")
        if whole is not None and later is not None:
            whole = whole.with_round(later)
    return whole


def _data_faults(run: RunFiles) -> None:
    """Counts of data that were changed after they were made are named and not shown."""
    for data in run.workspace.rounds():
        try:
            check_outputs(run.workspace, "generate", DATA_REMEDY, number=data.round)
        except (CaiError, OSError) as error:
            run.faults.append(Fault(None, str(error)))
            run.summary = run.diversity = None


def _own_suite(run: RunFiles) -> Suite | None:
    name = run.config("evaluation.suite")
    if name is None:
        for path in run.workspace.configs()[-1:]:
            name = _configured_suite(path)
    if not isinstance(name, str) or name in NAMED_SUITES:
        return None
    try:
        return load_suite(name)
    except CaiError as error:
        run.faults.append(Fault(None, str(error)))
        return None


def _configured_suite(path: Path) -> object:
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    evaluation = config.get("evaluation") if isinstance(config, dict) else None
    return evaluation.get("suite") if isinstance(evaluation, dict) else None


def _trusted(run: RunFiles, path: Path, suite: Suite | None) -> Results | None:
    try:
        results = read_results(path, suite)
    except CaiError as error:
        run.faults.append(Fault.of(path, error))
        return None
    if (why := foreign(path, run.workspace)) is not None:
        run.faults.append(Fault(path, str(why).removeprefix(f"{path}: ")))
        return None
    return results


def _newest_events(run: RunFiles) -> list[Event]:
    logs = run.workspace.event_files()
    if not logs:
        run.missing.append(f"{run.workspace.relative(run.workspace.logs)}: no events file")
        return []
    events, bad = read_events(logs[-1])
    if bad:
        run.faults.append(Fault(logs[-1], f"{bad} lines are no events"))
    return events


def _adapters(run: RunFiles) -> list[Adapter]:
    """The finished trainings, oldest first."""
    adapters = []
    for path in run.workspace.success_markers():
        try:
            adapters.append(Adapter(path.parent.name, read_typed(path, SuccessMarker, "it is not shown")))
        except UntrustedResultError as error:
            run.faults.append(Fault.of(path, error))
    return sorted(adapters, key=lambda adapter: adapter.marker.finished_at)
