"""What a run of the constitution stage left on disk, read without trust: what is not there or not sound is named."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cai_bootstrap.errors import CaiError, UntrustedResultError
from cai_bootstrap.events import TrainingStarted, newest_training, read_events
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.records import Critique, PreferencePair, Prompt, RedrawnRevision, RejectedPair, Response
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.report.stage_files import Fault, StageFiles, logs_of
from cai_bootstrap.run.counts import PreflightReport, SteeringSummary
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import read_outputs, trained_folder


@dataclass
class SteeringData:
    """The records of the data; `critiques` and `revisions` hold a list for each principle's turn, in their order."""

    prompts: list[Prompt] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    critiques: list[list[Critique]] = field(default_factory=list)
    revisions: list[list[RedrawnRevision]] = field(default_factory=list)
    pairs: list[PreferencePair] = field(default_factory=list)
    rejected: list[RejectedPair] = field(default_factory=list)


@dataclass
class SteeringFiles(StageFiles):
    """A run of the constitution stage. `results` and `baseline` were judged again and are sound, or they are None.

    `control_summary` and `control_preflight` count the data of the control.
    """

    results: PrincipleResults | None = None
    baseline: PrincipleResults | None = None
    data: SteeringData = field(default_factory=SteeringData)
    summary: SteeringSummary | None = None
    control_summary: SteeringSummary | None = None
    control_preflight: PreflightReport | None = None

    @property
    def measured(self) -> PrincipleResults | None:
        """The evaluation, or the baseline where there is none."""
        return self.results or self.baseline

    @property
    def evaluated_adapter(self) -> str | None:
        run = self.results.run if self.results is not None else None
        return None if run is None or run.adapter is None else run.adapter.sha256

    @property
    def control_adapter(self) -> str | None:
        run = self.results.run if self.results is not None else None
        return None if run is None or run.control_adapter is None else run.control_adapter.sha256

    @property
    def held_out_sha256(self) -> str | None:
        return None if self.measured is None else self.measured.conditions.suite_sha256

    @property
    def held_out_name(self) -> str:
        return "held-out prompts"

    @property
    def constitution_sha256(self) -> str | None:
        if self.measured is not None:
            return self.measured.constitution.sha256
        return None if self.summary is None else self.summary.constitution_sha256

    @property
    def openings(self) -> set[int]:
        blocks = (results.run for results in (self.results, self.baseline) if results is not None)
        return {block.ledger_opening for block in blocks if block is not None and block.ledger_opening is not None}


def load_steering(workspace: RunFolder, rentals: Sequence[Rental] = (), planned: Plan | None = None) -> SteeringFiles:
    """Read a run of the constitution stage; `rentals` and `planned` as in `report.files.load`.

    Raises nothing that the files could be the reason of.
    """
    run = SteeringFiles(workspace, rentals=rentals, planned=planned)
    run.read_record()
    run.read_events()
    _read_measurements(run)
    run.data = _data(run)
    run.summary = run.counts(workspace.round_data(1).summary, SteeringSummary, "no data were generated")
    run.control_summary = run.counts(workspace.control_data.summary, SteeringSummary, None)
    if run.changed_data():
        run.summary = run.control_summary = None
    run.read_last_looks()
    run.control_preflight = run.counts(workspace.control_preflight, PreflightReport, None)
    run.read_adapters()
    run.training = newest_training(logs_of(workspace), _trained_folder(run))
    run.name_missing_training()
    return run


def _read_measurements(run: SteeringFiles) -> None:
    run.results_file = run.named_results()
    if run.results_file is not None:
        run.results = _trusted(run, run.results_file, "evaluate")
    baseline = run.workspace.baseline
    if baseline.exists():
        run.baseline = _trusted(run, baseline, "baseline")
    else:
        run.missing.append(f"{run.relative(baseline)}: the untrained base was not measured")


def _trusted(run: SteeringFiles, path: Path, step: str) -> PrincipleResults | None:
    """A results file whose every verdict and figure was computed again, and which this run's step wrote."""
    try:
        results = read_principle_results(path)
        outputs = read_outputs(run.workspace, step)
        if outputs is not None:
            outputs.check(path, f"run `cai {step} --stage constitution` again")
            if path not in (*outputs.hashes, *outputs.earlier):
                raise UntrustedResultError(f"{path}: no step of this base directory wrote this file")
    except CaiError as error:
        run.faults.append(Fault.of(path, error))
        return None
    return results


def _data(run: SteeringFiles) -> SteeringData:
    folder = run.workspace.round_data(1)
    turns = range(1, 1 + sum(1 for _ in _numbered(run.workspace)))
    return SteeringData(
        prompts=run.records(folder.prompts, Prompt),
        responses=run.records(folder.responses, Response),
        critiques=[run.records(folder.critiques_by(n), Critique) for n in turns],
        revisions=[run.records(folder.revisions_by(n), RedrawnRevision) for n in turns],
        pairs=run.records(folder.pairs, PreferencePair),
        rejected=run.records(folder.rejected, RejectedPair),
    )


def _numbered(workspace: RunFolder) -> Iterator[Path]:
    """The files of each principle's turn, as many as there are."""
    folder, number = workspace.round_data(1), 1
    while folder.revisions_by(number).exists():
        yield folder.revisions_by(number)
        number += 1


def _trained_folder(run: SteeringFiles) -> str | None:
    """The folder of the adapter whose training is shown: the evaluated one's, else the one that the step left.

    While the step goes on it is the one begun first: the constitution's adapter is trained before the control's.
    """
    if run.evaluated is not None:
        return run.evaluated.folder
    with contextlib.suppress(UntrustedResultError):
        if (folder := trained_folder(run.workspace)) is not None:
            return folder
    for log in reversed(logs_of(run.workspace)):
        begun = [event.adapter for event in read_events(log)[0] if isinstance(event, TrainingStarted)]
        if begun:
            return begun[0]
    return None
