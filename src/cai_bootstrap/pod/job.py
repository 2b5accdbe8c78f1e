"""Start, watch over and end the detached job on the pod, and arm the watchdog that keeps the money."""

import time
from collections.abc import Sequence
from typing import Any

from cai_bootstrap.pod import ledger
from cai_bootstrap.pod.errors import JobRunningError, PodError
from cai_bootstrap.pod.install import pushed_code
from cai_bootstrap.pod.session import rental
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.workspace import fingerprint

LOCKED = 75
EXIT_LOST = 1


def job_argv(settings: PodSettings, arguments: Sequence[str]) -> list[str]:
    """The job's command on the pod: pod.yaml's `job` with {python}, {base}, {code} and {args} filled in."""
    arguments = list(arguments)
    if settings.preset and not {"--preset", "--config", "--quick-test"}.intersection(
        word.partition("=")[0] for word in arguments
    ):
        arguments = ["--preset", settings.preset, *arguments]
    argv: list[str] = []
    for word in settings.job:
        if word == "{args}":
            argv += arguments
            continue
        for name, value in (("python", settings.job_python), ("base", settings.remote_base), ("code", settings.code)):
            word = word.replace("{" + name + "}", value)
        argv.append(word)
    return argv


def job_environment(settings: PodSettings) -> dict[str, str]:
    """Plain variables of the job; with a Python named by pod.yaml, the pushed sources are found uninstalled."""
    found = {"PYTHONUNBUFFERED": "1", "CAI_BASE_DIR": settings.remote_base, **settings.env}
    if settings.python is not None:
        found["PYTHONPATH"] = f"{settings.code}/src"
    return found


def job_mark(settings: PodSettings, arguments: Sequence[str], pushed: dict[str, Any]) -> str:
    """Tells whether a finished job was this very work: same command, same variables, same code."""
    return fingerprint([job_argv(settings, arguments), job_environment(settings), pushed["sha256"]])


def arm_watchdog(remote: Remote, *, budget: float | None = None) -> dict[str, Any]:
    """Start or adjust the watchdog on the pod; the provider's key goes there on ssh's stdin. Returns how it stands.

    A `budget` (dollars) that is given here holds for this rental, until another is given; else pod.yaml's does.
    """
    settings = remote.settings
    open_rental = rental(settings)
    if open_rental is None:
        raise PodError(f"{settings.address}: no rental is open; run `cai pod check` first")
    if budget is not None:
        ledger.update(settings.name, settings.address, budget=budget)
    budget = next((b for b in (budget, open_rental.get("budget"), settings.budget) if b is not None), None)
    _refuse_beyond_limits(settings, open_rental, budget)
    stop, key = settings.stop, settings.provider.api_key
    request = {
        "price": open_rental["price"],
        "budget": budget,
        "elapsed_seconds": max(0.0, time.time() - open_rental["started"]),
        "deadline_seconds": None if settings.deadline_hours is None else settings.deadline_hours * 3600,
        "idle_seconds": None if stop.idle_minutes is None else stop.idle_minutes * 60,
        "fetched_seconds": stop.fetched_minutes * 60,
        "fetch_grace_seconds": stop.fetch_grace_minutes * 60,
        "connected_seconds": stop.connected_seconds,
        "job_grace_seconds": stop.job_grace_seconds,
        "stop_limit_seconds": stop.limit_seconds,
        "retry_seconds": stop.retry_seconds,
        "tick_seconds": stop.check_seconds,
        "pod_id": settings.provider.pod_id,
        "api_url": settings.provider.api_url,
        "stop_command": stop.command,
        "secrets": {"api_key": key} if key and settings.provider.pod_id else {},
    }
    found = remote.call("arm", stdin=request)
    if not found["alive"]:
        raise PodError(f"{settings.address}: the watchdog did not start; see {settings.remote_base}/.pod/watchdog.err")
    return dict(found)


