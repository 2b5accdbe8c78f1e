"""A client of OpenAI-compatible completions servers (`POST /v1/completions`); vLLM's server is the tested one.

Every answer is kept on disk before it is used (`server_log.py`), so nothing is asked twice. What may pass (429, 5xx, no
answer in time) is asked again, later each time; what will not (a refused key, a model that is not there, an answer that
is none) is an error at once. The key is read from the environment, sent in one header, and appears nowhere else.
"""

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from cai_bootstrap import __version__
from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.server_log import Exchange, ServerAnswer, ServerLog, server_key
from cai_bootstrap.printable import one_line
from cai_bootstrap.servers import ModelServer, environment_key, is_loopback, refuse_four_bit_name

TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds; each pause is twice the one before
MOST_BYTES = 256 << 20
PART = 1 << 20
SAID = 300  # characters of a server's own words in a message
PASSING = {408, 409, 425, 429}
TOP = (20, 5)  # log-probabilities of the likeliest tokens: as many as vLLM gives unasked, or as OpenAI's own servers do
_NEXT: Mapping[str, Any] = {"max_tokens": 1, "temperature": 0.0}


class RequestRefusedError(EngineError):
    """The server answers, but not to such a request: its model, a prompt's length, or a setting does not suit it."""


class _PassingError(Exception):
    """No usable answer, and another try may bring one; `after` is the pause (seconds) that the server asks for."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Lenient(BaseModel):
    """A part of an answer: what is read of it must be right, what else stands there is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Logprobs(_Lenient):
    tokens: list[str] | None = None
    token_logprobs: list[FiniteFloat | None] | None = None
    top_logprobs: list[dict[str, FiniteFloat] | None] | None = None


class _Choice(_Lenient):
    index: int
    text: str
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: _Logprobs | None = None

    def answer(self) -> ServerAnswer:
        details = self.logprobs or _Logprobs()
        first = (details.top_logprobs or [None])[0]
        return ServerAnswer(
            text=self.text,
            finish=self.finish_reason,
            stop=self.stop_reason,
            tells_stop="stop_reason" in self.model_fields_set,
            top=first,
            tokens=details.tokens,
            logprobs=details.token_logprobs,
        )


class _Usage(_Lenient):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)


class _Completions(_Lenient):
    choices: list[_Choice]
    usage: _Usage | None = None


