"""Start, watch over and end the detached job on the pod, and arm the watchdog that keeps the money."""

import time
from collections.abc import Sequence

from cai_bootstrap.errors import EXIT_LOCKED, EXIT_TIMEOUT
from cai_bootstrap.files import fingerprint
from cai_bootstrap.pod import ledger
from cai_bootstrap.pod.answers import Status, Watchdog, read
from cai_bootstrap.pod.errors import JobRunningError, PodError
from cai_bootstrap.pod.install import pushed_code
from cai_bootstrap.pod.session import rental
from cai_bootstrap.pod.settings import PodSettings, require_price
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.printable import duration, one_line

EXIT_LOST = 1


def job_argv(settings: PodSettings, arguments: Sequence[str]) -> list[str]:
    """The job's command on the pod: pod.yaml's `job` with {python}, {base}, {code} and {args} filled in."""
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


def job_mark(settings: PodSettings, arguments: Sequence[str], pushed: str) -> str:
    """Tells whether a finished job was this very work: same command, same variables, same code (its hash)."""
    return fingerprint([job_argv(settings, arguments), job_environment(settings), pushed])


def arm_watchdog(remote: Remote, *, budget: float | None = None) -> Watchdog:
    """Start or adjust the watchdog on the pod; the provider's key goes there on ssh's stdin. Returns how it stands.

    A `budget` (dollars) that is given here holds for this rental, until another is given; else pod.yaml's does. Raises
    PodConfigError for a budget without a price, which would never be spent.
    """
    settings = remote.settings
    open_rental = rental(settings)
    if open_rental is None:
        raise PodError(f"{settings.address}: no rental is open; run `cai pod check` first")
    in_force = next((b for b in (budget, open_rental.get("budget"), settings.budget) if b is not None), None)
    require_price(settings, in_force, open_rental["price"])
    if budget is not None:
        ledger.update(settings.name, settings.address, budget=budget)
    budget = in_force
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
    watchdog = read(Watchdog, remote.call("arm", stdin=request), f"{settings.address}: how the watchdog stands")
    if not watchdog.alive:
        raise PodError(f"{settings.address}: the watchdog did not start; see {settings.remote_base}/.pod/watchdog.err")
    return watchdog


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


def start_run(remote: Remote, arguments: Sequence[str]) -> Status:
    """Start the job, detached. Returns its status. Raises JobRunningError if one runs, PodError if it cannot start."""
    settings = remote.settings
    pushed = pushed_code(remote)
    if pushed is None:
        raise PodError(f"{settings.address}: no code was pushed yet; run `cai pod push` first")
    argv, environment = job_argv(settings, arguments), job_environment(settings)
    started = start(remote, "run", argv, environment, job_mark(settings, arguments, pushed))
    ledger.update(settings.name, settings.address, preset=settings.preset, job=started.job)
    return started


def start(remote: Remote, slot: str, argv: Sequence[str], environment: dict[str, str], mark: str) -> Status:
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
    job = read(Status, remote.call("start", stdin=spec, allow=(EXIT_LOCKED,)), f"{settings.address}: the job's status")
    if not job.started:
        raise JobRunningError(
            f"{settings.address}: a job runs there already ({one_line(job.slot or 'starting', 40)} {job.job}); "
            "follow it with `cai pod watch`, or end it with `cai pod stop --job-only`"
        )
    if job.problem:
        raise PodError(f"{settings.address}: the job could not be started: {one_line(job.problem)}")
    return job


def status(remote: Remote) -> Status:
    """How the newest job stands, and the watchdog. Raises UnreadableError for any other answer."""
    return read(Status, remote.call("status"), f"{remote.settings.address}: the job's status")


def end(remote: Remote, reason: str) -> None:
    """Ask the job to stop cleanly; it is killed after `stop.job_grace_seconds`."""
    remote.call("end", reason, str(remote.settings.stop.job_grace_seconds))


def exit_code(job: Status) -> int:
    """The exit code that a finished job hands on; 1 for a lost one."""
    return job.exit_code if job.state == "finished" and job.exit_code is not None else EXIT_LOST


def describe(job: Status) -> str:
    """How a job stands, in one sentence."""
    name = f"{one_line(job.slot or 'job', 40)} {job.job or ''}".rstrip()
    if job.state == "none":
        return "no job was started on this pod"
    if job.state in ("starting", "running"):
        took = f" for {duration(job.now - job.began)}" if job.now is not None and job.began is not None else ""
        return f"{name}: {job.state}{took}"
    if job.state == "lost":
        left = f"; {job.leftovers} of its processes still run" if job.leftovers else ""
        return f"{name}: lost, its supervisor died before it could record an exit code{left}"
    took = f" after {duration(job.ended - job.began)}" if job.ended is not None and job.began is not None else ""
    text = f"{name}: finished with exit code {job.exit_code}{took}"
    if job.oom_kills:
        return text + ": the kernel's OOM killer struck, the pod ran out of memory (smaller batches or a larger pod)"
    if job.reason:
        return text + f": ended because of {one_line(job.reason, 80)}"
    if job.signal == 9:
        return text + ": killed by SIGKILL, most often the sign of the OOM killer"
    if job.signal:
        return text + f": killed by signal {job.signal}"
    if job.exit_code == EXIT_TIMEOUT:
        return text + ": a step reached its time limit"
    return text
