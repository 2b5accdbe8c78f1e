"""What is made once for all processes of pytest-xdist."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, filled by `make` in the first process that asks for it; who reads it must not change it."""
    root = factory.getbasetemp()
    if root.name.startswith("popen-"):  # a worker's; beside it lie those of the others
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()  # fails where `make` has failed in another process
            make(folder)
            done.touch()
    return folder
