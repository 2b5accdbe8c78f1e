"""The process in which a module of own scorers runs: one JSON object a line in, one out.

The first line brings the source; the answer says what it declares. Each further line asks for one verdict. An answer
bears the number of its order. The process ends when its input does, and the kernel ends it where a verdict takes longer
than its function may.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

from cai_bootstrap.judging.own import FORM, MARK, Declaration

LOAD_SECONDS = 60.0


def main() -> None:
    """Answer until the input ends. The user's code reads nothing and prints nowhere: the channel is ours."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the step that asks decides when to end, and closes the channel
        signal.signal(number, signal.SIG_IGN)
    orders, verdicts = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    first = orders.readline()
    if not first:
        return
    order, process = json.loads(first), os.getpid()

    def answer(number: int, content: dict[str, Any]) -> None:
        if os.getpid() != process:  # the user's code forked, and this is the other process: one of them answers
            os._exit(0)
        verdicts.write(json.dumps({**content, "number": number}) + "\n")
        verdicts.flush()

    module = types.ModuleType("own_scorers")
    sys.modules[module.__name__] = module
    answer(order["number"], _load(module, order["name"], order["source"]))
    for line in orders:
        question = json.loads(line)
        answer(question["number"], _verdict(module, order["name"], question))


def _load(module: types.ModuleType, name: str, source: str) -> dict[str, Any]:
    try:
        with _limit(LOAD_SECONDS):
            exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        return {"error": _said(error, name)}
    functions = {}
    for key, value in list(vars(module).items()):
        declared = getattr(value, MARK, None) if isinstance(value, types.FunctionType) else None
        if isinstance(declared, Declaration):
            functions[key] = dataclasses.asdict(declared)
    plain = [
        key for key, value in vars(module).items() if isinstance(value, types.FunctionType) and key not in functions
    ]
    return {"functions": functions, "undecorated": plain}


def _verdict(module: types.ModuleType, name: str, order: dict[str, Any]) -> dict[str, Any]:
    function = getattr(module, order["function"])
    try:
        with _limit(getattr(function, MARK).seconds):
            verdict = function(order["instruction"], order["output"], **order["arguments"])
    except BaseException as error:
        return {"error": f"raised {_said(error, name)}"}
    if not isinstance(verdict, bool):
        kind = type(verdict).__name__
        return {"error": f"returned {kind} ({verdict!r:.40}), not True or False; a scorer is {FORM}"}
    return {"verdict": verdict}


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Let the kernel end the process after so many seconds, whatever Python does then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _said(error: BaseException, name: str) -> str:
    """An error of the user's code in one line: `ZeroDivisionError: division by zero (line 7)`."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    try:
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except Exception:
        text = ""
    where = "" if line is None else f" (line {line})"
    return f"{type(error).__name__}{': ' if text else ''}{text[:300]}{where}"


if __name__ == "__main__":
    main()
