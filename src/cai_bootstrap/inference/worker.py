"""`python -m cai_bootstrap.inference.worker FD`: a process that decodes batches on one GPU for a `ParallelEngine`.

It is asked and answers through the socket that it inherits; when that closes, it ends, in the middle of a batch too.
"""

import os
import signal
import sys
import threading
from contextlib import nullcontext
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, cast

from cai_bootstrap.errors import CaiError, EngineError
from cai_bootstrap.inference.engine import EngineSpec
from cai_bootstrap.inference.memory import is_out_of_memory
from cai_bootstrap.inference.open import open_engine
from cai_bootstrap.inference.requests import PooledEngine


def serve(pipe: Connection) -> None:
    """Load what the first message names, then answer requests until the asking process is gone."""
    requests: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, requests), daemon=True).start()
    spec: EngineSpec = requests.get()
    try:
        engine = cast(PooledEngine, open_engine(spec))  # only those are opened in workers
    except Exception as error:
        pipe.send((False, _sendable(error)))
        return
    pipe.send((True, None))
    while True:
        request, adapted = requests.get()
        answer: tuple[bool, Any]
        try:
            with nullcontext() if adapted else engine.without_adapter():
                answer = (True, engine.perform(request))
        except Exception as error:
            answer = (False, _sendable(error))
            if is_out_of_memory(error):
                engine.make_room()
        pipe.send(answer)


def _sendable(error: Exception) -> Exception:
    """The error as the asking process knows it: its own kind where that can be sent, else an EngineError."""
    if is_out_of_memory(error):
        return MemoryError(str(error))
    return error if isinstance(error, CaiError) else EngineError(f"{type(error).__name__}: {error}")


def _listen(pipe: Connection, requests: "SimpleQueue[Any]") -> None:
    while True:
        try:
            requests.put(pipe.recv())
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)  # the asking process is told too, and ends this one
    serve(Connection(int(sys.argv[1])))
