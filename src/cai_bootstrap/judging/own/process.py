"""The parent's side of own scorers: each module runs in a process of its own, which is asked for verdicts.

So a module can neither change this process nor stop it: what it raises, how long it takes, and that it dies become
errors which say so. That is order, no prison: the code has the user's rights.
"""

import atexit
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from cai_bootstrap.errors import UsageError
from cai_bootstrap.interpreter import python_command, python_environment
from cai_bootstrap.judging.own import Declaration
from cai_bootstrap.judging.own.sources import Source
from cai_bootstrap.judging.own.worker import LOAD_SECONDS

SPARE_SECONDS = 20.0  # beyond its limit the kernel has ended the worker; this is for one that got around that
_FIRST_SEED, _OTHER_SEED = "0", "1"


class OwnScorerError(UsageError):
    """A scorer of the user's own that cannot be loaded, or gave no verdict."""


class _Worker:
    """A running module. `declarations` are its decorated functions, `undecorated` the names of the others."""

    def __init__(self, source: Source, seed: str) -> None:
        self.source = source
        self.lock = threading.Lock()
        self._orders = itertools.count(1)
        self.process = subprocess.Popen(
            python_command("cai_bootstrap.judging.own.worker"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/", env=python_environment({"PYTHONHASHSEED": seed}), text=True, encoding="utf-8",
        )  # fmt: skip
        answer = self.ask({"name": source.name, "source": source.code}, LOAD_SECONDS)
        if "error" in answer:
            self.end()
            raise OwnScorerError(f"{source.place}: cannot be loaded: {answer['error']}{_hint(answer['error'])}")
        self.declarations = {name: _declaration(fields) for name, fields in answer["functions"].items()}
        self.undecorated: list[str] = answer["undecorated"]

    def ask(self, order: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The worker's answer, `{"error": …}` where it died, took too long, or answered another order.

        Whatever ends the wait (Ctrl+C) ends the worker too: its answer would be taken for that to the next order.
        """
        try:
            return self._answer({**order, "number": next(self._orders)}, seconds)
        except BaseException:
            self.end()
            raise

    def _answer(self, order: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except OSError:
            return self._dead(seconds)
        ready, _, _ = select.select([self.process.stdout], [], [], seconds + SPARE_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line.endswith("\n"):
            return self._dead(seconds, late=not ready)
        answer = _object(line)
        if answer.get("number") != order["number"]:
            self.end()
            return {"error": "its process answered another question than the one asked"}
        return answer

    @property
    def has_ended(self) -> bool:
        """Whether nothing can be asked any more."""
        return self.process.poll() is not None

    def _dead(self, seconds: float, *, late: bool = False) -> dict[str, Any]:
        if late:
            self.process.kill()
        code = self.process.wait()
        if late or code == -signal.SIGALRM:
            return {"error": f"took longer than {seconds:g} s"}
        return {"error": f"ended its process ({f'signal {-code}' if code < 0 else f'exit code {code}'})"}

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


_workers: dict[tuple[int, str, str], _Worker] = {}  # by process (a fork must not share one), source and seed
_starting = threading.Lock()
_seed = _FIRST_SEED


def declarations(source: Source) -> dict[str, Declaration]:
    """The decorated functions of a trusted source, which runs now. Raises OwnScorerError if it cannot be loaded."""
    return _worker(source).declarations


def undecorated(source: Source) -> list[str]:
    """The names of its functions without a decorator."""
    return _worker(source).undecorated


def verdict(source: Source, function: str, instruction: str, output: str, arguments: Mapping[str, Any]) -> bool:
    """What a function says of one output. Raises OwnScorerError if it raises, gives no bool, or takes too long."""
    order = {"function": function, "instruction": instruction, "output": output, "arguments": dict(arguments)}
    answer: dict[str, Any] | None = None
    while answer is None:
        worker = _worker(source)
        with worker.lock:
            if not worker.has_ended:  # another thread's order may have ended it meanwhile
                answer = worker.ask(order, worker.declarations[function].seconds)
    if "error" in answer:
        raise OwnScorerError(
            f"{source.name}:{function}: {answer['error']}, on the output {_short(output)} to the instruction "
            f"{_short(instruction)}; mend {source.place}, trust it again (cai trust), and try it (cai suite verify, "
            "cai constitution check)"
        )
    return bool(answer["verdict"])


@contextlib.contextmanager
def asked_anew() -> Iterator[None]:
    """Within it, new processes answer, with another order of sets: a verdict that depends on chance shows."""
    global _seed
    _seed = _OTHER_SEED
    try:
        yield
    finally:
        _seed = _FIRST_SEED
        for key in [key for key in _workers if key[2] == _OTHER_SEED]:
            _workers.pop(key).end()


def _worker(source: Source) -> _Worker:
    key = (os.getpid(), source.sha256, _seed)
    with _starting:
        worker = _workers.get(key)
        if worker is None or worker.has_ended:
            worker = _workers[key] = _Worker(source, _seed)
        return worker


def _object(line: str) -> dict[str, Any]:
    """The JSON object of a line; an empty one if it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _declaration(fields: Mapping[str, Any]) -> Declaration:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Declaration(**plain)


def _hint(error: str) -> str:
    if error.startswith(("ModuleNotFoundError", "ImportError")):
        return (
            "; it may import what is installed with the product, no file beside it: its own hash must stand for all "
            "that decides. Put what it needs into this one file, or install the library"
        )
    if error.startswith("NameError: name '__file__'"):
        return "; it has no __file__ and reads no file beside it: put word lists into the module itself"
    return "; mend it and trust it again (cai trust)"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


@atexit.register
def _end_all() -> None:
    for key in list(_workers):
        if key[0] == os.getpid():
            _workers.pop(key).end()
