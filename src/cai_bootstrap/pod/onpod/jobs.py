"""Detached jobs on the pod: start one, supervise it, say truly how it stands, end it.

One job at a time: the supervisor holds `flock` on `.pod/lock` for its whole life, so the lock says whether one runs
even if every file lies. A job is finished when its `exit.json` exists; running when its supervisor is that same living
process; lost otherwise. If the supervisor dies, the kernel sends the job SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import signal
import subprocess
import time
import traceback
from pathlib import Path
from typing import TypedDict, cast

from . import secrets, state
from .state import Control

RESERVE_BYTES = 65536
END_GRACE_SECONDS = 120.0
LEFTOVER_GRACE_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
LOCKED = 75


class Spec(TypedDict, total=False):
    """A job to start; its `spec.json` holds the same without `secrets`, which touch the disk only as `secrets.put`."""

    slot: str
    argv: list[str]
    cwd: str
    env: dict[str, str]
    secrets: dict[str, str]
    mark: str
    leftover_grace: float
    id: str
    asked_at: str
    events_base: dict[str, int]


class Ended(TypedDict, total=False):
    """How a job ended, as `exit.json` holds it; times in epoch seconds."""

    exit_code: int
    signal: int | None
    began: float | None
    ended: float
    oom_kills: int
    reason: str


class Status(Ended, total=False):
    """How a job stands: `state` is none, starting, running, finished or lost."""

    state: str
    job: str | None
    slot: str | None
    argv: list[str] | None
    mark: str | None
    fetched: bool
    now: float
    last_lines: list[str]
    free_bytes: int
    leftovers: int
    started: bool
    problem: str


def start(control: Control, spec: Spec) -> Status:
    """Start a job detached from this session, unless one runs.

    `spec`: `slot`, `argv`, `cwd`, `env` (plain values), `secrets` (values that touch the disk only as `secrets.put`),
    `mark` (the client's name for "the same work"). Returns the job's status, with `started` telling whether it is new.
    """
    control.create()
    lock = os.open(control.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return {**status(control), "started": False}
    end_leftovers(control, float(spec.get("leftover_grace", LEFTOVER_GRACE_SECONDS)))
    job_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{random.SystemRandom().randrange(65536):04x}"
    folder = control.jobs / job_id
    folder.mkdir()
    hidden = secrets.put(control, spec.get("secrets") or {})
    plain = cast("Spec", {key: spec.get(key) for key in ("slot", "argv", "cwd", "env", "mark") if key in spec})
    plain.update({"id": job_id, "asked_at": state.utc(), "events_base": _event_offsets(control)})
    state.write_json(folder / "spec.json", plain)
    with open(folder / "reserve", "wb") as reserve:
        reserve.write(os.urandom(RESERVE_BYTES))
    state.write_json(control.current, {"id": job_id})
    ready, tell = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            os.setsid()
            if os.fork() == 0:
                detach(folder / "supervisor.log")
                _supervise(folder, plain, hidden, tell)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(tell)
    os.close(lock)
    with os.fdopen(ready, "r", encoding="utf-8") as answers:
        answer = answers.read()
    return {**status(control), "started": True, "problem": answer.strip()}


def detach(log: Path) -> None:
    """Cut a process off the session that started it: no terminal, no streams of its own but a log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _die_with_parent(parent: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(143)


def _supervise(folder: Path, spec: Spec, hidden: str, tell: int) -> None:
    """Run the job to its end and write how it ended."""
    asked: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    state.write_json(folder / "supervisor.json", state.identity(os.getpid()))
    kills_before = state.oom_kills()
    began = time.time()
    env = dict(os.environ, **spec.get("env", {}))
    parent = os.getpid()
    try:
        env.update(secrets.take(hidden))
        with open(folder / "output.log", "ab") as output:
            job = subprocess.Popen(
                spec["argv"],
                cwd=spec["cwd"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(parent),
            )
    except (OSError, ValueError) as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        with contextlib.suppress(OSError), open(folder / "output.log", "a", encoding="utf-8") as output_text:
            output_text.write(f"the job could not be started: {error}\n")
        _write_exit(folder, {"exit_code": code, "signal": None, "began": began, "ended": time.time(), "oom_kills": 0})
        os.write(tell, str(error).encode())
        os.close(tell)
        return
    env.clear()
    with contextlib.suppress(OSError):
        state.write_json(folder / "job.json", dict(state.identity(job.pid), began=began))
    os.close(tell)
    code = _wait(job, folder, asked)
    with contextlib.suppress(OSError):
        os.killpg(job.pid, signal.SIGKILL)
    kills_after = state.oom_kills()
    kills = kills_after - kills_before if kills_after is not None and kills_before is not None else 0
    ended: Ended = {
        "exit_code": code if code >= 0 else 128 - code,
        "signal": -code if code < 0 else None,
        "began": began,
        "ended": time.time(),
        "oom_kills": kills,
    }
    if asked:
        asked_for = state.read_json(folder / "end.json") or {}
        ended["reason"] = asked_for.get("reason", "terminated")
    _write_exit(folder, ended)


def _wait(job: subprocess.Popen[bytes], folder: Path, asked: list[float]) -> int:
    terminated_at: float | None = None
    grace = END_GRACE_SECONDS
    while True:
        try:
            return job.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            pass
        if asked and terminated_at is None:
            terminated_at = time.monotonic()
            grace = float((state.read_json(folder / "end.json") or {}).get("grace", END_GRACE_SECONDS))
            job.terminate()
        if terminated_at is not None and time.monotonic() - terminated_at > grace:
            with contextlib.suppress(OSError):
                os.killpg(job.pid, signal.SIGKILL)


def _write_exit(folder: Path, ended: Ended) -> None:
    """Write how the job ended, also on a disk that the job has filled: the reserve makes room."""
    for _ in range(2):
        try:
            state.write_json(folder / "exit.json", ended)
            return
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(folder / "reserve")


def current_job(control: Control) -> Path | None:
    """The folder of the newest job, or None."""
    current = state.read_json(control.current)
    return control.jobs / str(current["id"]) if isinstance(current, dict) and "id" in current else None


def status(control: Control, job_id: str | None = None) -> Status:
    """How a job stands (the newest if none is named): `state` is none, starting, running, finished or lost."""
    folder = control.jobs / job_id if job_id else current_job(control)
    if folder is None or not folder.is_dir():
        return {"state": "starting" if _locked(control) else "none", "job": None, "now": time.time()}
    spec = state.read_json(folder / "spec.json") or {}
    running = state.alive(state.read_json(folder / "supervisor.json"))
    ended = state.read_json(folder / "exit.json")
    began = (ended or state.read_json(folder / "job.json") or {}).get("began")
    answer: Status = {
        "job": folder.name,
        "slot": spec.get("slot"),
        "argv": spec.get("argv"),
        "mark": spec.get("mark"),
        "began": began,
        "fetched": _is_fetched(control, folder.name),
        "now": time.time(),
        "last_lines": state.last_lines(folder / "output.log"),
        "free_bytes": state.free_bytes(control.base),
    }
    if ended is not None:
        answer["state"] = "finished"
        fields = ("exit_code", "signal", "ended", "oom_kills", "reason")
        answer.update(cast("Status", {key: ended.get(key) for key in fields}))
    elif running:
        answer["state"] = "running"
    elif not (folder / "supervisor.json").exists() and _locked(control):
        answer["state"] = "starting"
    else:
        answer["state"] = "lost"
        answer["leftovers"] = len(state.session_members(state.read_json(folder / "job.json")))
    return answer


def _locked(control: Control) -> bool:
    try:
        with open(control.lock, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)


def _is_fetched(control: Control, job_id: str) -> bool:
    fetched = state.read_json(control.fetched)
    return isinstance(fetched, dict) and fetched.get("job") == job_id


def end(control: Control, reason: str, grace: float = END_GRACE_SECONDS) -> Status:
    """Ask the running job to stop: SIGTERM, and SIGKILL to its group after `grace` seconds. Returns at once."""
    folder = current_job(control)
    answer = status(control)
    if folder is not None and answer["state"] == "running":
        supervisor = state.read_json(folder / "supervisor.json")
        if not (folder / "end.json").exists():
            with contextlib.suppress(OSError):
                state.write_json(folder / "end.json", {"reason": reason, "grace": grace, "at": state.utc()})
            with contextlib.suppress(OSError):
                os.kill(supervisor["pid"], signal.SIGTERM)
    elif answer["state"] == "lost" and answer.get("leftovers"):
        end_leftovers(control)
    return answer


def end_leftovers(control: Control, grace: float = LEFTOVER_GRACE_SECONDS) -> None:
    """End what a lost job left running: TERM to each process of its session, KILL after `grace` seconds."""
    folder = current_job(control)
    leader = state.read_json(folder / "job.json") if folder is not None else None
    if not isinstance(leader, dict):
        return
    limit = time.monotonic() + grace
    terminated = False
    while (left := state.session_members(leader)) and time.monotonic() < limit + 5:
        late = time.monotonic() > limit
        for pid in left if late or not terminated else ():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        terminated = True
        time.sleep(0.1)


def mark_fetched(control: Control, job_id: str) -> None:
    """Record that a client holds verified copies of everything this job left behind."""
    state.write_json(control.fetched, {"job": job_id, "at": state.utc(), "time": time.time()})


def _event_offsets(control: Control) -> dict[str, int]:
    """Where each event log ends now (after its last whole line), so that a follower shows this job's events only."""
    offsets = {}
    for path in sorted((control.base / "logs").glob("*.jsonl")):
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            with open(path, "rb") as source:
                source.seek(max(0, size - 65536))
                block = source.read()
            offsets[path.name] = size - (len(block) - (block.rfind(b"\n") + 1))
    return offsets
