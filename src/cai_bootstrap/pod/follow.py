"""The client's side of following a job: frames in, nothing lost or doubled, however often the connection breaks."""

import json
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from cai_bootstrap.pod.answers import End, EventLine, Frame, Out, Tick, frame_of, parse
from cai_bootstrap.pod.errors import PodError, UnreachableError, UnreadableError
from cai_bootstrap.pod.ssh import NOT_SHIPPED, TRANSPORT_FAILED, Remote
from cai_bootstrap.printable import message

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 45.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
MOST_FRAME = 4 << 20  # our side of the pod cuts a line at 64 KiB, which JSON may write in six times as many
MOST_COMPLAINTS = 10
MOST_FILES = 4096  # of events


class Follower:
    """Reads a job's frames and remembers how far it has come."""

    def __init__(self, remote: Remote, job: str | None = None, *, patience_seconds: float = 1800.0) -> None:
        self.remote = remote
        self.position: dict[str, Any] = {"job": job, "out": 0, "events": {}}
        self.patience_seconds = patience_seconds
        self._complaints: list[str] = []

    def frames(self, say: Callable[[str], None]) -> Iterator[Frame]:
        """Every frame up to and including `end`, each line exactly once; reconnects by itself.

        A frame that is unreadable is told to `say` and passed over: the job goes on, and so does watching. Raises
        AccessError or HostKeyError at once, UnreachableError when the pod stays away for `patience_seconds`.
        """
        pause, gone_since = FIRST_PAUSE_SECONDS, None
        while True:
            heard = False
            try:
                for frame in self._connection(say):
                    heard, gone_since, pause = True, None, FIRST_PAUSE_SECONDS
                    yield frame
                    if isinstance(frame, End):
                        return
            except UnreachableError as error:
                if gone_since is None:
                    gone_since = time.monotonic()
                    say(f"{error}; the job goes on, reconnecting")
                if time.monotonic() - gone_since > self.patience_seconds:
                    raise
                time.sleep(pause)
                pause = FIRST_PAUSE_SECONDS if heard else min(pause * 2, LONGEST_PAUSE_SECONDS)

    def complain(self, problem: UnreadableError, say: Callable[[str], None]) -> None:
        """Tell what was unreadable, each kind once and not without end."""
        text = str(problem)
        if text in self._complaints or len(self._complaints) > MOST_COMPLAINTS:
            return
        self._complaints.append(text)
        more = "; what else is unreadable is not told" if len(self._complaints) > MOST_COMPLAINTS else ""
        say(f"{self.remote.settings.address}: {text}; watching goes on{more}")

    def _connection(self, say: Callable[[str], None]) -> Iterator[Frame]:
        process = subprocess.Popen(
            self.remote.command(self.remote.pod_argv("follow"), alone=True),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            self._beat(process, json.dumps(self.position).encode() + b"\n")
            yield from self._read(process, say)
            try:
                code = process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                raise UnreachableError(f"{self.remote.settings.address}: the pod ended its answer only") from None
            errors = message(process.stderr.read(MOST_FRAME).decode("utf-8", "replace"))
            if code == NOT_SHIPPED:
                self.remote.ship()
                raise UnreachableError(f"{self.remote.settings.address}: our file had to be sent to the pod again")
            if code == TRANSPORT_FAILED:
                raise self.remote.failure(errors)
            if code > 0:
                raise PodError(f"{self.remote.settings.address}: following the job failed: {errors.strip()[-600:]}")
            raise UnreachableError(f"{self.remote.settings.address}: the connection ended")
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                try:
                    pipe.close()
                except OSError:
                    continue

    def _read(self, process: "subprocess.Popen[bytes]", say: Callable[[str], None]) -> Iterator[Frame]:
        """Whole frames until the stream ends; a torn last one is dropped, its lines come again."""
        assert process.stdout is not None
        rest = b""
        too_long = False
        last_readable = last_beat = time.monotonic()
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            while True:
                if ready.select(timeout=1.0):
                    block = process.stdout.read1(65536)  # type: ignore[attr-defined]
                    if not block:
                        return
                    *lines, rest = (rest + block).split(b"\n")
                    if lines and too_long:
                        del lines[0]
                        too_long = False
                    if len(rest) > MOST_FRAME:
                        rest, too_long = b"", True
                        limit = f"a line of more than {MOST_FRAME >> 20} MiB"
                        self.complain(UnreadableError(f"what the job tells is unreadable: {limit}"), say)
                    for line in lines:
                        try:
                            frame = self._accept(line)
                        except UnreadableError as problem:
                            self.complain(problem, say)
                        else:
                            last_readable = time.monotonic()
                            yield frame
                if time.monotonic() - last_readable > SILENCE_SECONDS:
                    raise UnreachableError(f"{self.remote.settings.address}: silent for {SILENCE_SECONDS:.0f} s")
                if time.monotonic() - last_beat > BEAT_SECONDS:
                    last_beat = time.monotonic()
                    self._beat(process, b"\n")

    def _beat(self, process: "subprocess.Popen[bytes]", data: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(data)
            process.stdin.flush()
        except OSError:
            return

    def _accept(self, line: bytes) -> Frame:
        """A line as a frame; remembers how far it brings us. Raises UnreadableError."""
        frame = frame_of(parse(line, "what the job tells"))
        if isinstance(frame, Out):
            self.position["out"] = frame.o
        elif isinstance(frame, EventLine):
            if len(self.position["events"]) < MOST_FILES or frame.f in self.position["events"]:
                self.position["events"][frame.f] = frame.o
        elif isinstance(frame, Tick) and frame.job is not None:
            self.position["job"] = frame.job
        return frame
