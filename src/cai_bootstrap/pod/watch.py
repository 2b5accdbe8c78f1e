"""Watch a job: its step, progress, speed and time left, the GPU's memory and load, and the dollars so far and to
come.
"""

import json
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cai_bootstrap.config import STEPS
from cai_bootstrap.pod import job
from cai_bootstrap.pod.answers import End, Event, EventLine, Frame, Gpu, Money, Out, Status, Tick, excerpt, parse, read
from cai_bootstrap.pod.errors import PodError, UnreachableError, UnreadableError
from cai_bootstrap.pod.follow import Follower
from cai_bootstrap.pod.session import rental
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.printable import duration, one_line

WARN_SHARE = 0.8
PROGRESS_SECONDS = 10.0
MOST_STEPS = 100  # of which the seconds are remembered
NAME_LIMIT = 80
EVENTS = ("step_started", "progress", "step_finished", "notice")


class View:
    """What is known of a running job, from the frames seen so far."""

    def __init__(self, planned: dict[str, float] | None = None) -> None:
        self.planned = planned or {}
        self.step: str | None = None
        self.progress: Event | None = None
        self.gpu: list[Gpu] = []
        self.money: Money | None = None
        self.free_bytes = -1
        self.steps: dict[str, float] = {}
        self.warned = False
        self.ended = False

    def take(self, frame: Frame) -> Event | None:
        """Learn from a frame; returns the job's event if it holds one. Raises UnreadableError for one that is none."""
        if isinstance(frame, Tick):
            self.gpu, self.money, self.free_bytes = frame.gpu, frame.money, frame.free_bytes
        if not isinstance(frame, EventLine):
            return None
        event = event_of(frame.t)
        if event is None:
            return None
        if event.event in ("step_started", "progress"):
            self.step = event.step or self.step
            self.progress = event if event.event == "progress" else None
        elif event.event == "step_finished":
            self.progress = None
            if event.seconds is not None and event.step and len(self.steps) < MOST_STEPS:
                self.steps[one_line(event.step, NAME_LIMIT)] = event.seconds
        return event

    def progress_text(self) -> str:
        """The step and how far it is: `generate 120/500, 2478 tokens/s, 5 min 10 s left`."""
        if self.step is None:
            return "starting"
        parts = [one_line(self.step, NAME_LIMIT)]
        progress = self.progress
        if progress is not None and progress.done is not None and progress.total is not None:
            parts[0] += f" {progress.done}/{progress.total}"
        if progress is not None and progress.tokens_per_second is not None:
            parts.append(f"{progress.tokens_per_second:.0f} tokens/s")
        if progress is not None and progress.eta_seconds is not None:
            parts.append(f"{duration(progress.eta_seconds)} left")
        return ", ".join(parts)

    def money_text(self) -> str:
        """Dollars so far, and projected: to the run's end if later steps were measured, else to this step's end."""
        if self.money is None:
            return "no price known"
        text = f"{self.money.spent:.2f} $ so far"
        if self.progress is not None and self.progress.eta_seconds is not None:
            later = (
                [self.planned.get(step) for step in STEPS[STEPS.index(self.step) + 1 :]]
                if self.step in STEPS
                else [None]
            )
            measured = [seconds for seconds in later if seconds is not None]
            whole = len(measured) == len(later)
            seconds = self.progress.eta_seconds + (sum(measured) if whole else 0)
            end = "the run's" if whole else "this step's"
            text += f", {self.money.spent + seconds / 3600 * self.money.price:.2f} $ at {end} end"
        if self.money.budget:
            text += f", budget {self.money.budget:.2f} $"
        return text

    def gpu_text(self) -> str:
        """Memory and load of each GPU."""
        return "; ".join(f"{g.used / 1024:.1f}/{g.total / 1024:.0f} GiB, {g.load}% load" for g in self.gpu) or "none"

    def table(self) -> Table:
        """The view for a terminal."""
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("step", self.progress_text()),
            ("GPU", self.gpu_text()),
            ("disk", f"{self.free_bytes / (1 << 30):.1f} GiB free" if self.free_bytes >= 0 else "unknown"),
            ("money", self.money_text()),
        ):
            table.add_row(Text(name, style="bold"), Text(value))
        return table


