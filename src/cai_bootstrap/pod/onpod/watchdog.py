"""The watchdog: keeps deadline and budget, and stops the pod, with no client connected.

One process per pod (`flock`), detached. It ends the job when the budget is spent or the deadline has come; then, or
when the job is done and fetched, or done (or nothing ever ran) for a while, it stops the pod: through the provider
with a key that it holds in memory only, or with a configured command. `watchdog.jsonl` records what it did.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
import traceback
from pathlib import Path
from typing import TypedDict, cast

from . import jobs, secrets, state
from .runpod import API_URL, ApiError, RunPod
from .state import Control

WARN_SHARE = 0.8
CONTAINER_ENVIRONMENT = "/proc/1/environ"
START_SECONDS = 20.0  # that a watchdog started by another command is waited for


class Config(TypedDict, total=False):
    """What the watchdog keeps to: dollars an hour and in all, epoch seconds (`…_at`), durations in seconds."""

    price: float
    budget: float | None
    started_at: float
    armed_at: float
    keyed: bool
    deadline_at: float | None
    idle_seconds: float | None
    fetched_seconds: float
    fetch_grace_seconds: float
    connected_seconds: float
    job_grace_seconds: float
    stop_limit_seconds: float
    retry_seconds: float
    tick_seconds: float
    pod_id: str | None
    api_url: str | None
    stop_command: str | None
    secret: str


class Request(Config, total=False):
    """What `arm` is asked for: times relative to now, so that clocks may differ."""

    elapsed_seconds: float
    deadline_seconds: float | None
    secrets: dict[str, str] | None


class Money(TypedDict):
    """Dollars since the rental began, `price` in dollars an hour."""

    seconds: float
    price: float
    spent: float
    budget: float | None
    deadline_in: float | None


class Standing(TypedDict):
    """How the watchdog stands."""

    armed: bool
    alive: bool
    money: Money | None
    can_stop: bool
    acts: list[str]


DEFAULTS: Config = {
    "price": 0.0,
    "budget": None,
    "started_at": 0.0,
    "armed_at": 0.0,
    "keyed": False,
    "deadline_at": None,
    "idle_seconds": 1800.0,
    "fetched_seconds": 300.0,
    "fetch_grace_seconds": 600.0,
    "connected_seconds": 30.0,
    "job_grace_seconds": 120.0,
    "stop_limit_seconds": 180.0,
    "retry_seconds": 30.0,
    "tick_seconds": 1.0,
    "pod_id": None,
    "api_url": None,
    "stop_command": None,
}


def arm(control: Control, asked: Request) -> Standing:
    """Set the limits and start the watchdog unless it runs. Times in `asked` are relative, so clocks may differ.

    `elapsed_seconds` since the rental began, `deadline_seconds` from its beginning (or None), and the keys of DEFAULTS;
    `secrets` may hold `api_key`. Raises ValueError for a budget that nothing would spend.
    """
    _refuse_endless_budget(asked)
    control.create()
    earlier = state.read_json(control.watchdog_config)
    alive = state.alive(state.read_json(control.watchdog_process))
    limits = {key: value for key, value in asked.items() if key in DEFAULTS}
    config = cast("Config", {**DEFAULTS, **limits})
    config["armed_at"] = time.time()
    config["started_at"] = config["armed_at"] - float(asked.get("elapsed_seconds", 0))
    deadline = asked.get("deadline_seconds")
    config["deadline_at"] = None if deadline is None else config["started_at"] + float(deadline)
    hidden = asked.get("secrets") or {}
    # A watchdog that lives keeps the key that it was given, also where this caller has none.
    config["keyed"] = bool(hidden) or (alive and isinstance(earlier, dict) and earlier.get("keyed", False))
    if hidden:
        config["secret"] = secrets.put(control, hidden)
    state.touch(control.contact)
    state.write_json(control.watchdog_config, config)
    lock = os.open(control.watchdog_lock, os.O_RDWR | os.O_CREAT, 0o600)
    if not _locked(lock, control):
        os.close(lock)
        return describe(control)
    ready, tell = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            os.setsid()
            if os.fork() == 0:
                jobs.detach(control.dir / "watchdog.err")
                state.write_json(control.watchdog_process, state.identity(os.getpid()))
                os.close(tell)
                _Watchdog(control).run()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(tell)
    os.close(lock)
    os.read(ready, 1)
    os.close(ready)
    return describe(control)


def _refuse_endless_budget(asked: Request) -> None:
    budget, price = asked.get("budget"), asked.get("price", DEFAULTS["price"])
    for name, value in (("budget", budget), ("price", price)):
        if budget is not None and not (isinstance(value, (int, float)) and 0 < value < 1e9):
            raise ValueError(f"a budget needs a {name} above 0, not {value!r}: else it is never spent")


def _locked(lock: int, control: Control) -> bool:
    """Whether this process is to start the watchdog. False once one lives: the lock may be held by one that starts."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if state.alive(state.read_json(control.watchdog_process)) or time.monotonic() > end:
                return False
        time.sleep(0.02)


