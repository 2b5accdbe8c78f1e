"""What every stage of a run leaves on disk, read without trust and without failing: what is not sound is named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from cai_bootstrap.errors import CaiError, DataError, UntrustedResultError
from cai_bootstrap.events import Event, TrainingEvent, read_events, rows
from cai_bootstrap.records import Record
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.run.counts import Counts, ModelRecord, PreflightReport, read_counts
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import DATA_REMEDY, SuccessMarker, check_outputs, read_typed
from cai_bootstrap.run.record import RunRecord, read_record
from cai_bootstrap.yaml_files import load_yaml

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
class StageFiles:
    """What a run of any stage left.

    `events` are those of the newest run, `training` the steps and looks of the newest training, which an earlier
    run may have done. `missing` names what is not there, `faults` what is there and cannot be believed.
    """

    workspace: RunFolder
    record: RunRecord | None = None
    results_file: Path | None = None
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
    def evaluated_adapter(self) -> str | None:
        """The hash of the adapter that was evaluated."""
        return None

    @property
    def control_adapter(self) -> str | None:
        """The hash of the adapter that another constitution trained, to compare with."""
        return None

    @property
    def held_out_sha256(self) -> str | None:
        """The hash of the held-out items or prompts that were measured."""
        return None

    @property
    def ledger_key(self) -> str | None:
        """The hash under which the openings of those stand in the ledger."""
        return self.held_out_sha256

    @property
    def held_out_name(self) -> str:
        """What that hash covers."""
        return "suite items"

    @property
    def constitution_sha256(self) -> str | None:
        """The hash of the constitution that the data were made with."""
        return None

    @property
    def openings(self) -> set[int]:
        """The numbers of this run's openings of the held-out items in the ledger."""
        return set()

    @property
    def adapter(self) -> SuccessMarker | None:
        """The marker of the adapter that was evaluated, or of the newest one."""
        found = self.evaluated or (self.adapters[-1] if self.adapters else None)
        return None if found is None else found.marker

    @property
    def evaluated(self) -> Adapter | None:
        """The finished training whose adapter was evaluated."""
        used = self.evaluated_adapter
        return next((adapter for adapter in self.adapters if used and adapter.sha256 == used), None)

    def config(self, key: str) -> Any:
        """A value of the run's configuration by its dotted name, or None."""
        return None if self.record is None else self.record.config(key)

    def relative(self, path: Path) -> str:
        """A path as people read it."""
        return self.workspace.relative(path)

    def read_record(self) -> None:
        """Read the record of the newest whole run."""
        path = self.workspace.record
        try:
            self.record = read_record(self.workspace)
        except DataError as error:
            self.faults.append(Fault.of(path, error))
            return
        if self.record is None:
            self.missing.append(f"{self.relative(path)}: no run has ended here yet")

    def read_events(self) -> None:
        """Read the events of the newest run of this stage."""
        logs = logs_of(self.workspace)
        if not logs:
            self.missing.append(f"{self.relative(self.workspace.logs)}: no events file")
            return
        self.events, bad = read_events(logs[-1])
        if bad:
            self.faults.append(Fault(logs[-1], f"{bad} lines are no events"))

    def read_adapters(self) -> None:
        """Read the markers of the finished trainings, oldest first."""
        adapters = []
        for path in self.workspace.success_markers():
            try:
                adapters.append(Adapter(path.parent.name, read_typed(path, SuccessMarker, "it is not shown")))
            except UntrustedResultError as error:
                self.faults.append(Fault.of(path, error))
        self.adapters = sorted(adapters, key=lambda adapter: adapter.marker.finished_at)

    def read_last_looks(self) -> None:
        """Read what the last look at the pairs saw, and which model was prepared."""
        self.preflight = self.counts(
            self.workspace.preflight, PreflightReport, "the pairs were not checked on their tokens"
        )
        self.model = self.counts(self.workspace.model, ModelRecord, "no model was prepared")

    def name_missing_training(self) -> None:
        """Name the training as missing where none has ended, or no step of one is recorded."""
        if not self.adapters:
            self.missing.append(
                f"{self.relative(self.workspace.checkpoints)}: no finished training (no TRAINING_SUCCESS)"
            )
        if not self.training:
            self.missing.append(f"{self.relative(self.workspace.logs)}: no training step is recorded")

    def counts(self, path: Path, kind: type[CountsT], when_missing: str | None) -> CountsT | None:
        """A file of counts, or None; that it is not there is said in the words of `when_missing`, if there are any."""
        if not path.exists():
            if when_missing:
                self.missing.append(f"{self.relative(path)}: {when_missing}")
            return None
        try:
            return read_counts(path, kind)
        except DataError as error:
            self.faults.append(Fault.of(path, error))
            return None

    def records(self, path: Path, kind: type[RecordT]) -> list[RecordT]:
        """The records of a file. A torn line is none; other objects are counted in a fault."""
        records = []
        others = 0
        for value in rows(path)[0]:
            try:
                records.append(kind.model_validate(value))
            except ValidationError:
                others += 1
        if others:
            self.faults.append(Fault(path, f"{others} lines are no {kind.__name__} records"))
        return records

    def changed_data(self) -> bool:
        """Whether data were changed after they were made; each round of which this is so is named."""
        changed = False
        for data in self.workspace.rounds():
            try:
                check_outputs(self.workspace, "generate", DATA_REMEDY, number=data.round)
            except (CaiError, OSError) as error:
                self.faults.append(Fault(None, str(error)))
                changed = True
        return changed

    def named_results(self) -> Path | None:
        """The results file of the newest run; without a record, the newest one here."""
        folder = self.workspace.results
        there = self.workspace.evaluations()
        named = self.record.results_file if self.record is not None else None
        record = self.workspace.record.name
        if named is not None:
            path = folder / Path(named).name
            if path.exists():
                return path
            self.faults.append(Fault(path, f"the results file that {record} names is not there"))
            return None
        if self.record is None and there:
            self.missing.append(f"{there[0].name} is the newest evaluation; no {record} says which run it belongs to")
            return there[0]
        if there:
            self.missing.append(
                f"{there[0].name} belongs to an earlier run and is not shown; this run has no evaluation"
            )
        else:
            self.missing.append(f"{self.relative(folder)}: no trained model was evaluated")
        return None


def logs_of(workspace: RunFolder) -> list[Path]:
    """The events files of this stage's runs, the oldest first.

    Several stages log in one folder; a run's configuration names its stage. A run without one may be of any stage.
    """
    name = workspace.stage.name
    return [log for log in workspace.event_files() if stage_named(workspace.config(log.stem)) in (None, name)]


def configured(path: Path) -> dict[str, Any] | None:
    """A run's configuration as its file holds it; None if there is none or it cannot be read."""
    try:
        config = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def stage_named(path: Path) -> str | None:
    """The stage that a run's configuration names."""
    config = configured(path)
    stage = None if config is None else config.get("stage")
    return stage if isinstance(stage, str) else None