class ListedModel(_Lenient):
    """A model as `GET /v1/models` lists it; `root` is its folder and `parent` an adapter's base (vLLM)."""

    id: str
    root: str | None = None
    parent: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All that it is called."""
        return tuple(name for name in (self.id, self.root, self.parent) if name)


class _Models(_Lenient):
    data: list[ListedModel]


@dataclass(frozen=True)
class CompletionsServer:
    """A server as it was declared, the file of its answers, and how to wait (`pause`, seconds; `tries` in all).

    `option` is what gave its address on the command line: messages name it. Raises UsageError while it is used for a
    key that is not in the environment, an address where no such server is, and a model that is not served there.
    """

    declared: ModelServer
    log: ServerLog
    option: str
    pause: Callable[[float], None] = time.sleep
    tries: int = TRIES
    _unserved: set[int] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        if self.declared.endpoint is None:
            raise UsageError(f"a server's address is needed: {self.option} http://HOST:PORT")
        return self.declared.endpoint

    @cached_property
    def listed(self) -> ListedModel:
        """The model that is asked, as the server lists it: the declared one, or the only one that is served."""
        models = self._parsed(_Models, self._ask("/v1/models", None)[0], "the list of its models").data
        names = ", ".join(one_line(model.id, 80) for model in models) or "none"
        listed: ListedModel
        if self.declared.model is None:
            if len(models) != 1:
                raise UsageError(f"{self.endpoint} serves these models: {names}; say which: {self._setting('model')}")
            listed = models[0]
        else:
            named = [model for model in models if model.id == self.declared.model]
            if not named:
                raise UsageError(f"{self.endpoint} serves no model '{self.declared.model}'; it serves: {names}")
            listed = named[0]
        for name in (listed.id, listed.root or ""):
            refuse_four_bit_name(name)
        return listed

    @property
    def model(self) -> str:
        """The name of the model that is asked."""
        return self.listed.id

    @property
    def _named(self) -> str:
        return f"{self.model} at {self.endpoint}"

    def must_go_on(self) -> None:
        """Raise UsageError if another served model began the file of answers. An empty file asks no server."""
        others = [text for key, text in self.log.servers.items() if key != self.log_key]
        if others:
            raise UsageError(
                f"{self.log.path}: these data were begun with {one_line(others[0], 200)}; {self._named} is another "
                "model, or was declared otherwise then; --force-data makes them anew"
            )

    def complete(
        self, prompts: Sequence[str], settings: Mapping[str, Any], *, lengths: Mapping[str, int] | None = None
    ) -> list[ServerAnswer]:
        """One answer to each prompt, in their order, under these settings of a request (`max_tokens`, …).

        What was answered before is read back; all others are one request. `lengths` holds each prompt's tokens by the
        base's own tokenizer: a server that counts otherwise is refused. Raises EngineError if there is no usable
        answer, and RequestRefusedError if the server does not serve such a request.
        """
        keys = [self.key(prompt, settings) for prompt in prompts]
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if self.log.get(key) is None}
        if missing:
            self._request(missing, settings, lengths)
        answers = [self.log.get(key) for key in keys]
        return [answer for answer in answers if answer is not None]

    def key(self, prompt: str, settings: Mapping[str, Any]) -> str:
        """The name of an answer in the file: the hash of all that decides it."""
        return fingerprint([self.log_key, dict(settings), prompt])

    @cached_property
    def log_key(self) -> str:
        """The name of this served model in the file of answers (`server_key`)."""
        return server_key(self.declared, self.model, self.listed.root)

    def top(self, prompts: Sequence[str]) -> list[dict[str, float]] | None:
        """Log-probabilities (nats) of the likeliest next tokens after each prompt; None if the server gives none.

        What it does not serve is asked for once, so that a judge never changes from one way of judging to the other.
        """
        refusals: dict[int, RequestRefusedError] = {}
        tops: list[dict[str, float]] = []
        for count in (count for count in TOP if count not in self._unserved):
            try:
                answers = self.complete(prompts, {**_NEXT, "logprobs": count})
            except RequestRefusedError as error:
                refusals[count] = error
                continue
            tops = [answer.top or {} for answer in answers]
            break
        if refusals and not tops:
            self._must_serve(prompts, next(iter(refusals.values())))
        self._unserved.update(refusals if any(tops) else TOP)
        return tops if any(tops) else None

    def note_unreadable(self, keys: Sequence[str]) -> None:
        """Count verdicts that nobody could read; the same key counts once."""
        if keys:
            self.log.add(Exchange(server=self.log_key, address=self._named, unreadable=list(keys)))

    def _must_serve(self, prompts: Sequence[str], refusal: RequestRefusedError) -> None:
        """Raise the refusal if these prompts are not served without log-probabilities either."""
        try:
            self.complete(prompts, _NEXT)
        except RequestRefusedError:
            raise refusal from None

    def _request(
        self, missing: Mapping[str, str], settings: Mapping[str, Any], lengths: Mapping[str, int] | None
    ) -> None:
        body = {"model": self.model, "prompt": list(missing.values()), **settings}
        content, retries = self._ask("/v1/completions", body)
        parsed = self._parsed(_Completions, content, "its answer")
        choices = sorted(parsed.choices, key=lambda choice: choice.index)
        if [choice.index for choice in choices] != list(range(len(missing))):
            raise EngineError(
                f"{self.endpoint} answered {len(missing)} prompts with {len(choices)} completions, which do not belong "
                "to them one by one; is it an OpenAI-compatible completions server?"
            )
        if lengths is not None and parsed.usage is not None:
            own = sum(lengths[prompt] for prompt in missing.values())
            self._must_count_alike(parsed.usage.prompt_tokens, own, len(missing))
        self.log.add(
            Exchange(
                server=self.log_key,
                address=self._named,
                answers={key: choice.answer() for key, choice in zip(missing, choices, strict=True)},
                prompts=len(missing),
                retries=retries,
                prompt_tokens=None if parsed.usage is None else parsed.usage.prompt_tokens,
                completion_tokens=None if parsed.usage is None else parsed.usage.completion_tokens,
            )
        )

    def _must_count_alike(self, counted: int, own: int, prompts: int) -> None:
        if counted == own:
            return
        start = ""
        if abs(counted - own) == prompts:
            start = f": it {'adds' if counted > own else 'leaves out'} one token in each, as a start token would be"
        raise EngineError(
            f"{self.endpoint} counts {counted:,} tokens in {prompts} prompts, the tokenizer of --model {own:,}{start}; "
            f"'{self.model}' is not the model that is trained, or does not read prompts as it does"
        )

    def _ask(self, path: str, body: Mapping[str, Any] | None) -> tuple[bytes, int]:
        """The answer's bytes, and how many tries failed before it."""
        failure = ""
        for number in range(self.tries):
            try:
                return self._once(path, body), number
            except _PassingError as error:
                failure = str(error)
                if number + 1 < self.tries:
                    usual = FIRST_PAUSE * 2**number
                    self.pause(min(LONGEST_PAUSE, usual if error.after is None else error.after))
        raise EngineError(
            f"{self.endpoint}: {failure}, {self.tries} times; is the server running? What was answered is kept: start "
            "again to go on"
        )

    def _once(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        headers = {"Accept": "application/json", "User-Agent": f"cai-bootstrap/{__version__}", **self._key_header()}
        content = None
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.endpoint + path, data=content, headers=headers)
        try:
            with self._opener.open(request, timeout=self.declared.timeout) as answer:
                return self._whole(answer)
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                raise self._failure(error, path) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            late = isinstance(reason, TimeoutError)
            why = f"within {self.declared.timeout:g} s" if late else f"({type(reason).__name__}: {reason})"
            raise _PassingError(f"no answer {why}") from None
        except (ValueError, OverflowError) as error:  # its text may hold a header, so it is left out
            raise EngineError(
                f"{self.endpoint}: the request cannot be sent ({type(error).__name__}); look at the address, at "
                f"{self._setting('timeout')}, and at the proxies in the environment"
            ) from None

    def _whole(self, answer: Any) -> bytes:
        """All of an answer, in bounded time and size: a socket's own limit starts anew with each byte that comes."""
        end = time.monotonic() + self.declared.timeout
        parts: list[bytes] = []
        while part := answer.read1(PART):
            parts.append(part)
            if sum(map(len, parts)) > MOST_BYTES:
                raise EngineError(f"{self.endpoint}: an answer of more than {MOST_BYTES >> 20} MiB is no completion")
            if time.monotonic() > end:
                raise _PassingError(f"no whole answer within {self.declared.timeout:g} s")
        if answer.length:  # bytes of the declared Content-Length that did not come
            raise _PassingError(f"the connection broke {answer.length:,} bytes before the end of an answer")
        return b"".join(parts)

    def _failure(self, error: urllib.error.HTTPError, path: str) -> Exception:
        """What an answer with an error status means."""
        code = error.code
        if code in (401, 403):
            name = self.declared.api_key_env
            remedy = (
                f"give it the name of the environment variable that holds one: {self._setting('api_key_env')}"
                if name is None
                else f"look at the key in ${name}"
            )
            return UsageError(f"{self.endpoint} wants another key (HTTP {code}); {remedy}")
        if code in PASSING or code >= 500:
            return _PassingError(f"HTTP {code}", _retry_after(error.headers))
        words = self._words(error)
        if code == 404:
            return UsageError(
                f"{self.endpoint}{path}: not there (HTTP 404){words}; {self.option} takes the address of an "
                "OpenAI-compatible completions server"
            )
        if code < 400:
            return UsageError(f"{self.endpoint} sends elsewhere (HTTP {code}); give that address with {self.option}")
        return RequestRefusedError(f"{self.endpoint} refuses the request (HTTP {code}){words}")

    def _words(self, error: urllib.error.HTTPError) -> str:
        """What the server says of an error, bounded and harmless, without the key."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            text = error.read(PART).decode("utf-8", "replace")
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                content = json.loads(text)
                inner = content.get("error", content)
                text = str(inner.get("message") or inner) if isinstance(inner, dict) else str(inner)
            for key in filter(None, [self._key]):
                text = text.replace(key, "***")
            return f": {one_line(text.strip(), SAID)}" if text.strip() else ""
        return ""

    def _parsed(self, kind: type[Any], content: bytes, what: str) -> Any:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the whole"
            raise EngineError(
                f"{self.endpoint}: {what} is not what an OpenAI-compatible server sends: {where}: {problem['msg']}"
            ) from None

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        handlers: list[Any] = [_NoRedirects]
        if is_loopback(self.endpoint):
            handlers.append(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener(*handlers)

    @cached_property
    def _key(self) -> str | None:
        name = self.declared.api_key_env
        return None if name is None else environment_key(name, self.endpoint)

    def _key_header(self) -> dict[str, str]:
        return {} if self._key is None else {"Authorization": f"Bearer {self._key}"}

    def _setting(self, name: str) -> str:
        section = "judge" if self.option == "--judge" else "server"
        return f"--set {section}.{name}=…"


def _retry_after(headers: Message) -> float | None:
    """The pause (seconds) that a server asks for, where it gives it in seconds."""
    text = (headers.get("Retry-After") or "").strip()
    return float(text) if text.isascii() and text.isdecimal() else None
