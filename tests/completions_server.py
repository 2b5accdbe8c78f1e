"""A completions server on localhost, in a thread: what it answers is a function, or a tiny model's own words."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.models import prepare
from cai_bootstrap.inference.server_log import ServerLog
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.servers import ModelServer

Json = dict[str, Any]


@dataclass
class Reply:
    """An answer as it goes over the wire."""

    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Served:
    """A running server, and what it was asked: the bodies of its completions, and the headers of all requests."""

    address: str
    bodies: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return [prompt for body in self.bodies for prompt in body["prompt"]]

    def client(self, folder: Path, pauses: list[float] | None = None, **declared: Any) -> CompletionsServer:
        """A client of it that waits for nothing: its pauses are written down."""
        waited = [] if pauses is None else pauses
        settings = ModelServer(endpoint=self.address, **declared)
        return CompletionsServer(settings, ServerLog(folder / "answers.jsonl"), "--endpoint", pause=waited.append)


def choices(*texts: str, finish: str = "stop", **more: Any) -> Json:
    """A body of completions, ended by EOS as vLLM says it."""
    rows = [
        {"index": n, "text": text, "finish_reason": finish, "stop_reason": None, "logprobs": None}
        for n, text in enumerate(texts)
    ]
    return {"object": "text_completion", "choices": rows, **more}


@contextlib.contextmanager
def serving(
    answer: Callable[[Json], Json | Reply], *, models: Json | None = None, key: str | None = None
) -> Iterator[Served]:
    """Serve `answer` (a request's body to its answer) as the model `base`. Other keys than `key` get a 401."""
    listed = models or {"data": [{"id": "base", "root": "/models/base", "parent": None}]}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(listed if self.path == "/v1/models" else Reply({"detail": "Not Found"}, 404))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.bodies.append(body)
            self._send(answer(body) if self.path == "/v1/completions" else Reply({"detail": "Not Found"}, 404))

        def _send(self, value: Json | Reply) -> None:
            served.headers.append(dict(self.headers))
            reply = value if isinstance(value, Reply) else Reply(value)
            if key is not None and self.headers.get("Authorization") != f"Bearer {key}":
                reply = Reply({"error": {"message": f"no such key: {self.headers.get('Authorization')}"}}, 401)
            content = reply.content()
            with contextlib.suppress(OSError):  # a client that did not wait
                self.send_response(reply.status)
                for name, text in {"Content-Length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        served = Served(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


class TinyBackend:
    """Answers as a tiny model in this process does: completions, likeliest tokens, echoes. One request at a time.

    `hides`: choices that are not among the likeliest tokens, so that they must be asked for by an echo.
    """

    def __init__(self, folder: Path, *, batch_size: int = 4, hides: tuple[str, ...] = ()) -> None:
        prepared = prepare(str(folder), say=lambda _: None)
        loaded = load(prepared, precision="fp32", threads=1)
        self.engine = TransformersEngine(loaded, prepared, precision="fp32", batch_size=batch_size)
        self._hides, self._lock = hides, threading.Lock()

    def __call__(self, body: Json) -> Json:
        with self._lock:
            rows = self._rows(body)
        counts = [len(ids) for ids in self.engine.encode(body["prompt"])]
        usage = {"prompt_tokens": sum(counts), "completion_tokens": len(rows)}
        return {"choices": [{"index": n, **row} for n, row in enumerate(rows)], "usage": usage}

    def _rows(self, body: Json) -> list[Json]:
        prompts: list[str] = body["prompt"]
        if body.get("echo"):
            return [self._echo(prompt[:-2], prompt[-2:]) for prompt in prompts]
        sampling = Sampling(
            body["max_tokens"], body["temperature"], body.get("top_p", 1.0), tuple(body.get("stop", ())),
            body.get("seed", 0),
        )  # fmt: skip
        rows = [self._row(completion, sampling) for completion in self.engine.stream(prompts, sampling)]
        if "logprobs" in body:
            for row, (a, b) in zip(rows, self.engine.choice_logprobs(prompts, (" A", " B")), strict=True):
                top = {name: logprob for name, logprob in ((" A", a), (" B", b)) if name not in self._hides}
                row["logprobs"] = {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [{"x": -1.0, **top}]}
        return rows

    def _row(self, completion: Completion, sampling: Sampling) -> Json:
        ends = {"eos": ("stop", None), "stop": ("stop", next(iter(sampling.stop), None)), "length": ("length", None)}
        finish, stop = ends[completion.ended_by]
        return {"text": completion.text, "finish_reason": finish, "stop_reason": stop, "logprobs": None}

    def _echo(self, prompt: str, choice: str) -> Json:
        ((logprob,),) = self.engine.choice_logprobs([prompt], (choice,))
        logprobs = {"tokens": ["<bos>", choice, "x"], "token_logprobs": [None, logprob, -1.0], "top_logprobs": None}
        return {"text": f"{prompt}{choice}x", "finish_reason": "length", "stop_reason": None, "logprobs": logprobs}
