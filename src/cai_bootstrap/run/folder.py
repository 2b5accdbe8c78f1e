"""Where a run lives on disk."""

import errno
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from cai_bootstrap.errors import UsageError

POD_BASE = Path("/workspace/cai-constitution-bootstrap")
POD_CACHE = Path("/workspace/.cache")


def resolve_base_dir(given: str | Path | None = None) -> Path:
    """The base directory: `given`, else $CAI_BASE_DIR, else the pod's /workspace if writable, else ./cai-work.

    Creates nothing.
    """
    if given is None:
        given = os.environ.get("CAI_BASE_DIR") or None
    if given is not None:
        return Path(given).expanduser().absolute()
    if POD_BASE.parent.is_dir() and os.access(POD_BASE.parent, os.W_OK):
        return POD_BASE
    return Path("cai-work").absolute()


def resolve_cache_dir() -> Path:
    """Where converted and downloaded models are kept, shared by every base directory. Creates nothing."""
    if given := os.environ.get("CAI_CACHE_DIR"):
        return Path(given).expanduser().absolute()
    if POD_CACHE.parent.is_dir() and os.access(POD_CACHE.parent, os.W_OK):
        return POD_CACHE / "cai-bootstrap"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user_cache.expanduser().absolute() / "cai-bootstrap"


@dataclass(frozen=True)
class Workspace:
    """The folders of one run. Making the object creates nothing; `create` does."""

    base: Path
    data: Path
    checkpoints: Path
    results: Path
    logs: Path

    @classmethod
    def at(
        cls,
        base: str | Path | None = None,
        *,
        data: str | Path | None = None,
        checkpoints: str | Path | None = None,
        results: str | Path | None = None,
    ) -> "Workspace":
        """The workspace under `base` (resolved by `resolve_base_dir`), with any folder moved elsewhere on request."""
        root = resolve_base_dir(base)
        made = cls(root, root / "data" / "stage1", root / "checkpoints" / "stage1", root / "results", root / "logs")
        moved = {"data": data, "checkpoints": checkpoints, "results": results}
        return replace(made, **{name: Path(p).expanduser().absolute() for name, p in moved.items() if p is not None})

    def create(self) -> "Workspace":
        """Make the folders. Raises UsageError naming the folder that cannot be made or written, and why."""
        for folder in (self.base, self.data, self.checkpoints, self.results, self.logs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
                    probe.write(b"0")
            except OSError as error:
                hint = "free some space" if error.errno == errno.ENOSPC else "choose another with --base-dir"
                raise UsageError(f"{folder}: cannot be used as a working folder: {error.strerror}; {hint}") from error
        return self
