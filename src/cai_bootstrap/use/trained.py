"""What a base directory holds to be used: its newest believable adapter, and what was measured with it.

Of the stage whose folder is given; a control's adapter, which the constitution stage compares with, is never chosen.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.judging.suite import NAMED_SUITES, Suite, load_suite
from cai_bootstrap.measuring.benchmarks.checkers import BENCHMARKS
from cai_bootstrap.measuring.benchmarks.reading import read_benchmark
from cai_bootstrap.measuring.benchmarks.results import BenchmarkResults
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.gate import must_meet_demands
from cai_bootstrap.measuring.origin import foreign
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.principles.gate import must_be_own
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.measuring.stored import read_stored
from cai_bootstrap.run.folder import RunFolder, stamp_of
from cai_bootstrap.run.markers import check_outputs, control_markers, read_outputs
from cai_bootstrap.training.checkpoints import Checkpoint, read_success


class Measurement(NamedTuple):
    """An evaluation file of Stage 1, and what stands in it."""

    path: Path
    results: Results


class PrincipleMeasurement(NamedTuple):
    """An evaluation file of the constitution stage, and what stands in it."""

    path: Path
    results: PrincipleResults


def chosen_adapter(config: RunConfig, workspace: RunFolder, prepared: PreparedModel) -> Checkpoint | None:
    """The adapter to use: the one that was named, else the one that was evaluated last, else the newest.

    Of several rounds the run evaluated the one that it chose on dev. A training that ended after the last evaluation
    comes first. Only adapters of the workspace's stage and of these base weights count; None if there is none. Raises
    UntrustedResultError if the named one, or every one there is, cannot be believed.
    """
    if config.adapter is not None:
        named = read_success(config.adapter)
        _must_fit(named, prepared)
        return named
    checkpoints: list[Checkpoint] = []
    broken: list[UntrustedResultError] = []
    controls = control_markers(workspace)
    for marker in workspace.success_markers():
        if marker in controls:
            continue
        try:
            checkpoint = read_success(marker.parent)
        except UntrustedResultError as error:
            broken.append(error)
            continue
        same_base = checkpoint.marker.base_weights_sha256 == prepared.weights_sha256
        if same_base and checkpoint.marker.stage == workspace.stage.name:
            checkpoints.append(checkpoint)
    if not checkpoints and broken:
        raise broken[0]
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.finished_at, default=None)
    stamp, evaluated = _last_evaluated(workspace, {checkpoint.sha256 for checkpoint in checkpoints})
    if newest is None or stamp_of(newest.finished_at) > stamp:
        return newest
    return next((checkpoint for checkpoint in checkpoints if checkpoint.sha256 == evaluated), newest)


def _last_evaluated(workspace: RunFolder, adapters: Collection[str]) -> tuple[str, str | None]:
    """When one of these adapters was evaluated last, and its hash; those of another run's adapter say nothing."""
    for path in evaluations(workspace):
        if (adapter := _adapter_of(path)) in adapters:
            return path.stem.rpartition("_")[2], adapter
    return "", None


def evaluations(workspace: RunFolder) -> list[Path]:
    """The run's evaluation files, the newest first; those of other runs that lie beside are left out."""
    strangers = ((path, foreign(path, workspace)) for path in workspace.evaluations())
    return [path for path, stranger in strangers if stranger is None or not stranger.of_another_run]


def _adapter_of(path: Path) -> str | None:
    """The adapter that a results file says it measured. Raises UntrustedResultError if the file is not whole."""
    return read_stored(path, "not a whole results file; evaluate again").adapter


def _must_fit(checkpoint: Checkpoint, prepared: PreparedModel) -> None:
    if checkpoint.marker.base_weights_sha256 != prepared.weights_sha256:
        raise UntrustedResultError(
            f"{checkpoint.path}: this adapter was trained on other base weights than {prepared.name}'s; "
            "name its base with --model"
        )


def measured(config: RunConfig, workspace: RunFolder, checkpoint: Checkpoint) -> Measurement | None:
    """The newest evaluation file of this very adapter, every response in it scored again; None if it was not measured.

    Raises UntrustedResultError if that file says anything that is not so, or was not measured as the gate demands.
    """
    path = _evaluation_of(workspace, checkpoint)
    if path is None:
        return None
    results = read_results(path, own_suite(config))
    must_meet_demands(path, results, workspace)
    return Measurement(path, results)


def measured_principles(workspace: RunFolder, checkpoint: Checkpoint) -> PrincipleMeasurement | None:
    """The same of the constitution stage: the newest evaluation file of this very adapter, its answers judged again.

    Raises UntrustedResultError if that file says anything that is not so, or names adapters that are not this run's.
    """
    path = _evaluation_of(workspace, checkpoint)
    if path is None:
        return None
    results = read_principle_results(path)
    must_be_own(path, results, workspace)
    return PrincipleMeasurement(path, results)


def benchmarks_of(workspace: RunFolder, checkpoint: Checkpoint) -> list[BenchmarkResults]:
    """What published benchmarks gave with this very adapter.

    Raises UntrustedResultError if a file of them cannot be believed.
    """
    paths = [workspace.benchmark(name) for name in BENCHMARKS]
    results = [read_benchmark(path) for path in paths if path.exists()]
    return [benchmark for benchmark in results if benchmark.adapter == checkpoint.sha256]


def principle_baseline(workspace: RunFolder) -> PrincipleResults | None:
    """The constitution stage's baseline, or None. Raises UntrustedResultError if it cannot be believed."""
    if not workspace.baseline.exists():
        return None
    check_outputs(workspace, "baseline", "measure it again: cai baseline --stage constitution")
    return read_principle_results(workspace.baseline)


def _evaluation_of(workspace: RunFolder, checkpoint: Checkpoint) -> Path | None:
    """The newest evaluation file that names this adapter, as its step wrote it."""
    path = next((path for path in evaluations(workspace) if _adapter_of(path) == checkpoint.sha256), None)
    if path is not None and (evaluated := read_outputs(workspace, "evaluate")) is not None:
        evaluated.check(path, "evaluate again: cai evaluate")
    return path


def best_rendering(config: RunConfig, workspace: RunFolder) -> str | None:
    """The name of the rendering that Stage 1's baseline chose on dev, or None if no baseline looked for one.

    Raises UntrustedResultError if the baseline cannot be believed.
    """
    path = workspace.baseline
    if not path.exists():
        return None
    check_outputs(workspace, "baseline", "measure it again: cai baseline")
    rival = read_results(path, own_suite(config)).rival
    return None if rival is None else rival.rendering


def own_suite(config: RunConfig) -> Suite | None:
    """The configured suite if it is the user's own file, else None."""
    named = config.evaluation.suite
    return None if named in NAMED_SUITES else load_suite(named)
