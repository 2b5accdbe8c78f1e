"""Which adapters may be believed: those with a `TRAINING_SUCCESS` marker, written last, that still describes them.

A resumable trainer checkpoint is valid only with its own `COMPLETE` marker; one that was being saved when the process
died has none and is removed.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.workspace import read_json, sha256_file, write_json

SUCCESS = "TRAINING_SUCCESS"
COMPLETE = "COMPLETE"
AGAIN = "remove that folder and train again"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
REQUIRED = ("adapter_path", "final_loss", "epochs", "finished_at", "fingerprint", "files")


@dataclass(frozen=True)
class Checkpoint:
    """A finished training run's adapter. `sha256` is that of its weights."""

    path: Path
    fingerprint: str
    finished_at: str
    final_loss: float
    sha256: str
    details: dict[str, Any]


def mark_success(
    folder: Path, *, fingerprint: str, final_loss: float, epochs: float, details: dict[str, Any] | None = None
) -> Checkpoint:
    """Write the success marker of a saved adapter, last and atomically. `details` are recorded beside."""
    files = {name: sha256_file(folder / name) for name in ADAPTER_FILES}
    write_json(
        folder / SUCCESS,
        {
            "adapter_path": folder.name,
            "final_loss": final_loss,
            "epochs": epochs,
            "finished_at": utc_now(),
            "fingerprint": fingerprint,
            "files": files,
            **(details or {}),
        },
    )
    return read_success(folder)


def read_success(folder: Path) -> Checkpoint:
    """Read and verify a marker. Raises UntrustedResultError naming the adapter's file that is gone or was changed."""
    marker = folder / SUCCESS
    try:
        known = read_json(marker)
    except DataError as error:
        raise UntrustedResultError(f"{folder}: no valid {SUCCESS} marker ({error}); {AGAIN}") from error
    missing = [name for name in REQUIRED if not isinstance(known, dict) or name not in known]
    if missing or not isinstance(known["files"], dict) or not known["files"]:
        raise UntrustedResultError(f"{marker}: lacks {', '.join(missing) or 'files'}; {AGAIN}")
    for name, expected in known["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise UntrustedResultError(f"{marker}: the adapter's file {name} is gone; {AGAIN}")
        if sha256_file(path) != expected:
            raise UntrustedResultError(f"{marker}: {name} was changed after training ended; {AGAIN}")
    return Checkpoint(
        folder,
        str(known["fingerprint"]),
        str(known["finished_at"]),
        float(known["final_loss"]),
        known["files"].get(ADAPTER_FILES[1], ""),
        known,
    )


def find_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint with the latest `finished_at` among those under `folder` with a valid marker of this fingerprint.

    Raises UntrustedResultError if the only ones of this fingerprint are those whose adapter was changed or is gone.
    """
    found: list[Checkpoint] = []
    broken: list[UntrustedResultError] = []
    for marker in sorted(folder.glob(f"*/{SUCCESS}")):
        try:
            checkpoint = read_success(marker.parent)
        except UntrustedResultError as error:
            broken.append(error)
            continue
        if checkpoint.fingerprint == fingerprint:
            found.append(checkpoint)
    if found:
        return max(found, key=lambda c: c.finished_at)
    ours = [e for e in broken if fingerprint[:12] in str(e)]
    if ours:
        raise ours[0]
    return None


def mark_complete(checkpoint: Path) -> None:
    """Say that a trainer checkpoint is whole: the size of each of its files, written after all of them."""
    sizes = {file.name: file.stat().st_size for file in sorted(checkpoint.iterdir()) if file.name != COMPLETE}
    write_json(checkpoint / COMPLETE, sizes)


def newest_complete(folder: Path) -> Path | None:
    """The newest whole trainer checkpoint under `folder`; ones that were torn by a kill are removed."""
    whole: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            sizes = read_json(checkpoint / COMPLETE)
            sound = all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
        except (DataError, OSError):
            sound = False
        if sound:
            whole.append((int(checkpoint.name.rsplit("-", 1)[1]), checkpoint))
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(whole)[1] if whole else None
