"""Starting `cai` in processes of its own, and waiting for what they do."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

PATIENCE_SECONDS = 1800.0  # the real model on a busy machine; a quiet one needs five minutes
FAKE_RUN = str(Path(__file__).with_name("fake_run.py"))


# What a user's folder may hold: each leaves a mark when it is executed, and none has what its name promises.
USERS_OWN = (
    "yaml", "random", "statistics", "secrets", "logging", "click", "pydantic", "numpy", "torch", "transformers", "peft",
)  # fmt: skip


def plant(folder: Path) -> Path:
    """Put modules of the user's own into a folder (see `executed`); returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in USERS_OWN:
        (folder / f"{name}.py").write_text(f"open({str(folder / name) + '.executed'!r}, 'w').close()\n")
    return folder


def executed(folder: Path) -> list[str]:
    """Which of the planted modules some process has executed."""
    return sorted(path.stem for path in folder.glob("*.executed"))


def start(
    *arguments: object, fake: bool = False, cwd: Path | None = None, **environment: str
) -> "subprocess.Popen[str]":
    """Start `cai` (with steps that need no model if `fake`), its output piped; a group of its own, as a shell does."""
    command = [sys.executable, FAKE_RUN] if fake else [sys.executable, "-m", "cai_bootstrap"]
    return subprocess.Popen(
        [*command, *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        cwd=cwd,
        process_group=0,
    )


def run(*arguments: object, fake: bool = False, cwd: Path | None = None, **environment: str) -> tuple[int, str]:
    """Run `cai` to its end; its exit code and everything it said."""
    process = start(*arguments, fake=fake, cwd=cwd, **environment)
    try:
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()  # nothing where it has ended
    return process.returncode, said


def wait_for(condition: Callable[[], Any], *, seconds: float = 60.0, what: str = "") -> Any:
    """Poll until the condition gives something true. Fails the test when it does not within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what or condition} did not come true within {seconds} s")


def processes_of(base: Path) -> list[int]:
    """The processes whose command line names this base directory, zombies left out."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        info = process.info
        if info["status"] != psutil.STATUS_ZOMBIE and any(str(base) in word for word in info["cmdline"] or []):
            found.append(info["pid"])
    return found


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_json(base: Path) -> dict[str, Any]:
    """How the last run ended."""
    found: dict[str, Any] = json.loads((base / "results" / "run.json").read_text())
    return found
