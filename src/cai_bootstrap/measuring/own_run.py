"""Whether the adapter that a results file names is one that its own base directory trained; of either stage.

Read from the run's files: the success markers of its trainings and the markers of its steps. A base directory that
has none, or no longer has them, says nothing; so does an adapter from elsewhere that the user named.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import read_json
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import control_markers, read_outputs
from cai_bootstrap.run.record import read_record

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class _Trained:
    path: Path
    sha256: str
    finished_at: str | None
    base_weights: str | None


@dataclass(frozen=True)
class _Claim:
    """What a results file says of an adapter: `where` is the field. `may_be_named`: the user may have named it."""

    where: str
    adapter: str | None
    finished_at: str | None
    base_weights: str
    may_be_named: bool


def adapter_fault(workspace: RunFolder, results_file: Path, results: Results) -> str | None:
    """Why the measured adapter is not this run's own, or None if it is or nothing here tells."""
    run = results.run
    named = None if run is None or run.adapter is None else run.adapter.finished_at
    adapter = None if results.models.trained is None else results.models.trained.factors.adapter
    # An evaluation that was asked for an adapter by name (`--adapter`) checks no data of its own.
    may_be_named = run is not None and "reuse" in run.model_fields_set and run.reuse is None
    weights = results.conditions.base_weights_sha256
    claim = _Claim("models.trained.factors.adapter", adapter, named, weights, may_be_named)
    return _fault(workspace, results_file, claim, list(_trained(workspace)))


def principle_adapter_fault(workspace: RunFolder, results_file: Path, results: PrincipleResults) -> str | None:
    """Why an adapter that a file of the constitution stage measured is not this run's own, or None.

    The trained model's adapter was trained on the constitution's pairs, the control's on the control's.
    """
    controls = control_markers(workspace)
    every = list(_trained(workspace))
    own = [one for one in every if one.path not in controls]
    others = [one for one in every if one.path in controls]
    run, weights = results.run, results.conditions.base_weights_sha256
    for arm, block, named, trained in (
        ("trained", results.arms.trained, None if run is None else run.adapter, own),
        ("control", results.arms.control, None if run is None else run.control_adapter, others),
    ):
        if block is None:
            continue
        finished_at = None if named is None else named.finished_at
        # With an adapter that the user named there is no control.
        may_be_named = results.arms.control is None
        claim = _Claim(f"arms.{arm}.factors.adapter", block.factors.adapter, finished_at, weights, may_be_named)
        if fault := _fault(workspace, results_file, claim, trained):
            return fault
    return None


def _fault(workspace: RunFolder, results_file: Path, claim: _Claim, trained: list[_Trained]) -> str | None:
    own = [one for one in trained if one.sha256 == claim.adapter]
    where = f"{claim.where} is {claim.adapter}"
    if own:
        if any(one.base_weights in (None, claim.base_weights) for one in own):
            return None
        return (
            f"conditions.base_weights_sha256 is {claim.base_weights}, {own[0].path} says that the adapter was trained "
            f"on {own[0].base_weights}"
        )
    for one in trained:
        if claim.finished_at is not None and one.finished_at == claim.finished_at:
            return (
                f"{where}, {one.path} says that the adapter which was finished then ({claim.finished_at}) is "
                f"{one.sha256}"
            )
    if not trained or _some_are_gone(workspace) or not _is_latest(workspace, results_file):
        return None
    if claim.may_be_named and _named_by_user(workspace, results_file):
        return None
    return f"{where}, which is none of the {len(trained)} adapters that this run trained ({trained[0].path})"


def _trained(workspace: RunFolder) -> Iterable[_Trained]:
    for path in sorted({*workspace.success_markers(), *_trainings(workspace)}):
        marker = _object(path)
        files = marker.get("files")
        sha256 = files.get(WEIGHTS) if isinstance(files, dict) else None
        if isinstance(sha256, str):
            yield _Trained(path, sha256, _text(marker.get("finished_at")), _text(marker.get("base_weights_sha256")))


def _some_are_gone(workspace: RunFolder) -> bool:
    """A checkpoint's folder was removed since: what it held can no longer be said."""
    return any(not path.exists() for path in _trainings(workspace))


def _is_latest(workspace: RunFolder, results_file: Path) -> bool:
    """The file is the one that the base directory's last evaluation wrote, as far as that is recorded."""
    path = _output(workspace, "evaluate", "results")
    return path is None or path.absolute() == results_file.absolute()


def _named_by_user(workspace: RunFolder, results_file: Path) -> bool:
    """The evaluation was asked for an adapter by name (`--adapter`), as far as the run's record tells."""
    try:
        record = read_record(workspace)
    except DataError:
        record = None
    return record is None or record.results_file != results_file.name or record.config("adapter") is not None


def _trainings(workspace: RunFolder) -> list[Path]:
    """The success markers that the trainings of this run's rounds left, as their steps' markers name them."""
    outputs = (
        _output(workspace, "train", name, number)
        for number in workspace.marked_rounds("train")
        for name in ("success", "control-success")
    )
    return [path for path in outputs if path is not None]


def _output(workspace: RunFolder, step: str, name: str, number: int = 1) -> Path | None:
    """An output that a step's marker names; None if there is no such marker that can be believed."""
    with contextlib.suppress(UntrustedResultError):
        outputs = read_outputs(workspace, step, number)
        return None if outputs is None else outputs.find(name)
    return None


def _object(path: Path) -> dict[str, Any]:
    """A file's object; an empty one if it is not there or not whole, since that is no sign against a results file."""
    try:
        value = read_json(path)
    except DataError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
