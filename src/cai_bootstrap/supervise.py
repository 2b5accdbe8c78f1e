"""Run a step as a process of its own that cannot outlive its time limit or its parent.

The step leads its own process group. At the limit the whole group gets TERM, a grace period, then KILL. The step holds
the reading end of a pipe whose writing end only the parent has: when the parent dies, however it dies, the pipe closes
and the step ends its group at once.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cai_bootstrap.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_TIMEOUT
from cai_bootstrap.interpreter import python_command, python_environment

GRACE_SECONDS = 20.0
POLL_SECONDS = 0.1
GROUP_SECONDS = 30.0
PARENT_PIPE = "CAI_PARENT_PIPE"


@dataclass(frozen=True)
class Ended:
    """How a supervised process ended: its exit code (124 at the limit, 130/143 on request), and after how long."""

    code: int
    seconds: float


class Signals:
    """What the user asked the parent to do, kept until the step has been told."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @contextlib.contextmanager
    def listening(self) -> "Iterator[Signals]":
        """Collect SIGINT, SIGTERM and SIGHUP instead of dying of them."""

        def collect(number: int, _: FrameType | None) -> None:
            self.received.append(number)

        kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {kind: signal.signal(kind, collect) for kind in kinds}
        try:
            yield self
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)


@contextlib.contextmanager
def leaving_cleanly() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise SystemExit with 128 + signal, so that scratch folders go and children end.

    The first one counts: what is being removed is removed. A signal that was ignored stays so (nohup). In a thread
    that is not the main one, which gets no signals, nothing is changed.
    """
    owner, kinds = os.getpid(), (signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a fork of this process, to which the scratch folders do not belong
            os._exit(128 + number)
        for kind in kinds:
            signal.signal(kind, signal.SIG_IGN)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.getsignal(kind) for kind in kinds}
    for kind, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(kind, leave)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@dataclass(frozen=True)
class Child:
    """A process that leads a group of its own. It ends when `lifeline`, an end of a pipe that only this process has,
    is closed."""

    process: "subprocess.Popen[bytes]"
    lifeline: int

    def end(self) -> None:
        """Leave nothing of its group."""
        _end_group(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _wait_for_group(self.process.pid)


def start_child(command: Sequence[str], log: Path, *, stdin: int = subprocess.DEVNULL) -> Child:
    """Start a command, its output going to the end of `log`; it reads nothing, or the file `stdin`."""
    read_end, write_end = os.pipe()
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=python_environment({PARENT_PIPE: str(read_end)}),
                pass_fds=[read_end],
                start_new_session=True,
            )
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    return Child(process, write_end)


def supervise(
    command: Sequence[str],
    *,
    timeout: float,
    log: Path,
    signals: Signals,
    on_tick: Callable[[], None] = lambda: None,
    meanwhile: Callable[[float], None] | None = None,
    grace: float = GRACE_SECONDS,
    start: Callable[[Sequence[str], Path], Child] = start_child,
) -> Ended:
    """Run a command to its end, its output going to `log`; `timeout` and `grace` are in seconds. `on_tick` is called
    now and then and at the end, `meanwhile(seconds so far)` only while it runs.

    The first SIGINT asks the step to finish its record and stop, a second one ends it at once; SIGTERM and SIGHUP ask,
    also after a SIGINT, and end it after the grace period. When this returns, nothing of the process group is left.
    """
    began = time.monotonic()
    child = start(command, log)
    try:
        try:
            code = _wait(child.process, began, timeout, signals, on_tick, meanwhile, grace)
        finally:
            child.end()
            on_tick()
    finally:
        os.close(child.lifeline)
    return Ended(code, time.monotonic() - began)


def _wait(
    process: "subprocess.Popen[bytes]",
    began: float,
    timeout: float,
    signals: Signals,
    on_tick: Callable[[], None],
    meanwhile: Callable[[float], None] | None,
    grace: float,
) -> int:
    """The exit code, after passing on what was asked; negative codes become 128 + signal."""
    asked: int | None = None
    kill_at = float("inf")
    handled = 0
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
        on_tick()
        if meanwhile is not None and process.returncode is None:
            meanwhile(time.monotonic() - began)
        now = time.monotonic()
        for number in signals.received[handled:]:
            handled += 1
            if number == signal.SIGINT and asked is not None:
                kill_at = now
            elif number == signal.SIGINT:
                asked = EXIT_INTERRUPTED
                _end_group(process.pid, signal.SIGINT)
            else:
                if asked is None:
                    asked = EXIT_TERMINATED
                    _end_group(process.pid, signal.SIGTERM)
                kill_at = min(kill_at, now + grace)
        if now >= began + timeout and kill_at == float("inf"):  # also of a step that was asked to stop and does not
            asked = asked or EXIT_TIMEOUT
            _end_group(process.pid, signal.SIGTERM)
            kill_at = now + grace
        if now >= kill_at:
            _end_group(process.pid, signal.SIGKILL)
    code = process.returncode
    if asked is not None and code != 0:
        return asked
    return code if code >= 0 else 128 - code


def _end_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _wait_for_group(leader: int) -> None:
    """Wait until no living process is in a killed group: the kernel ends them soon after the signal, not at once.

    Zombies do not count: an orphan's entry stays for as long as whoever adopted it pleases.
    """
    import psutil

    def living() -> bool:
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    until = time.monotonic() + GROUP_SECONDS
    while living() and time.monotonic() < until:
        time.sleep(0.01)


def step_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs a step in a process of its own, with this Python and this package."""
    return python_command("cai_bootstrap", "step", *arguments)


def die_with_parent(*, whole_group: bool = True) -> None:
    """In a step: end this whole process group, or this process alone, as soon as the parent is gone."""
    given = os.environ.pop(PARENT_PIPE, None)
    if given is None:
        return
    pipe = int(given)
    os.set_inheritable(pipe, False)

    def watch() -> None:
        while True:
            try:
                if not os.read(pipe, 1):
                    break
            except OSError:
                break
        if whole_group:
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


class StopRequest:
    """In a step: turns the first SIGINT or SIGTERM into a request to stop after the record, a second into an exit."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def install(self) -> "StopRequest":
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, self._on_signal)
        return self

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        return EXIT_TERMINATED if self.signal == signal.SIGTERM else EXIT_INTERRUPTED

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
