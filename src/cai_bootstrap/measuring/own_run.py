"""Whether the adapter that a results file names is one that its own base directory trained.

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
from cai_bootstrap.measuring.declared import Results, Run
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import read_outputs
from cai_bootstrap.run.record import read_record

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class _Trained:
    path: Path
    sha256: str
    finished_at: str | None
    base_weights: str | None


def adapter_fault(workspace: RunFolder, results_file: Path, results: Results) -> str | None:
    """Why the measured adapter is not this run's own, or None if it is or nothing here tells."""
    adapter = None if results.models.trained is None else results.models.trained.factors.adapter
    trained = list(_trained(workspace))
    own = [one for one in trained if one.sha256 == adapter]
    where = f"models.trained.factors.adapter is {adapter}"
    if own:
        weights = results.conditions.base_weights_sha256
        if any(one.base_weights in (None, weights) for one in own):
            return None
        return (
            f"conditions.base_weights_sha256 is {weights}, {own[0].path} says that the adapter was trained on "
            f"{own[0].base_weights}"
        )
    finished_at = None if results.run is None or results.run.adapter is None else results.run.adapter.finished_at
    for one in trained:
        if finished_at is not None and one.finished_at == finished_at:
            return f"{where}, {one.path} says that the adapter which was finished then ({finished_at}) is {one.sha256}"
    if not trained or _some_are_gone(workspace) or not _is_latest(workspace, results_file):
        return None
    if _named_by_user(workspace, results_file, results.run):
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


def _named_by_user(workspace: RunFolder, results_file: Path, run: Run | None) -> bool:
    """The evaluation was asked for an adapter by name (`--adapter`): then it checks no data of its own."""
    if run is None or "reuse" not in run.model_fields_set or run.reuse is not None:
        return False
    try:
        record = read_record(workspace)
    except DataError:
        record = None
    return record is None or record.results_file != results_file.name or record.config("adapter") is not None


def _trainings(workspace: RunFolder) -> list[Path]:
    """The success markers that the trainings of this run's rounds left, as their steps' markers name them."""
    outputs = (_output(workspace, "train", "success", number) for number in workspace.marked_rounds("train"))
    return [path for path in outputs if path is not None]


def _output(workspace: RunFolder, step: str, name: str, number: int = 1) -> Path | None:
    """An output that a step's marker names; None if there is no such marker that can be believed."""
    with contextlib.suppress(UntrustedResultError):
        outputs = read_outputs(workspace, step, number)
        return None if outputs is None else outputs.path(name)
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
