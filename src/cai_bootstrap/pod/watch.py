"""Watch a job: its step, progress, speed and time left, the GPU's memory and load, and the dollars so far and to
come.
"""

import json
import time
from collections.abc import Callable
from typing import Any, TypeGuard

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cai_bootstrap.pod import job
from cai_bootstrap.pod.estimate import STEPS
from cai_bootstrap.pod.follow import Follower, Frame
from cai_bootstrap.pod.session import rental
from cai_bootstrap.pod.ssh import Remote

WARN_SHARE = 0.8
PROGRESS_SECONDS = 10.0


class View:
    """What is known of a running job, from the frames seen so far."""

    def __init__(self, planned: dict[str, float] | None = None) -> None:
        self.planned = planned or {}
        self.step: str | None = None
        self.progress: dict[str, Any] = {}
        self.gpu: list[dict[str, Any]] = []
        self.money: dict[str, Any] | None = None
        self.free_bytes = -1
        self.steps: dict[str, float] = {}
        self.warned = False
        self.ended = False

    def take(self, frame: Frame) -> dict[str, Any] | None:
        """Learn from a frame; returns the job's event if it holds one."""
        if frame["k"] == "tick":
            self.gpu, self.money, self.free_bytes = frame["gpu"], frame["money"], frame["free_bytes"]
            return None
        if frame["k"] != "ev":
            return None
        try:
            event = json.loads(frame["t"])
        except ValueError:
            return None
        if not isinstance(event, dict):
            return None
        kind = event.get("event")
        if kind in ("step_started", "progress"):
            self.step = _text(event.get("step")) or self.step
            self.progress = event if kind == "progress" else {}
        elif kind == "step_finished":
            self.progress = {}
            if isinstance(event.get("seconds"), int | float) and event.get("step"):
                self.steps[_text(event["step"])] = float(event["seconds"])
        return event

    def progress_text(self) -> str:
        """The step and how far it is: `generate 120/500, 2478 tokens/s, 5 min 10 s left`."""
        if self.step is None:
            return "starting"
        parts = [self.step]
        done, total = self.progress.get("done"), self.progress.get("total")
        if _number(done) and _number(total):
            parts[0] += f" {done}/{total}"
        if _number(speed := self.progress.get("tokens_per_second")):
            parts.append(f"{speed:.0f} tokens/s")
        if _number(eta := self.progress.get("eta_seconds")):
            parts.append(f"{job.minutes(eta)} left")
        return ", ".join(parts)

    def money_text(self) -> str:
        """Dollars so far, and projected: to the run's end if later steps were measured, else to this step's end."""
        if not self.money:
            return "no price known"
        text = f"{self.money['spent']:.2f} $ so far"
        if _number(eta := self.progress.get("eta_seconds")):
            later = (
                [self.planned.get(step) for step in STEPS[STEPS.index(self.step) + 1 :]]
                if self.step in STEPS
                else [None]
            )
            known = [seconds for seconds in later if seconds is not None]
            whole = len(known) == len(later)
            seconds = eta + (sum(known) if whole else 0)
            end = "the run's" if whole else "this step's"
            text += f", {self.money['spent'] + seconds / 3600 * self.money['price']:.2f} $ at {end} end"
        if self.money["budget"]:
            text += f", budget {self.money['budget']:.2f} $"
        return text

    def gpu_text(self) -> str:
        """Memory and load of each GPU."""
        return (
            "; ".join(f"{g['used'] / 1024:.1f}/{g['total'] / 1024:.0f} GiB, {g['load']}% load" for g in self.gpu)
            or "none"
        )

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


def watch(remote: Remote, console: Console, *, as_json: bool, job_id: str | None = None) -> tuple[dict[str, Any], View]:
    """Show a job until it ends; returns its final status and what was seen.

    Lines of the job's output are printed as they come; on a terminal the view stays below them, elsewhere a line tells
    of progress now and then. Ends the job cleanly if the budget is spent and the pod's watchdog has not.
    """
    view = View(planned_seconds(remote))
    follower = Follower(remote, job_id)
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
            event = view.take(frame)
            printer.show(frame, event)
            if frame["k"] == "tick":
                _keep_budget(remote, view, frame["over"], printer.notice)
            if frame["k"] == "end":
                return dict(frame["status"]), view
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
        self.console.print(Text(printable(text)), soft_wrap=True)

    def notice(self, text: str) -> None:
        if self.as_json:
            print(json.dumps({"k": "notice", "t": text}), flush=True)
        else:
            self.line(text)

    def show(self, frame: Frame, event: dict[str, Any] | None) -> None:
        if self.as_json:
            print(json.dumps(frame), flush=True)
        elif frame["k"] == "out":
            self.line(frame["t"])
        elif event is not None and event.get("event") in ("step_started", "step_finished", "notice"):
            took = f" ({job.minutes(event['seconds'])})" if _number(event.get("seconds")) else ""
            words = [_text(event.get("step")), _text(event["event"]).removeprefix("step_"), _text(event.get("message"))]
            self.line("[pod] " + " ".join(word for word in words if word) + took)
        elif (
            frame["k"] == "tick"
            and not self.console.is_terminal
            and time.monotonic() > self.last_progress + PROGRESS_SECONDS
        ):
            self.last_progress = time.monotonic()
            self.line(f"[pod] {self.view.progress_text()} | GPU {self.view.gpu_text()} | {self.view.money_text()}")


def _keep_budget(remote: Remote, view: View, over: bool, say: Callable[[str], None]) -> None:
    money = view.money
    if not money or not money["budget"]:
        return
    if money["spent"] >= WARN_SHARE * money["budget"] and not view.warned:
        view.warned = True
        say(f"WARNING: {money['spent']:.2f} $ of the budget of {money['budget']:.2f} $ are spent")
    if money["spent"] >= money["budget"] and not over and not view.ended:
        view.ended = True
        say(f"the budget of {money['budget']:.2f} $ is spent: the job is being ended cleanly")
        job.end(remote, "budget")


def printable(text: str) -> str:
    """Text from the pod without what would steer the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "�" if c != "\r" else " " for c in text)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
