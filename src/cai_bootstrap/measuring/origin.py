"""Whose a results file is: the run's in whose base directory it lies, or another's that was copied or renamed there."""

from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.measuring.stages import stage_of_file
from cai_bootstrap.measuring.stored import Stored, read_stored
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import Outputs, SuccessMarker, read_outputs, read_typed


@dataclass(frozen=True)
class Stranger:
    """Why a results file is not what this run wrote: it is another run's, or it was changed since."""

    sentence: str
    of_another_run: bool

    def __str__(self) -> str:
        return self.sentence


def foreign(path: Path, workspace: RunFolder | None = None) -> Stranger | None:
    """Why a results file is not what this base directory's run wrote, or None.

    Without `workspace` it is the base directory around the file; a file that lies in no base directory belongs to
    nobody, and gives None. The markers of its stage's steps tell; where they do not list the file, the adapters that
    are there do.
    """
    workspace = workspace or _around(path)
    if workspace is None or path.absolute().parent != workspace.results:
        return None
    path = path.absolute()
    try:
        results = read_stored(path, "")
        trained = results.adapter is not None
        outputs = read_outputs(workspace, "evaluate" if trained else "baseline")
    except UntrustedResultError:
        return None  # whoever reads the file or the marker says so
    if outputs is not None and (sha256 := outputs.hashes.get(path) or outputs.earlier.get(path)):
        if sha256_file(path) == sha256:
            return None
        return _replaced(path, results, outputs)
    if not trained or _made_from_own(results, outputs):
        return None
    adapter = results.adapter
    own = _adapters(workspace)
    if not own or adapter in own:
        return None
    return _of_another_run(
        f"{path}: this file is of another run: it measured the adapter {str(adapter)[:12]}, which no training in "
        f"{workspace.base} made"
    )


def _replaced(path: Path, results: Stored, outputs: Outputs) -> Stranger:
    fingerprint = None if results.run is None else results.run.fingerprint
    if path in outputs.hashes and fingerprint != outputs.fingerprint:
        return _of_another_run(
            f"{path}: this file is of another run: its run is {str(fingerprint)[:12]}, this base directory's is "
            f"{outputs.fingerprint[:12]}"
        )
    return Stranger(outputs.sentence(path, f"run `cai {outputs.name}` again"), of_another_run=False)


def _of_another_run(sentence: str) -> Stranger:
    return Stranger(sentence, of_another_run=True)


def _made_from_own(results: Stored, outputs: Outputs | None) -> bool:
    """Whether it was scored again from a file that this base directory's evaluation wrote."""
    source = results.rescored_from
    return outputs is not None and source in {*outputs.hashes.values(), *outputs.earlier.values()}


def _adapters(workspace: RunFolder) -> set[str]:
    """The hashes of the adapters' weights whose success markers lie here."""
    weights: set[str] = set()
    for marker in workspace.success_markers():
        try:
            files = read_typed(marker, SuccessMarker, "train again").files
        except UntrustedResultError:
            continue
        weights.update(files.values())
    return weights


def _around(path: Path) -> RunFolder | None:
    workspace = RunFolder.at(path.absolute().parent.parent, stage=stage_of_file(path))
    return workspace if workspace.markers.is_dir() else None
