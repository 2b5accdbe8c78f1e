"""Follow a job: whole lines of its output and events with the byte offset after each, until it ends.

The client tells on standard input how far it has come, then a newline every few seconds as a sign of life. Each line
written is one JSON frame; a client that was cut off ignores a torn frame and resumes from the offsets of the last whole
one, so it misses nothing and sees nothing twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypedDict

from . import jobs, state, watchdog
from .state import Control

POLL_SECONDS = 0.2
TICK_SECONDS = 2.0
SILENCE_SECONDS = 60.0
BLOCK = 1 << 16


class Gpu(TypedDict):
    """One GPU: MiB used and in all, load in percent."""

    name: str
    used: int
    total: int
    load: int


def follow(control: Control) -> None:
    """Write frames: `out` and `ev` (a line and its next offset), `tick` (how things stand), `end` (final status)."""
    position = json.loads(sys.stdin.readline() or "{}")
    folder = control.jobs / str(position["job"]) if position.get("job") else jobs.current_job(control)
    if folder is None:
        _frame({"k": "end", "status": jobs.status(control)})
        return
    spec = state.read_json(folder / "spec.json") or {}
    output = int(position.get("out", 0))
    events: dict[str, int] = dict(spec.get("events_base", {}), **position.get("events", {}))
    since = float((jobs.status(control, folder.name).get("began")) or 0) - 5
    heard = time.monotonic()
    next_tick = 0.0
    while True:
        if select.select([0], [], [], 0)[0]:
            if not os.read(0, 4096):
                return
            heard = time.monotonic()
            state.touch(control.client)
        if time.monotonic() - heard > SILENCE_SECONDS:
            return
        status = jobs.status(control, folder.name)
        over = status["state"] in ("finished", "lost", "none")
        for path in sorted((control.base / "logs").glob("*.jsonl")):
            if path.name in events or _modified(path) >= since:
                for line, offset in _lines(path, events.get(path.name, 0), over):
                    events[path.name] = offset
                    _frame({"k": "ev", "f": path.name, "o": offset, "t": line})
        for line, offset in _lines(folder / "output.log", output, over):
            output = offset
            _frame({"k": "out", "o": offset, "t": line})
        if over or time.monotonic() >= next_tick:
            next_tick = time.monotonic() + TICK_SECONDS
            tick = {"gpu": [] if over else gpu(), "money": watchdog.money(control), "free_bytes": status["free_bytes"]}
            _frame({"k": "tick", "job": folder.name, "over": over, **tick})
        if over:
            _frame({"k": "end", "status": status})
            return
        time.sleep(POLL_SECONDS)


def _frame(value: Mapping[str, object]) -> None:
    """Write and flush: small packets get through a line that breaks often, a large one never would."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _lines(path: Path, offset: int, over: bool) -> Iterator[tuple[str, int]]:
    """Whole lines from `offset` on, each with the offset after it; an unfinished one only when the job is over.

    A line of more than BLOCK bytes comes in pieces of so many.
    """
    try:
        source = open(path, "rb")  # noqa: SIM115 - only its opening may fail in silence
    except OSError:
        return
    with source:
        if os.fstat(source.fileno()).st_size < offset:
            offset = 0
        source.seek(offset)
        while raw := _piece(source):
            if not raw.endswith(b"\n") and not over and len(raw) < BLOCK:
                break
            offset += len(raw)
            yield raw.decode("utf-8", "replace").rstrip("\n"), offset


def _piece(source: BinaryIO) -> bytes:
    try:
        return source.readline(BLOCK)
    except OSError:
        return b""


_gpu_known: bool | None = None


def gpu() -> list[Gpu]:
    """Each GPU's name, memory used and total (MiB) and load (percent), from nvidia-smi; nothing where there is none."""
    global _gpu_known
    if _gpu_known is False:
        return []
    query = "name,memory.used,memory.total,utilization.gpu"
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=" + query, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        _gpu_known = _gpu_known or False
        return []
    _gpu_known = True
    gpus: list[Gpu] = []
    for row in answer.stdout.decode("utf-8", "replace").splitlines():
        cells = [cell.strip() for cell in row.split(",")]
        with contextlib.suppress(ValueError, IndexError):
            gpus.append({"name": cells[0], "used": int(cells[1]), "total": int(cells[2]), "load": int(cells[3])})
    return gpus
