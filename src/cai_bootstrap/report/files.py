"""What a Stage 1 run left on disk, read without trust and without failing: what is missing or not sound is named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cai_bootstrap.errors import CaiError, DataError
from cai_bootstrap.events import newest_training
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.ledger import ledger_key
from cai_bootstrap.measuring.origin import foreign
from cai_bootstrap.measuring.rescore import RescoredBlock, read_block, rescored_path
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.records import (
    Critique,
    EvalItem,
    Instruction,
    PreferencePair,
    RejectedPair,
    Response,
    Revision,
)
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.report.stage_files import Fault, RecordT, StageFiles, configured, logs_of, stage_named
from cai_bootstrap.run.counts import Diversity, GenerationSummary
from cai_bootstrap.run.folder import RunFolder


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
class RunFiles(StageFiles):
    """A Stage 1 run. `results` and `baseline` were scored again and are sound, or they are None."""

    results: Results | None = None
    baseline: Results | None = None
    rescored: RescoredBlock | None = None
    items: dict[str, EvalItem] = field(default_factory=dict)
    data: RunData = field(default_factory=RunData)
    summary: GenerationSummary | None = None
    diversity: Diversity | None = None

    @property
    def measured(self) -> Results | None:
        """The evaluation, or the baseline where there is none."""
        return self.results or self.baseline

    @property
    def evaluated_adapter(self) -> str | None:
        run = self.results.run if self.results is not None else None
        return None if run is None or run.adapter is None else run.adapter.sha256

    @property
    def held_out_sha256(self) -> str | None:
        return None if self.measured is None else self.measured.suite.sha256

    @property
    def ledger_key(self) -> str | None:
        return None if self.measured is None else ledger_key(self.measured.suite)

    @property
    def constitution_sha256(self) -> str | None:
        return None if self.summary is None else self.summary.constitution_sha256

    @property
    def openings(self) -> set[int]:
        blocks = (side.run for side in (self.results, self.baseline) if side is not None)
        return {block.ledger_opening for block in blocks if block is not None and block.ledger_opening is not None}


def load(workspace: RunFolder, rentals: Sequence[Rental] = (), planned: Plan | None = None) -> RunFiles:
    """Read a run; `rentals` are those of the pod's ledger, `planned` what its preset was seen to take.

    Raises nothing that the files could be the reason of.
    """
    run = RunFiles(workspace, rentals=rentals, planned=planned)
    run.read_record()
    run.read_events()
    _measurements(run)
    run.data = _data(run)
    run.summary = _summary(run)
    run.diversity = run.counts(workspace.round_data(1).diversity, Diversity, None)
    if run.diversity is None and run.summary is not None:
        run.diversity = run.summary.diversity
    if run.changed_data():
        run.summary = run.diversity = None
    run.read_last_looks()
    run.read_adapters()
    run.training = newest_training(logs_of(workspace))
    run.name_missing_training()
    return run


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
    """The records of one output over all rounds."""
    rounds = run.workspace.rounds()
    return [(data.round, record) for data in rounds for record in run.records(data.outputs()[name], kind)]


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
    """The results file of the newest run, as it was scored again if it was."""
    path = run.named_results()
    if path is None or run.record is None or run.record.results_file is None:
        return path
    again = rescored_path(path)
    return again if again.exists() else path


def _summary(run: RunFiles) -> GenerationSummary | None:
    """The counts of all rounds together; diversity is the first round's."""
    first, *others = run.workspace.rounds()
    whole = run.counts(first.summary, GenerationSummary, "no data were generated")
    for data in others:
        later = run.counts(data.summary, GenerationSummary, f"round {data.round} is not finished")
        if whole is not None and later is not None:
            whole = whole.with_round(later)
    return whole


def _own_suite(run: RunFiles) -> Suite | None:
    name = run.config("evaluation.suite")
    if name is None:
        own = [path for path in run.workspace.configs() if stage_named(path) in (None, run.workspace.stage.name)]
        for path in own[-1:]:
            name = _configured_suite(path)
    if not isinstance(name, str) or name in NAMED_SUITES:
        return None
    try:
        return load_suite(name)
    except CaiError as error:
        run.faults.append(Fault(None, str(error)))
        return None


def _configured_suite(path: Path) -> object:
    config = configured(path)
    evaluation = None if config is None else config.get("evaluation")
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
