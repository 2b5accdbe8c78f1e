"""The report while a run goes on: a page on the loopback interface, read-only, made from the same files."""

import json
import os
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cai_bootstrap.errors import UsageError
from cai_bootstrap.events import (
    Error,
    Event,
    Gate,
    Notice,
    RunFinished,
    StepFinished,
    StepProgress,
    StepStarted,
    TrainStep,
    Watch,
    read_events,
)
from cai_bootstrap.printable import duration
from cai_bootstrap.report.build import report_page
from cai_bootstrap.report.safe import shown
from cai_bootstrap.report.stage_files import logs_of
from cai_bootstrap.report.tables import number
from cai_bootstrap.run.folder import RunFolder

HOST = "127.0.0.1"
PORT = 8765
# A page is made again at most this often, and making pages takes at most a tenth of the time: a run has the machine.
MIN_SECONDS_BETWEEN_PAGES = 5.0
REST_AFTER_PAGE = 10
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


def serve(workspace: RunFolder, port: int = PORT) -> ThreadingHTTPServer:
    """A server for the live report, bound to 127.0.0.1; `serve_forever` starts it. Port 0 takes a free one.

    It answers GET and HEAD on `/` and `/live.json`, only to requests that name a local host (a page elsewhere on the
    web cannot read it through a name of its own), and writes nothing. Raises UsageError if the port cannot be had.
    """
    pages = _Pages(workspace)

    class Handler(_Handler):
        source = pages

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise UsageError(f"port {port} on {HOST} cannot be used: {error}; choose another with --port") from error
    server.daemon_threads = True
    return server


def live_state(workspace: RunFolder) -> dict[str, Any]:
    """What the newest run does now, from its events: a line, the step's share done, steps, notices, and a stamp that
    changes whenever the report would."""
    logs = logs_of(workspace)
    events = read_events(logs[-1])[0] if logs else []
    steps = [_step_line(event) for event in events if isinstance(event, StepFinished)]
    notices = [notice for event in events if (notice := _notice(event))]
    line, share = _now(events)
    state: dict[str, Any] = shown({"line": line, "share": share, "steps": steps, "notices": notices[-6:][::-1]})
    return {**state, "stamp": _stamp(workspace, events)}


def _notice(event: Event) -> str:
    """What an event says in words, or nothing."""
    match event:
        case Notice() | Error():
            return f"{event.at} {event.step}: {event.message}"
        case Gate() | RunFinished() if event.message:
            return f"{event.at} : {event.message}"
        case _:
            return ""


def _now(events: Sequence[Event]) -> tuple[str, float]:
    if not events:
        return "No run has written an events file here yet.", 0.0
    telling = (e for e in reversed(events) if isinstance(e, RunFinished | StepStarted | StepFinished | StepProgress))
    match next(telling, None):
        case None:
            return "The run has begun.", 0.0
        case RunFinished() as ended:
            return f"The run has ended: {ended.verdict} (exit code {ended.exit_code}).", 1.0
        case StepFinished() as step:
            return f"{_step_line(step)}; the next step has not begun.", 1.0
        case StepStarted() as step:
            return f"{step.step}: started, time limit {duration(step.timeout)}.", 0.0
        case StepProgress() as progress:
            return _progress_line(progress, events), min(1.0, progress.done / progress.total) if progress.total else 0.0


def _progress_line(progress: StepProgress, events: Sequence[Event]) -> str:
    parts = [f"{progress.step}: {number(progress.done)} of {number(progress.total)}"]
    if progress.tokens_per_second:
        parts.append(f"{number(progress.tokens_per_second)} tokens/s")
    if progress.eta_seconds:
        parts.append(f"about {duration(progress.eta_seconds)} left")
    look = next((e for e in reversed(events) if isinstance(e, TrainStep | Watch)), None)
    if look is not None and progress.step == "train":
        figures = [(key, look.figures.get(key)) for key in ("loss", "rewards/margins", "strict_rate", "eos_rate")]
        parts += [f"{key.replace('_', ' ')} {number(value)}" for key, value in figures if isinstance(value, float)]
    return f"{', '.join(parts)} (at {progress.at})."


def _step_line(event: StepFinished) -> str:
    how = "skipped, finished before" if event.skipped else event.status
    part = f", round {event.round}" if event.round else ""
    return f"{event.step}{part}: {how}, {duration(event.seconds)}"


def _stamp(workspace: RunFolder, events: Sequence[Event]) -> str:
    """Changes with every event that shows in the report (progress does not) and with every file of results or data."""
    told = sum(not isinstance(event, StepProgress) for event in events)
    times = []
    for folder in (workspace.results, workspace.data, workspace.checkpoints):
        if folder.is_dir():
            with os.scandir(folder) as entries:
                times += [entry.stat().st_mtime_ns for entry in entries if not entry.name.endswith(".html")]
    return f"{told}.{len(times)}.{max(times, default=0)}"


class _Pages:
    """Makes the page anew when the files have changed, one at a time and not too often."""

    def __init__(self, workspace: RunFolder) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._page, self._stamp = b"", ""
        self._due = 0.0

    def page(self) -> bytes:
        """The newest page; at most some seconds old while a run goes on."""
        with self._lock:
            now = time.monotonic()
            stamp = live_state(self.workspace)["stamp"]
            if not self._page or (stamp != self._stamp and now >= self._due):
                self._page = report_page(self.workspace, live=True).encode()
                self._stamp = stamp
                took = time.monotonic() - now
                self._due = now + max(MIN_SECONDS_BETWEEN_PAGES, REST_AFTER_PAGE * took)
            return self._page

    def state(self) -> dict[str, Any]:
        """The live state; its stamp is that of the page which `page` would give, so that no change is missed."""
        state = live_state(self.workspace)
        with self._lock:
            if self._page and time.monotonic() < self._due:
                state["stamp"] = self._stamp
        return state


class _Handler(BaseHTTPRequestHandler):
    source: _Pages
    server_version, sys_version = "cai-report", ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def _answer(self, *, send_body: bool) -> None:
        name = (self.headers.get("Host") or "").rsplit(":", 1)[0] if self.headers.get("Host") != "[::1]" else "[::1]"
        if name not in _LOCAL_NAMES:
            self._send(403, "text/plain", b"only for 127.0.0.1 and localhost\n", send_body)
        elif self.path == "/":
            self._send(200, "text/html", self.source.page(), send_body)
        elif self.path == "/live.json":
            self._send(200, "application/json", json.dumps(self.source.state()).encode(), send_body)
        else:
            self._send(404, "text/plain", b"not here\n", send_body)

    def _send(self, code: int, kind: str, body: bytes, send_body: bool) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for header, value in (
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(header, value)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the command."""
