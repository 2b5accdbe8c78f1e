"""Model servers by address: what a user declares of one, what is refused of that, and what was asked of it.

A server is believed, not checked: which weights it answers with, and in which precision, nobody can see from outside.
"""

import contextlib
import ipaddress
import os
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cai_bootstrap.errors import UsageError
from cai_bootstrap.processor import Precision

LONGEST_TIMEOUT = 86_400.0  # seconds: a day
NOT_CHECKED: Literal["declared, not checked"] = "declared, not checked"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_API = ("/v1/completions", "/v1")
_SECRET_MARKS = ("@", "?", "#", "%40")
# Parts of a served model's name that say that its weights have 4 bits or fewer. GPTQ alone means 4 bits.
_FOUR_BIT_NAME = re.compile(
    r"(?<![a-z0-9])(?:"
    r"(?<!\d\.)[1-4](?:\.\d+)?[-_]?(?:bits?|bpw)|u?int[1-4](?:wo|weightonly)?|nf4|(?:nv|mx)?fp4|w[1-4]a\d+|"
    r"i?q[1-4](?:_\w+|f\d+\w*|k\w*)?|tq[12]_\w+|awq|gptq(?![-_.]?(?:int8|8[-_]?bits?|w8a\d+))"
    r")(?![a-z0-9])"
)


def server_address(text: str) -> str:
    """A server's address without the part that all of them share: `http://127.0.0.1:8000/v1/` is stored without `/v1/`.

    Raises UsageError for what is no address, and for one that holds a user, a password or a query: what is configured
    is written down, so no secret may stand there. No refused address is repeated in the message: any may hold one.
    """
    if any(mark in text.lower() for mark in _SECRET_MARKS):
        raise UsageError(
            "a server's address holds a user, a password or a query; configurations are written down, so give "
            "http://HOST:PORT alone, and the key by the name of an environment variable (api_key_env)"
        )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        raise UsageError("a server's address is malformed; give http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not host or not (text.isascii() and text.isprintable()) or " " in text:
        raise UsageError(
            "--endpoint and --judge: what stands there is no address of a server (it is not repeated here, since it "
            "may hold a secret); give http://HOST:PORT or https://HOST/PATH in plain ASCII"
        )
    address = text.rstrip("/")
    for ending in _API:
        address = address.removesuffix(ending).rstrip("/")
    return address


def is_loopback(endpoint: str) -> bool:
    """Whether an address leads to the very machine that asks it: `localhost`, `127.0.0.1`, `0.0.0.0`, `[::1]`."""
    host = (urlsplit(endpoint).hostname or "").rstrip(".")
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are one server's, as far as their texts say: all names of this machine are one."""
    return _place(one) == _place(other)


def _place(endpoint: str) -> tuple[str, int, str]:
    parts = urlsplit(endpoint)
    host = "localhost" if is_loopback(endpoint) else (parts.hostname or "").rstrip(".")
    return host, parts.port or (443 if parts.scheme == "https" else 80), parts.path


def variable_name(text: str) -> str:
    """The name of an environment variable: in capitals, or of one that is set.

    Raises UsageError, without repeating it, for all else: it may be the key itself.
    """
    if not _VARIABLE.fullmatch(text) and not (text.isascii() and text in os.environ):
        raise UsageError(
            "api_key_env holds the NAME of the environment variable with the key, such as OPENAI_API_KEY (in capitals, "
            "or the name of a variable that is set); what stands there is no such name (it is not repeated here, since "
            "it may be the key itself)"
        )
    return text


def environment_key(name: str, server: str) -> str:
    """The key in the environment variable `name`; `server` says whose it is.

    Raises UsageError if the variable is not set, or holds what no header can carry.
    """
    shown = name if _VARIABLE.fullmatch(name) or name in os.environ else "that api_key_env names"
    key = os.environ.get(name, "").strip()
    if not key:
        raise UsageError(f"the environment variable {shown} is to hold the key of {server}, and is not set")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"the environment variable {shown} holds characters that no key has; set it anew")
    return key


