"""The standard streams of a `cai` process: output that goes nowhere must not change what a command does or returns.

A reader that has read enough (`| head`), a full disk, a stream that was closed before: the command goes on to its end,
and its exit code stays its own. Only where all was well and output was lost on a full disk, it is 1.
"""

import errno
import io
import os
import sys
from typing import TextIO, cast

from cai_bootstrap.errors import EXIT_FAILURE, EXIT_OK


class _Output(io.FileIO):
    """A stream that notes the first error in `lost`, and from then on takes what is written and forgets it."""

    lost: OSError | None = None

    def write(self, data: object) -> int | None:  # type: ignore[override]
        """The number of bytes that were written, or would have been."""
        if self.lost is None:
            try:
                return super().write(data)  # type: ignore[arg-type]
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes  # type: ignore[arg-type]


class Streams:
    """The process's standard streams, prepared: made once, before anything is written."""

    def __init__(self) -> None:
        self._open_all()
        self._outputs = [_Output(number, "wb", closefd=False) for number in (1, 2)]
        sys.stdout = _text(self._outputs[0], sys.stdout, buffered=True)
        sys.stderr = _text(self._outputs[1], sys.stderr, buffered=False)
        if sys.stdin is None:
            sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
        if isinstance(sys.stdin, io.TextIOWrapper):  # bytes that are no text reach the command, which refuses them
            sys.stdin.reconfigure(errors="surrogateescape")

    @staticmethod
    def _open_all() -> None:
        """Let a closed stream be /dev/null, or the next file that is opened would be taken for it."""
        for number in (0, 1, 2):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)

    def exit_code(self, code: int) -> int:
        """The command's exit code, once all is written. A success whose output a full disk swallowed is none."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        lost = self._outputs[0].lost
        if code != EXIT_OK or lost is None or lost.errno == errno.EPIPE:
            return code
        print(f"error: the output was lost: {lost.strerror}", file=sys.stderr, flush=True)
        return EXIT_FAILURE


def _text(raw: _Output, before: TextIO | None, *, buffered: bool) -> TextIO:
    """A text stream with the encoding of the one before; a character that it lacks is written as its escape."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    whole = encoding.lower().replace("-", "") == "utf8"
    errors = (getattr(before, "errors", None) or "strict") if whole else "backslashreplace"
    lines = not buffered or raw.isatty()
    return cast(TextIO, io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines))
