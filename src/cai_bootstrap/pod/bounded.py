"""Run ssh or rsync with bounds: on time, and on what the other side may send us."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

MOST_OUTPUT = 64 << 20
MOST_ERRORS = 32 << 10  # the end of it
BLOCK = 1 << 16


class TooMuchOutputError(Exception):
    """The other side sent more than `limit` bytes; the process was ended."""


def run_bounded(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
    limit: int = MOST_OUTPUT,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command; keeps at most `limit` bytes of its output and the end of its errors.

    Raises TimeoutExpired after `timeout` seconds, TooMuchOutputError beyond `limit`; the process is ended then.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    received, errors, excess = bytearray(), bytearray(), threading.Event()
    size = 0

    def take_output(block: bytes) -> None:
        nonlocal size
        size += len(block)
        if size > limit:
            excess.set()
            process.kill()
        else:
            received.extend(block)

    def take_errors(block: bytes) -> None:
        errors.extend(block)
        del errors[:-MOST_ERRORS]

    threads = [
        threading.Thread(target=_write, args=(process.stdin, stdin), daemon=True),
        threading.Thread(target=_read, args=(process.stdout, take_output), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, take_errors), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        process.wait(timeout)
        # A child that ssh left behind may hold the pipes open; what it writes is of no interest.
        for thread in threads:
            thread.join(5.0)
    finally:
        process.kill()
        process.wait()
    if excess.is_set():
        raise TooMuchOutputError(f"more than {limit >> 20} MiB")
    return subprocess.CompletedProcess(command, process.returncode, bytes(received), bytes(errors))


def _write(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError), pipe:
        pipe.write(data)


def _read(pipe: IO[bytes], take: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, ValueError), pipe:
        while block := pipe.read1(BLOCK):  # type: ignore[attr-defined]
            take(block)