def _text(value: object) -> object:
    """A value that may hold a secret; one that is no text is refused here, since pydantic's refusal repeats it."""
    if value is not None and not isinstance(value, str):
        raise UsageError(
            f"a server's address and the name of its key's variable are texts, not of the type {type(value).__name__}"
        )
    return value


def _sixteen_bits(name: str) -> str:
    refuse_four_bit_name(name)
    return name


def refuse_four_bit_name(name: str) -> None:
    """Raise UsageError for the name or path of a served model that says that it has 4 bits or fewer."""
    if _FOUR_BIT_NAME.search(name.lower()):
        raise UsageError(
            f"the served model {name!r} is a 4-bit one by its name (or has fewer bits), which is refused: its answers "
            "differ from those of the model that is trained; serve it in int8, fp8, bf16, fp16 or fp32"
        )


class ModelServer(BaseModel):
    """An OpenAI-compatible completions server as a user declares it; without an endpoint there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    endpoint: Annotated[str, BeforeValidator(_text), AfterValidator(server_address)] | None = Field(
        None, description="address of an OpenAI-compatible completions server: http://127.0.0.1:8000"
    )
    model: Annotated[str, AfterValidator(_sixteen_bits)] | None = Field(
        None, description="the name that the server gives to its model; None: the only one that it serves"
    )
    precision: Precision | None = Field(None, description="of the weights behind the server, as you started it")
    api_key_env: Annotated[str, BeforeValidator(_text), AfterValidator(variable_name)] | None = Field(
        None, description="NAME of the environment variable that holds the key; None: no key is sent"
    )
    timeout: float = Field(
        300.0, gt=0, le=LONGEST_TIMEOUT, allow_inf_nan=False, description="seconds to wait for one answer"
    )


class ServedModel(BaseModel):
    """A model that answered at an address: what the user declared of it, and what was asked, repeated tries included.

    `{"endpoint": "http://127.0.0.1:8000", "model": "base", "precision": "bf16", "checked": "declared, not checked",
    "requests": 40, "prompt_tokens": 61240, "completion_tokens": 9312, …}`. Tokens are as the server counted them;
    `uncounted` requests came back without a count. `unreadable` verdicts were neither yes nor no.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    endpoint: str
    model: str
    precision: str | None
    checked: Literal["declared, not checked"] = NOT_CHECKED
    requests: int = Field(0, ge=0)
    retries: int = Field(0, ge=0)
    uncounted: int = Field(0, ge=0)
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)
    unreadable: int = Field(0, ge=0)

    def described(self) -> str:
        """`base in bf16 at http://127.0.0.1:8000 (declared, not checked)`."""
        precision = f" in {self.precision}" if self.precision else ", precision not declared,"
        return f"{self.model}{precision} at {self.endpoint} ({self.checked})"

    def public(self) -> str:
        """The same without the address, for what is passed on."""
        precision = f"in {self.precision}" if self.precision else "in a precision that was not declared"
        return f"`{self.model}` at a server, {precision} ({self.checked})"

    def rows(self) -> list[tuple[str, str]]:
        """What it was and what it cost, for a table."""
        rows = [
            ("address", self.endpoint),
            ("model", f"{self.model} ({self.checked})"),
            ("precision", f"{self.precision or 'not declared'} ({self.checked})"),
            ("requests", f"{self.requests:,}"),
            ("requests repeated", f"{self.retries:,}"),
            ("prompt tokens", f"{self.prompt_tokens:,}"),
            ("completion tokens", f"{self.completion_tokens:,}"),
        ]
        if self.uncounted:
            rows.append(("requests without a count of tokens", f"{self.uncounted:,}"))
        if self.unreadable:
            rows.append(("verdicts that were neither yes nor no", f"{self.unreadable:,}"))
        return rows
