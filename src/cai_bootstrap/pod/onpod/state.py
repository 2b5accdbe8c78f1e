"""Where the pod's side keeps its state, how it writes it on a disk that may be full, and which processes are alive."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

TAIL_BYTES = 8192


class Identity(TypedDict):
    """A process told apart from every later one with the same id: id, start time (clock ticks since boot), boot."""

    pid: int
    start: str
    boot: str


class Control:
    """Paths under `BASE/.pod`: `jobs/<id>/…`, `current.json`, `lock`, `id`, and the watchdog's files."""

    def __init__(self, base: str) -> None:
        self.base = Path(base)
        self.dir = self.base / ".pod"
        self.jobs = self.dir / "jobs"
        self.lock = self.dir / "lock"
        self.id = self.dir / "id"
        self.current = self.dir / "current.json"
        self.fetched = self.dir / "fetched.json"
        self.client = self.dir / "client"
        self.contact = self.dir / "contact"
        self.watchdog_config = self.dir / "watchdog.json"
        self.watchdog_lock = self.dir / "watchdog.lock"
        self.watchdog_log = self.dir / "watchdog.jsonl"
        self.watchdog_process = self.dir / "watchdog.pid.json"

    def create(self) -> None:
        self.jobs.mkdir(parents=True, exist_ok=True)
        os.chmod(self.dir, 0o700)
        self.pod_id()

    def pod_id(self) -> str | None:
        """Tells this volume's pod from every other, whatever their names; made once, random.

        None if it cannot be kept (a full disk).
        """
        with contextlib.suppress(OSError), open(self.dir / "id.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first pulls at once must not be told two ids
            if not self.id.exists():
                write_json(self.id, uuid.uuid4().hex)
        identifier: str | None = read_json(self.id)
        return identifier


def utc(seconds: float | None = None) -> str:
    """A time (epoch seconds; now if left out) as ISO-8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as target:
            json.dump(value, target)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_json(path: Path) -> Any:
    """The file's value, or None if it is not there or not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def append_line(path: Path, value: Mapping[str, object]) -> None:
    """Append one JSON line; a full disk is survived, the line is lost."""
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as target:
        target.write(json.dumps(value) + "\n")


def touch(path: Path) -> None:
    """Set a file's time to now; a full disk is survived."""
    with contextlib.suppress(OSError):
        if path.exists():
            os.utime(path)
        else:
            path.touch()


def age(path: Path) -> float:
    """Seconds since a file was touched; infinity if it never was."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")


def last_lines(path: Path, count: int = 20) -> list[str]:
    """The last lines of a text file, at most 8 KiB of it."""
    try:
        with open(path, "rb") as source:
            source.seek(0, os.SEEK_END)
            source.seek(max(0, source.tell() - TAIL_BYTES))
            text = source.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-count:]


def boot_id() -> str:
    """Tells this boot from another, so that process ids of the last one mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def identity(pid: int) -> Identity:
    """The identity of a living process."""
    fields = _stat(pid)
    return {"pid": pid, "start": fields[19] if fields else "", "boot": boot_id()}


def alive(who: Any) -> bool:
    """Whether that very process still runs; a zombie does not."""
    if not isinstance(who, dict) or not isinstance(who.get("pid"), int) or who.get("boot") != boot_id():
        return False
    fields = _stat(who["pid"])
    return fields is not None and fields[0] not in "ZX" and fields[19] == who.get("start")


def session_members(leader: Any) -> list[int]:
    """The living processes of a job's session: its leader, and children that outlived it."""
    if not isinstance(leader, dict) or leader.get("boot") != boot_id():
        return []
    members = []
    for entry in os.listdir("/proc"):
        fields = _stat(int(entry)) if entry.isdigit() else None
        if (
            fields is not None
            and fields[0] not in "ZX"
            and int(fields[3]) == leader["pid"]
            and int(fields[19]) >= int(leader.get("start") or 0)
        ):
            members.append(int(entry))
    return members


def oom_kills() -> int | None:
    """How often the kernel's OOM killer has struck in this process's memory cgroup (v2 or v1); None if unknown."""
    counted = None
    for name in _oom_counters():
        try:
            for line in name.read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    counted = max(counted or 0, int(value))
        except (OSError, ValueError):
            continue
    return counted


def _oom_counters() -> list[Path]:
    counters = [Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control")]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                counters.append(Path("/sys/fs/cgroup" + path) / "memory.events")
            elif "memory" in controllers.split(","):
                counters.append(Path("/sys/fs/cgroup/memory" + path) / "memory.oom_control")
    return counters


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that holds a folder."""
    try:
        return os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
    except OSError:
        return -1