def describe(control: Control) -> Standing:
    """Whether the watchdog lives, its limits and money, and its last few acts."""
    config = state.read_json(control.watchdog_config)
    return {
        "armed": isinstance(config, dict),
        "alive": state.alive(state.read_json(control.watchdog_process)),
        "money": money(control),
        "can_stop": isinstance(config, dict)
        and bool((config.get("keyed") and config.get("pod_id")) or config.get("stop_command")),
        "acts": state.last_lines(control.watchdog_log, 10),
    }


def money(control: Control) -> Money | None:
    """Dollars spent since the rental began, the price and the limits; None if the watchdog was never armed."""
    config = state.read_json(control.watchdog_config)
    if not isinstance(config, dict):
        return None
    seconds = time.time() - config["started_at"]
    deadline = config["deadline_at"]
    return {
        "seconds": seconds,
        "price": config["price"],
        "spent": seconds / 3600 * config["price"],
        "budget": config["budget"],
        "deadline_in": None if deadline is None else deadline - time.time(),
    }


class _Watchdog:
    def __init__(self, control: Control) -> None:
        self.control = control
        self.config: Config = {}
        self.key: str | None = None
        self.warned = False
        self.limit_reached: str | None = None
        self.limit_at = 0.0
        self.gave_up: str | None = None
        self.problem: str | None = None
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def log(self, event: str, message: str) -> None:
        state.append_line(self.control.watchdog_log, {"at": state.utc(), "event": event, "message": message})

    def run(self) -> None:
        self.log("armed", "watching")
        while True:
            try:
                self._read_config()
                reason = self._look()
            except Exception as error:
                self._note(error)
                reason = self._overdue()
            try:
                if reason is not None and self.gave_up is None and self._stop_pod(reason):
                    return
                if self.gave_up is not None and not self.control.dir.is_dir():
                    return  # no way to stop the pod, and everything that could run here is gone
            except Exception as error:
                self._note(error)
            time.sleep(self.config.get("tick_seconds", 1.0))

    def _note(self, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}"
        if problem != self.problem:  # each second the same would fill the disk
            self.log("problem", problem)
        self.problem = problem

    def _overdue(self) -> str | None:
        """A limit that was reached and all its patience spent: a job that cannot be looked at must not keep the pod."""
        if self.limit_reached is None:
            return None
        patience = self.config["job_grace_seconds"] + self.config["fetch_grace_seconds"]
        return self.limit_reached if time.time() - self.limit_at > patience else None

    def _read_config(self) -> None:
        config = state.read_json(self.control.watchdog_config)
        if isinstance(config, dict):
            if config != self.config:
                self.warned = False
                self.limit_reached = None
                self.gave_up = None
            self.config = cast("Config", config)
            if os.path.exists(config.get("secret", "")):
                self.key = secrets.take(config["secret"]).get("api_key", self.key)

    def _look(self) -> str | None:
        """The reason to stop the pod now, or None."""
        config = self.config
        spent = (time.time() - config["started_at"]) / 3600 * config["price"]
        budget = config["budget"]
        if budget is not None and spent >= WARN_SHARE * budget and not self.warned:
            self.warned = True
            self.log("warning", f"{spent:.2f} $ of {budget:.2f} $ are spent")
        if self.limit_reached is None:
            if budget is not None and spent >= budget:
                self._reach("budget", f"the budget of {budget:.2f} $ is spent")
            elif config["deadline_at"] is not None and time.time() >= config["deadline_at"]:
                self._reach("deadline", "the deadline has come")
        status = jobs.status(self.control)
        if self.limit_reached is not None:
            return self._after_limit(status)
        if status["state"] in ("running", "starting"):
            return None
        quiet = min(state.age(self.control.contact), state.age(self.control.client))
        if status["state"] in ("finished", "lost"):
            fetched = state.read_json(self.control.fetched) if status["fetched"] else None
            # What was fetched before somebody came back to this pod says nothing of what he wants with it now.
            came_back = fetched is not None and fetched["time"] < config["armed_at"]
            if fetched is not None and not came_back and time.time() - fetched["time"] >= config["fetched_seconds"]:
                return "fetched"
            ended = status.get("ended")
            quiet = min(quiet, time.time() - ended) if ended else quiet
        if config["idle_seconds"] is not None and quiet >= config["idle_seconds"]:
            return "idle"
        return None

    def _reach(self, reason: str, message: str) -> None:
        self.limit_reached = reason
        self.limit_at = time.time()
        self.log(reason, message + "; ending the job")
        jobs.end(self.control, reason, self.config["job_grace_seconds"])

    def _after_limit(self, status: jobs.Status) -> str | None:
        """After a limit: wait for the job's clean end, then for a connected client to fetch, but not for ever."""
        waited = time.time() - self.limit_at
        if status["state"] in ("running", "starting"):
            jobs.end(self.control, str(self.limit_reached), self.config["job_grace_seconds"])
            return self.limit_reached if waited > self.config["job_grace_seconds"] + 30 else None
        connected = (
            min(state.age(self.control.client), state.age(self.control.contact)) < self.config["connected_seconds"]
        )
        patient = waited < self.config["job_grace_seconds"] + self.config["fetch_grace_seconds"]
        if connected and patient and status["state"] != "none" and not status["fetched"]:
            return None
        if not status.get("fetched") and self.gave_up is None:
            self.log("not_fetched", "no client fetched the results; they stay on the pod's disk")
        return self.limit_reached

    def _stop_pod(self, reason: str) -> bool:
        """Stop the pod; True when it is stopped. Without a way to, the watchdog stays, to end jobs started later."""
        config = self.config
        self.log("stopping", "stopping the pod: " + reason)
        if self.key and config["pod_id"]:
            try:
                provider = RunPod(config["pod_id"], self.key, config["api_url"] or API_URL)
                provider.stop(
                    lambda text: self.log("provider", text), config["stop_limit_seconds"], config["tick_seconds"]
                )
                self.log("stopped", "the provider says that the pod no longer costs")
                return True
            except (ApiError, ValueError) as error:
                self.log("problem", str(error))
        if config["stop_command"]:
            code = run_stop_command(config["stop_command"])
            self.log("stop_command", f"exit code {code}")
            if code == 0:
                return True
        if not config["stop_command"] and not (self.key and config["pod_id"]):
            self.log("cannot_stop", "neither a provider key nor a stop command was given; the pod still costs")
            self.gave_up = reason
            return False
        time.sleep(config["retry_seconds"])
        return False


def run_stop_command(command: str) -> int | None:
    """Run a command that stops this pod; its exit code, None if it did not end.

    It finds the variables `RUNPOD_*`: the provider gives them to the container's first process, sshd hands none on.
    """
    variables = {}
    with contextlib.suppress(OSError):
        for entry in Path(CONTAINER_ENVIRONMENT).read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name.startswith(b"RUNPOD_"):
                variables[os.fsdecode(name)] = os.fsdecode(value)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["/bin/sh", "-c", command],
            env={**variables, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        ).returncode
    return None