def event_of(line: str) -> Event | None:
    """A line of an events file, if it tells of a step. Raises UnreadableError for a line that is no event."""
    fields = parse(line, "an event of the job")
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        raise UnreadableError(f"an event of the job is unreadable: it has no 'event'; the pod sent {excerpt(fields)}")
    return read(Event, fields, "an event of the job") if fields["event"] in EVENTS else None


def watch(
    remote: Remote,
    console: Console,
    *,
    as_json: bool = False,
    job_id: str | None = None,
    limit_seconds: float | None = None,
) -> tuple[Status, View]:
    """Show a job until it ends; returns its final status and what was seen.

    Lines of the job's output are printed as they come; on a terminal the view stays below them, elsewhere a line tells
    of progress now and then. Ends the job cleanly if the budget is spent and the pod's watchdog has not. With
    `limit_seconds`, raises UnreachableError if the job has not ended by then.
    """
    view = View(planned_seconds(remote))
    follower = Follower(remote, job_id)
    until = None
    if limit_seconds is not None:
        follower.patience_seconds, until = limit_seconds, time.monotonic() + limit_seconds
    live = (
        None
        if as_json or not console.is_terminal
        else Live(console=console, get_renderable=view.table, refresh_per_second=2)
    )
    printer = _Printer(console, as_json, view)
    if live is not None:
        live.start()
    try:
        for frame in follower.frames(printer.notice):
            event = None
            try:
                event = view.take(frame)
            except UnreadableError as problem:
                follower.complain(problem, printer.notice)
            printer.show(frame, event)
            if isinstance(frame, Tick):
                _keep_budget(remote, view, frame.over, printer.notice)
            if isinstance(frame, End):
                return frame.status, view
            if until is not None and time.monotonic() > until:
                raise UnreachableError(f"{remote.settings.address}: the job has not ended in {limit_seconds:.0f} s")
    finally:
        if live is not None:
            live.stop()
    raise AssertionError("frames() ends with an end frame or an error")


def planned_seconds(remote: Remote) -> dict[str, float]:
    """The seconds per step that were estimated for this pod's run, as far as they were measured."""
    estimate = (rental(remote.settings) or {}).get("estimate") or {}
    return {step["step"]: step["seconds"] for step in estimate.get("steps", []) if step["seconds"] is not None}


class _Printer:
    def __init__(self, console: Console, as_json: bool, view: View) -> None:
        self.console, self.as_json, self.view = console, as_json, view
        self.last_progress = 0.0

    def line(self, text: str) -> None:
        self.console.print(Text(one_line(text)), soft_wrap=True)

    def notice(self, text: str) -> None:
        if self.as_json:
            print(json.dumps({"k": "notice", "t": text}), flush=True)
        else:
            self.line(text)

    def show(self, frame: Frame, event: Event | None) -> None:
        if self.as_json:
            print(json.dumps(frame.record()), flush=True)
        elif isinstance(frame, Out):
            self.line(frame.t)
        elif event is not None and event.event != "progress":
            took = f" ({duration(event.seconds)})" if event.seconds is not None else ""
            words = [event.step or "", event.event.removeprefix("step_"), event.message or ""]
            self.line("[pod] " + " ".join(word for word in words if word) + took)
        elif (
            isinstance(frame, Tick)
            and not self.console.is_terminal
            and time.monotonic() > self.last_progress + PROGRESS_SECONDS
        ):
            self.last_progress = time.monotonic()
            self.line(f"[pod] {self.view.progress_text()} | GPU {self.view.gpu_text()} | {self.view.money_text()}")


def _keep_budget(remote: Remote, view: View, over: bool, say: Callable[[str], None]) -> None:
    money = view.money
    if money is None or not money.budget:
        return
    if money.spent >= WARN_SHARE * money.budget and not view.warned:
        view.warned = True
        say(f"WARNING: {money.spent:.2f} $ of the budget of {money.budget:.2f} $ are spent")
    if money.spent >= money.budget and not over and not view.ended:
        view.ended = True
        say(f"the budget of {money.budget:.2f} $ is spent: the job is being ended cleanly")
        try:
            job.end(remote, "budget")
        except PodError as problem:  # tried again at the next tick
            view.ended = False
            say(f"the job was NOT ended ({problem})")
