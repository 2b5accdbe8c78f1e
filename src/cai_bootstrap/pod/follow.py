"""The client's side of following a job: frames in, nothing lost or doubled, however often the connection breaks."""

import json
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from cai_bootstrap.pod.errors import PodError, UnreachableError
from cai_bootstrap.pod.ssh import NOT_SHIPPED, TRANSPORT_FAILED, Remote

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 45.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
Frame = dict[str, Any]


class Follower:
    """Reads a job's frames and remembers how far it has come."""

    def __init__(self, remote: Remote, job: str | None = None, *, patience_seconds: float = 1800.0) -> None:
        self.remote = remote
        self.position: dict[str, Any] = {"job": job, "out": 0, "events": {}}
        self.patience_seconds = patience_seconds

    def frames(self, say: Callable[[str], None]) -> Iterator[Frame]:
        """Every frame up to and including `end`, each line exactly once; reconnects by itself.

        Raises AccessError or HostKeyError at once, UnreachableError when the pod stays away for `patience_seconds`.
        """
        pause, gone_since = FIRST_PAUSE_SECONDS, None
        while True:
            heard = False
            try:
                for frame in self._connection():
                    heard, gone_since, pause = True, None, FIRST_PAUSE_SECONDS
                    yield frame
                    if frame["k"] == "end":
                        return
            except UnreachableError as error:
                if gone_since is None:
                    gone_since = time.monotonic()
                    say(f"{error}; the job goes on, reconnecting")
                if time.monotonic() - gone_since > self.patience_seconds:
                    raise
                time.sleep(pause)
                pause = FIRST_PAUSE_SECONDS if heard else min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _connection(self) -> Iterator[Frame]:
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
            yield from self._read(process)
            code = process.wait(timeout=10)
            errors = process.stderr.read().decode("utf-8", "replace")
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

    def _read(self, process: "subprocess.Popen[bytes]") -> Iterator[Frame]:
        """Whole frames until the stream ends; a torn last one is dropped, its lines come again."""
        assert process.stdout is not None
        rest = b""
        last_heard = last_beat = time.monotonic()
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            while True:
                if ready.select(timeout=1.0):
                    block = process.stdout.read1(65536)  # type: ignore[attr-defined]
                    if not block:
                        return
                    last_heard = time.monotonic()
                    *lines, rest = (rest + block).split(b"\n")
                    for line in lines:
                        if (frame := self._accept(line)) is not None:
                            yield frame
                if time.monotonic() - last_heard > SILENCE_SECONDS:
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

    def _accept(self, line: bytes) -> Frame | None:
        try:
            frame = json.loads(line)
        except ValueError:
            return None
        if not isinstance(frame, dict) or "k" not in frame:
            return None
        if frame["k"] == "out":
            self.position["out"] = frame["o"]
        elif frame["k"] == "ev":
            self.position["events"][frame["f"]] = frame["o"]
        elif frame["k"] == "tick":
            self.position["job"] = frame["job"]
        return frame
