"""What a model server answered, kept on disk: each prompt is asked once, and what was asked is counted.

`{"answers": {"9f2c…": {"text": " a kite.\n", …}}, "prompts": 1, "prompt_tokens": 12, "completion_tokens": 5, …}` is one
request a line. The key of an answer is the hash of everything that decides it: address, model, its declared precision
and listed folder, settings and prompt.
"""

import threading
from pathlib import Path

from pydantic import Field

from cai_bootstrap.files import JsonlWriter, fingerprint, mend_jsonl, read_jsonl
from cai_bootstrap.records import Record
from cai_bootstrap.servers import NOT_CHECKED, ModelServer, ServedModel


class ServerAnswer(Record):
    """One answer as the server gave it.

    `finish` is its reason to end. `stop` is the stop string that ended it, where the server says (`tells_stop`). `top`
    holds log-probabilities (nats) of the likeliest first tokens; `tokens` and `logprobs` all of an echoed text.
    """

    text: str
    finish: str | None = None
    stop: str | int | None = None
    tells_stop: bool = False
    top: dict[str, float] | None = None
    tokens: list[str] | None = None
    logprobs: list[float | None] | None = None


class Exchange(Record):
    """One request that was answered. `unreadable` are the keys of verdicts that were neither yes nor no.

    `server` is `server_key` of who answered, and `address` says in words who that is: `base at http://127.0.0.1:8000`.
    """

    server: str
    address: str = ""
    answers: dict[str, ServerAnswer] = Field(default_factory=dict)
    prompts: int = 0
    retries: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    unreadable: list[str] = Field(default_factory=list)


def server_key(server: ModelServer, model: str, root: str | None = None) -> str:
    """What tells one served model from another in a file of answers: also the declared precision and the folder.

    `root` is the folder of the model as the server lists it; None where it lists none.
    """
    return fingerprint([server.endpoint, model, server.precision, *([] if root is None else [root])])[:12]


class ServerLog:
    """The file of one server's answers. Several threads may use it.

    Without `read` it is taken as empty: for a client that asks a server for nothing but its models.
    Raises DataError naming the line if the file holds something else.
    """

    def __init__(self, path: Path, *, read: bool = True) -> None:
        self.path = path
        self.servers: dict[str, str] = {}  # who answered, by `server_key`, in words
        self._answers: dict[str, ServerAnswer] = {}
        self._writing = threading.Lock()
        if read and path.exists():
            mend_jsonl(path)
            for exchange in read_jsonl(path, Exchange):
                self._take(exchange)

    def get(self, key: str) -> ServerAnswer | None:
        """The answer of that key, if it was given before."""
        return self._answers.get(key)

    def add(self, exchange: Exchange) -> None:
        """Keep one answered request, durably."""
        with self._writing:
            with JsonlWriter(self.path) as writer:
                writer.write(exchange)
                writer.commit()
            self._take(exchange)

    def _take(self, exchange: Exchange) -> None:
        self._answers |= exchange.answers
        self.servers[exchange.server] = exchange.address or "another model or address"


def served_model(path: Path, server: ModelServer, model: str, root: str | None = None) -> ServedModel | None:
    """The server's declared model with all that was asked of it so far; None if nothing was ever asked.

    `root` is its folder as the server lists it; None where it lists none.
    """
    if not path.exists():
        return None
    own = server_key(server, model, root)
    exchanges = [exchange for exchange in read_jsonl(path, Exchange) if exchange.server == own]
    requests = [exchange for exchange in exchanges if exchange.prompts]
    return ServedModel(
        endpoint=server.endpoint or "",
        model=model,
        precision=server.precision,
        checked=NOT_CHECKED,  # stated, since a summary leaves out what was not set
        requests=len(requests),
        retries=sum(exchange.retries for exchange in requests),
        uncounted=sum(exchange.prompt_tokens is None for exchange in requests),
        prompt_tokens=sum(exchange.prompt_tokens or 0 for exchange in requests),
        completion_tokens=sum(exchange.completion_tokens or 0 for exchange in requests),
        unreadable=len({key for exchange in exchanges for key in exchange.unreadable}),
    )
