"""Which adapters may be believed: those with a `TRAINING_SUCCESS` marker, written last, that still describes them.

A resumable trainer checkpoint is valid only with its own `COMPLETE` marker and the hashes in it; one that was being
saved when the process died has none and is removed.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import read_json, sha256_file, write_json
from cai_bootstrap.run.folder import SUCCESS
from cai_bootstrap.run.markers import Sha256, SuccessMarker, read_typed

COMPLETE = "COMPLETE"
AGAIN = "remove that folder and train again"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
REQUIRED = ("adapter_path", "final_loss", "epochs", "finished_at", "fingerprint", "files")
# What a loader of adapters (PEFT, vLLM) reads beside those two, if it is there: each such file must be listed.
READ_BY_LOADERS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".py", ".jinja", ".model"})
ALSO_READ = frozenset({"merges.txt", "vocab.txt"})
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A finished training run's adapter with its success marker. `sha256` is that of its weights."""

    path: Path
    fingerprint: str
    finished_at: str
    final_loss: float
    sha256: str
    marker: SuccessMarker


def mark_success(
    folder: Path, *, fingerprint: str, final_loss: float, epochs: float, details: Mapping[str, object] | None = None
) -> Checkpoint:
    """Write the success marker of a saved adapter, last and atomically. `details`: its further fields."""
    files = {name: sha256_file(folder / name) for name in sorted({*ADAPTER_FILES, *_read_by_loaders(folder)})}
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
    """Read and verify a marker. It lists settings and weights of the adapter, and every other file a loader would read.

    Raises UntrustedResultError naming what it lacks, or the adapter's file that is gone or was changed.
    """
    marker = folder / SUCCESS
    try:
        content = read_json(marker)
    except DataError as error:
        raise UntrustedResultError(f"{folder}: no valid {SUCCESS} marker ({error}); {AGAIN}") from error
    missing = [name for name in REQUIRED if not isinstance(content, dict) or name not in content]
    if missing:
        raise UntrustedResultError(f"{marker}: lacks {', '.join(missing)}; {AGAIN}")
    success = read_typed(marker, SuccessMarker, AGAIN)
    unlisted = [name for name in ADAPTER_FILES if name not in success.files]
    unlisted += [name for name in _read_by_loaders(folder) if name not in success.files]
    if unlisted:
        raise UntrustedResultError(f"{marker}: does not list {unlisted[0]}, which a loader would read; {AGAIN}")
    for name, expected in success.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise UntrustedResultError(f"{marker}: the adapter's file {name} is gone; {AGAIN}")
        if sha256_file(path) != expected:
            raise UntrustedResultError(f"{marker}: {name} was changed after training ended; {AGAIN}")
    return Checkpoint(
        folder,
        success.fingerprint,
        success.finished_at,
        success.final_loss,
        success.files[ADAPTER_FILES[1]],
        success,
    )


def _read_by_loaders(folder: Path) -> list[str]:
    files = (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else ()
    return sorted(p.name for p in files if p.suffix.lower() in READ_BY_LOADERS or p.name in ALSO_READ)


def find_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint with the latest `finished_at` among those under `folder` with a valid marker of this fingerprint.

    Raises UntrustedResultError if the only ones of this fingerprint are those whose adapter was changed or is gone.
    """
    sound: list[Checkpoint] = []
    own_fault: UntrustedResultError | None = None
    for marker in sorted(folder.glob(f"*/{SUCCESS}")):
        try:
            checkpoint = read_success(marker.parent)
        except UntrustedResultError as error:
            if marker.parent.name == fingerprint[:12]:  # as `run.folder` names it: what it says of itself is broken
                own_fault = error
            continue
        if checkpoint.fingerprint == fingerprint:
            sound.append(checkpoint)
    if sound:
        return max(sound, key=lambda c: c.finished_at)
    if own_fault is not None:
        raise own_fault
    return None


class _Complete(BaseModel):
    """`COMPLETE` of a trainer checkpoint: `{"files": {"optimizer.pt": "4c…", "looks.json": "9f…", …}}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    files: dict[str, Sha256] = Field(min_length=1)


def mark_complete(checkpoint: Path) -> None:
    """Say that a trainer checkpoint is whole: the hash of each file, written when all of them are durable.

    360 MB (LoRA r=64 on a 270M model with its optimizer) are hashed in under a second.
    """
    files = _files(checkpoint)
    for path in files:
        _sync(path)
    for folder in sorted({path.parent for path in files} | {checkpoint, checkpoint.parent}):
        _sync(folder)
    hashes = {str(path.relative_to(checkpoint)): sha256_file(path) for path in files}
    write_json(checkpoint / COMPLETE, {"files": hashes})


def prune(folder: Path) -> None:
    """Remove older whole checkpoints but the newest `CHECKPOINTS_KEPT`: the last one is never alone for long.

    Called after the newest is marked, so that a sound one is there at every moment.
    """
    marked = sorted((path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")), key=_step)
    for checkpoint in marked[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(checkpoint, ignore_errors=True)


def newest_complete(folder: Path, say: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest whole trainer checkpoint under `folder`; others that are not whole any more are removed.

    `say` is told of one that was marked whole and is not: files damaged or gone, or marked by an earlier version.
    """
    whole: list[Path] = []
    damaged: list[str] = []
    for checkpoint in sorted((p for p in folder.glob("checkpoint-*") if p.is_dir()), key=_step):
        fault = _fault(checkpoint)
        if fault is None:
            whole.append(checkpoint)
            continue
        if (checkpoint / COMPLETE).exists():
            damaged.append(f"{checkpoint}: {fault}")
        shutil.rmtree(checkpoint, ignore_errors=True)
    instead = f"training goes on from {whole[-1].name}" if whole else "training begins anew"
    for fault in damaged:
        say(f"{fault}; this checkpoint is not used, {instead}")
    return whole[-1] if whole else None


def _fault(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be gone on from, or None."""
    try:
        complete = read_typed(checkpoint / COMPLETE, _Complete, "it has no hashes of its files")
    except UntrustedResultError as error:
        return str(error)
    files = {str(path.relative_to(checkpoint)): path for path in _files(checkpoint)}
    if odd := sorted(files.keys() ^ complete.files.keys()):
        return f"{odd[0]} is {'gone' if odd[0] in complete.files else 'not of this checkpoint'}"
    changed = [name for name, path in files.items() if sha256_file(path) != complete.files[name]]
    return f"{changed[0]} is not what was saved" if changed else None


def _files(checkpoint: Path) -> list[Path]:
    paths = (path for path in checkpoint.rglob("*") if path.is_file() and path != checkpoint / COMPLETE)
    return sorted(path for path in paths if not path.name.startswith(f".{COMPLETE}."))


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rsplit("-", 1)[1]
    return int(number) if number.isdigit() else -1


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
