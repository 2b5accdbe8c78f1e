"""Secrets on the pod: from ssh's stdin into a file of mode 600, which is removed as it is read."""

from __future__ import annotations

import json
import os
import secrets as randomness
from pathlib import Path

from .state import Control

MEMORY_DISK = Path("/dev/shm")


def put(control: Control, values: dict[str, str]) -> str:
    """Write secrets to a new file that only this user can read; in memory where there is a memory disk."""
    in_memory = MEMORY_DISK.is_dir() and os.access(MEMORY_DISK, os.W_OK)
    folder = MEMORY_DISK if in_memory else control.dir
    path = folder / (f".cai-{randomness.token_hex(12)}")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        json.dump(values, target)
    return str(path)


def take(path: str) -> dict[str, str]:
    """Read a file made by `put` and remove it, also when reading fails. A file that is not there holds nothing."""
    try:
        with open(path, encoding="utf-8") as source:
            values = json.load(source)
    except FileNotFoundError:
        return {}
    finally:
        Path(path).unlink() if os.path.exists(path) else None
    return {str(name): str(value) for name, value in values.items()}
