"""Whether the adapter that a results file names is one that its own base directory trained.

Read from the run's files: `checkpoints/stage1/*/TRAINING_SUCCESS` and the markers of its steps. A base directory that
has none, or no longer has them, says nothing; so does an adapter from elsewhere that the user named.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import read_json
from cai_bootstrap.measuring.declared import Results, Run
from cai_bootstrap.run.folder import Workspace

SUCCESS = "TRAINING_SUCCESS"  # as `training.checkpoints` writes it
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class _Trained:
    path: Path
    sha256: str
    finished_at: str | None
    base_weights: str | None


def workspace_of(results_file: Path) -> Workspace | None:
    """The base directory that a results file lies in, or None if it lies elsewhere."""
    folder = results_file.absolute().parent
    return Workspace.at(folder.parent) if folder.name == "results" else None


def adapter_fault(workspace: Workspace, results_file: Path, results: Results) -> str | None:
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


def _trained(workspace: Workspace) -> Iterable[_Trained]:
    for path in sorted({*workspace.checkpoints.glob(f"*/{SUCCESS}"), *_step_outputs(workspace, "train*")}):
        marker = _object(path)
        files = marker.get("files")
        sha256 = files.get(WEIGHTS) if isinstance(files, dict) else None
        if isinstance(sha256, str):
            yield _Trained(path, sha256, _text(marker.get("finished_at")), _text(marker.get("base_weights_sha256")))


def _some_are_gone(workspace: Workspace) -> bool:
    """A checkpoint's folder was removed since: what it held can no longer be said."""
    return any(not path.exists() for path in _step_outputs(workspace, "train*"))


def _is_latest(workspace: Workspace, results_file: Path) -> bool:
    """The file is the one that the base directory's last evaluation wrote, as far as that is recorded."""
    outputs = _step_outputs(workspace, "evaluate")
    return not outputs or any(path.absolute() == results_file.absolute() for path in outputs)


def _named_by_user(workspace: Workspace, results_file: Path, run: Run | None) -> bool:
    """The evaluation was asked for an adapter by name (`--adapter`): then it checks no data of its own."""
    if run is None or "reuse" not in run.model_fields_set or run.reuse is not None:
        return False
    record = _object(workspace.results / "run.json")
    if record.get("results_file") != results_file.name:
        return True
    value: Any = record
    for key in ("manifest", "config", "adapter", "value"):
        value = value.get(key) if isinstance(value, dict) else None
    return value is not None


def _step_outputs(workspace: Workspace, step: str) -> list[Path]:
    """What the markers of a step name as its outputs; of training, its success marker."""
    outputs: list[Path] = []
    for marker in sorted((workspace.logs / "steps").glob(f"{step}.json")):
        named = _object(marker).get("outputs")
        outputs += [workspace.base / name for name in named] if isinstance(named, dict) else []
    return [path for path in outputs if step == "evaluate" or path.name == SUCCESS]


def _object(path: Path) -> dict[str, Any]:
    """A file's object; an empty one if it is not there or not whole, since that is no sign against a results file."""
    try:
        value = read_json(path)
    except DataError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
