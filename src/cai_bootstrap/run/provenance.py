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
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.record import ConfigValue, Manifest, Product

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "vllm", "bitsandbytes", "numpy")


def manifest(resolved: Resolved, workspace: RunFolder) -> Manifest:
    """Versions, configuration with origins, and the hashes of the run's files. Missing files are left out."""
    data = [*workspace.rounds(), workspace.control_data]  # each round trained the evaluated adapter
    files = [
        *(path for folder in data for path in folder.hashed),
        *sorted(workspace.results.glob("*.json")),
        *workspace.success_markers(),
    ]
    return Manifest(
        product=Product(version=__version__, commit=commit()),
        python=platform.python_version(),
        platform=platform.platform(),
        versions={name: number for name in LIBRARIES if (number := installed(name))},
        config={key: ConfigValue(value=value, origin=origin) for key, value, origin in show(resolved)},
        model=_read(workspace.model),
        data=_read(workspace.round_data(1).summary),
        files={workspace.relative(path): sha256_file(path) for path in files if path != workspace.record},
    )


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
