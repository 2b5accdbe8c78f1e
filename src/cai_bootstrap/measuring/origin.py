"""Whose a results file is: the run's in whose base directory it lies, or another's that was copied or renamed there."""

from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import read_json, sha256_file
from cai_bootstrap.run.folder import Workspace
from cai_bootstrap.run.markers import SUCCESS, Outputs, SuccessMarker, read_outputs, read_typed


def foreign(path: Path, workspace: Workspace | None = None) -> str | None:
    """Why a results file is not what this base directory's run wrote, in words, or None.

    Without `workspace` it is the base directory around the file; a file that lies in no base directory belongs to
    nobody, and gives None. The steps' markers tell; where they do not list the file, the adapters that are there do.
    """
    workspace = workspace or _around(path)
    if workspace is None or path.absolute().parent != workspace.results:
        return None
    path = path.absolute()
    try:
        results = read_json(path)
        trained = _dig(results, "models", "trained") is not None
        outputs = read_outputs(workspace, "evaluate" if trained else "baseline")
    except (DataError, UntrustedResultError):
        return None  # whoever reads the file or the marker says so
    if outputs is not None and (sha256 := outputs.hashes.get(path) or outputs.earlier.get(path)):
        if sha256_file(path) == sha256:
            return None
        return _replaced(path, results, outputs)
    if not trained or _made_from_own(results, outputs):
        return None
    adapter = _dig(results, "models", "trained", "factors", "adapter")
    own = _adapters(workspace)
    if not own or adapter in own:
        return None
    return (
        f"{path}: this file is of another run: it measured the adapter {str(adapter)[:12]}, which no training in "
        f"{workspace.base} made"
    )


def _replaced(path: Path, results: Any, outputs: Outputs) -> str:
    fingerprint = _dig(results, "run", "fingerprint")
    if path in outputs.hashes and fingerprint != outputs.fingerprint:
        return (
            f"{path}: this file is of another run: its run is {str(fingerprint)[:12]}, this base directory's is "
            f"{outputs.fingerprint[:12]}"
        )
    return outputs.sentence(path, f"run `cai {outputs.name}` again")


def _made_from_own(results: Any, outputs: Outputs | None) -> bool:
    """Whether it was scored again from a file that this base directory's evaluation wrote."""
    source = _dig(results, "rescored", "source_sha256")
    return outputs is not None and source in {*outputs.hashes.values(), *outputs.earlier.values()}


def _adapters(workspace: Workspace) -> set[str]:
    """The hashes of the adapters' weights whose success markers lie here."""
    weights: set[str] = set()
    for marker in workspace.checkpoints.glob(f"*/{SUCCESS}"):
        try:
            files = read_typed(marker, SuccessMarker, "train again").files
        except UntrustedResultError:
            continue
        weights.update(files.values())
    return weights


def _around(path: Path) -> Workspace | None:
    base = path.absolute().parent.parent
    return Workspace.at(base) if (base / "logs" / "steps").is_dir() else None


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
