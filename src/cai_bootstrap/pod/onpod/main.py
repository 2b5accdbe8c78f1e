"""`python3 FILE.pyz VERB BASE [ARGUMENTS]`: one verb a call; structured input on stdin, one JSON value on stdout."""

from __future__ import annotations

import collections
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from . import files, follow, jobs, state, watchdog
from .state import Control


def main(arguments: list[str]) -> int:
    """Run one verb. Returns the exit code: 0, 75 if another job runs, 1 with a message on stderr otherwise."""
    verb, base, rest = arguments[0], arguments[1], arguments[2:]
    control = Control(base)
    try:
        return _verb(verb, control, rest)
    except BrokenPipeError:
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"{verb}: {error}", file=sys.stderr)
        return 1


def _verb(verb: str, control: Control, rest: list[str]) -> int:
    if verb != "status" and control.dir.is_dir():
        state.touch(control.contact)
    if verb == "start":
        answer = jobs.start(control, json.load(sys.stdin))
        _answer(answer)
        return 0 if answer["started"] else jobs.LOCKED
    if verb == "status":
        _answer(dict(jobs.status(control, *rest), watchdog=watchdog.describe(control)))
    elif verb == "end":
        _answer(jobs.end(control, rest[0], float(rest[1]) if len(rest) > 1 else jobs.END_GRACE_SECONDS))
    elif verb == "follow":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        follow.follow(control)
    elif verb == "logs":
        _answer({"lines": _log_lines(control, rest[0], int(rest[1]))})
    elif verb == "manifest":
        status = jobs.status(control)  # first: a job that ends while files are hashed counts as running still
        listing = files.manifest(control)
        _answer(dict(listing, job=status.get("job"), state=status["state"]))
    elif verb == "fetched":
        jobs.mark_fetched(control, rest[0])
    elif verb == "pack":
        files.pack(control.base, json.load(sys.stdin), sys.stdout.buffer)
    elif verb == "unpack":
        folder = files.folder_of(control.base, rest)
        folder.mkdir(parents=True, exist_ok=True)
        files.unpack(folder, sys.stdin.buffer)
    elif verb == "tree":
        _answer(files.tree(files.folder_of(control.base, rest), json.load(sys.stdin)))
    elif verb == "note":
        control.create()
        state.write_json(control.dir / Path(rest[0]).name, json.load(sys.stdin))
    elif verb == "forget":
        with contextlib.suppress(FileNotFoundError):
            (control.dir / Path(rest[0]).name).unlink()
    elif verb == "noted":
        _answer(state.read_json(control.dir / Path(rest[0]).name))
    elif verb == "stop":
        _answer({"code": watchdog.run_stop_command(json.load(sys.stdin)["command"])})
    elif verb == "arm":
        _answer(watchdog.arm(control, json.load(sys.stdin)))
    else:
        raise ValueError("no such verb")
    return 0


def _log_lines(control: Control, which: str, count: int) -> list[str]:
    folder = jobs.current_job(control)
    path = control.watchdog_log if which == "watchdog" else folder / "output.log" if folder else None
    if path is None or not path.exists():
        return []
    with open(path, encoding="utf-8", errors="replace") as source:
        return [line.rstrip("\n") for line in collections.deque(source, maxlen=count)]


def _answer(value: Any) -> None:
    json.dump(value, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