def _refuse_beyond_limits(settings: PodSettings, open_rental: ledger.Rental, budget: float | None) -> None:
    spent, hours = ledger.dollars(open_rental), (time.time() - open_rental["started"]) / 3600
    if budget is not None and spent >= budget:
        raise PodError(
            f"{settings.address}: {spent:.2f} $ are spent since this rental began, the budget is "
            f"{budget:.2f} $: stop the pod with `cai pod stop`, or raise the budget with --budget"
        )
    if settings.deadline_hours is not None and hours >= settings.deadline_hours:
        raise PodError(
            f"{settings.address}: this rental is {hours:.1f} h old, past deadline_hours: {settings.deadline_hours:g}: "
            "stop the pod with `cai pod stop`, or move the deadline in pod.yaml"
        )


def start_run(remote: Remote, arguments: Sequence[str]) -> dict[str, Any]:
    """Start the job, detached. Returns its status. Raises JobRunningError if one runs, PodError if it cannot start."""
    settings = remote.settings
    pushed = pushed_code(remote)
    if pushed is None:
        raise PodError(f"{settings.address}: no code was pushed yet; run `cai pod push` first")
    argv, environment = job_argv(settings, arguments), job_environment(settings)
    found = start(remote, "run", argv, environment, job_mark(settings, arguments, pushed))
    ledger.update(settings.name, settings.address, preset=settings.preset, job=found["job"])
    return found


def start(remote: Remote, slot: str, argv: Sequence[str], environment: dict[str, str], mark: str) -> dict[str, Any]:
    """Start any command as the pod's one detached job; the secrets of pod.yaml become its environment variables."""
    settings = remote.settings
    spec = {
        "slot": slot,
        "argv": list(argv),
        "cwd": settings.code,
        "env": environment,
        "secrets": settings.secret_values(),
        "mark": mark,
        "leftover_grace": min(10.0, settings.stop.job_grace_seconds),
    }
    found = remote.call("start", stdin=spec, allow=(LOCKED,))
    if not found["started"]:
        raise JobRunningError(
            f"{settings.address}: a job runs there already ({found.get('slot') or 'starting'} {found.get('job')}); "
            "follow it with `cai pod watch`, or end it with `cai pod stop --job-only`"
        )
    if found.get("problem"):
        raise PodError(f"{settings.address}: the job could not be started: {found['problem']}")
    return dict(found)


def status(remote: Remote) -> dict[str, Any]:
    """How the newest job stands: `state` is none, starting, running, finished or lost; and the watchdog."""
    return dict(remote.call("status"))


def end(remote: Remote, reason: str) -> None:
    """Ask the job to stop cleanly; it is killed after `stop.job_grace_seconds`."""
    remote.call("end", reason, str(remote.settings.stop.job_grace_seconds))


def exit_code(found: dict[str, Any]) -> int:
    """The exit code that a finished job hands on; 1 for a lost one."""
    return int(found["exit_code"]) if found["state"] == "finished" else EXIT_LOST


def describe(found: dict[str, Any]) -> str:
    """How a job stands, in one sentence."""
    state, name = found["state"], f"{found.get('slot')} {found.get('job')}"
    if state == "none":
        return "no job was started on this pod"
    if state in ("starting", "running"):
        began = found.get("began")
        return f"{name}: {state}" + (f" for {minutes(found['now'] - began)}" if began else "")
    if state == "lost":
        left = f"; {found['leftovers']} of its processes still run" if found.get("leftovers") else ""
        return f"{name}: lost, its supervisor died before it could record an exit code{left}"
    text = f"{name}: finished with exit code {found['exit_code']} after {minutes(found['ended'] - found['began'])}"
    if found.get("oom_kills"):
        return text + ": the kernel's OOM killer struck, the pod ran out of memory (smaller batches or a larger pod)"
    if found.get("reason"):
        return text + f": ended because of {found['reason']}"
    if found.get("signal") == 9:
        return text + ": killed by SIGKILL, most often the sign of the OOM killer"
    if found.get("signal"):
        return text + f": killed by signal {found['signal']}"
    if found["exit_code"] == 124:
        return text + ": a step reached its time limit"
    return text


def minutes(seconds: float) -> str:
    """A duration for people."""
    whole = int(max(0, seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
