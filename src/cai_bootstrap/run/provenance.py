"""The manifest of a run: what it was made of, so that a number can be traced to bytes."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cai_bootstrap import __version__
from cai_bootstrap.config import Resolved, show
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import read_json, sha256_file
from cai_bootstrap.run.folder import Workspace

SUMMARIES = ("generation_summary.json", "diversity.json")
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "vllm", "bitsandbytes", "numpy")


def manifest(resolved: Resolved, workspace: Workspace) -> dict[str, Any]:
    """Versions, configuration with origins, and the hashes of the run's files. Missing files are left out."""
    files = [
        *sorted(workspace.data.glob("*.jsonl")),
        *(path for name in SUMMARIES for path in sorted(workspace.data.glob(name))),
        *sorted(workspace.data.glob("round-*/*.jsonl")),  # later rounds trained the evaluated adapter too
        *(path for name in SUMMARIES for path in sorted(workspace.data.glob(f"round-*/{name}"))),
        *sorted(workspace.results.glob("*.json")),
        *sorted(workspace.checkpoints.glob("*/TRAINING_SUCCESS")),
    ]
    return {
        "product": {"version": __version__, "commit": commit()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in LIBRARIES if (found := installed(name))},
        "config": {key: {"value": value, "from": origin} for key, value, origin in show(resolved)},
        "model": _read(workspace.logs / "model.json"),
        "data": _read(workspace.data / "generation_summary.json"),
        "files": {_name(path, workspace.base): sha256_file(path) for path in files if path.name != "run.json"},
    }


def installed(name: str) -> str | None:
    """An installed library's version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The checkout's commit, with `+changes` if the tree is dirty; None outside a checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except DataError:
        return None


def _name(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
