"""Model servers by address: what a user declares of one, what is refused of that, and what was asked of it.

A server is believed, not checked: which weights it answers with, and in which precision, nobody can see from outside.
"""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cai_bootstrap.errors import UsageError
from cai_bootstrap.processor import Precision

NOT_CHECKED: Literal["declared, not checked"] = "declared, not checked"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_API = ("/v1/completions", "/v1")
# Parts of a served model's name that say that its weights have 4 bits.
_FOUR_BIT_NAME = re.compile(r"(?<![a-z0-9])(?:4[-_]?bits?|int4|nf4|fp4|w4a\d+|q4_\w+|q4|awq)(?![a-z0-9])")


def server_address(text: str) -> str:
    """A server's address without the part that all of them share: `http://127.0.0.1:8000/v1/` is stored without `/v1/`.

    Raises UsageError for what is no address, and for one that holds a user, a password or a query: what is configured
    is written down, so no secret may stand there. Such an address is not repeated in the message.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"a server's address is malformed: {error}; give http://HOST:PORT") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            "a server's address holds a user, a password or a query; configurations are written down, so give "
            "http://HOST:PORT alone, and the key by the name of an environment variable (api_key_env)"
        )
    if parts.scheme not in ("http", "https") or not host or not text.isprintable() or " " in text:
        raise UsageError(f"{text!r} is no address of a server; give http://HOST:PORT or https://HOST/PATH")
    address = text.rstrip("/")
    for ending in _API:
        address = address.removesuffix(ending).rstrip("/")
    return address


def variable_name(text: str) -> str:
    """The name of an environment variable. Raises UsageError, without repeating it, if it looks like a key itself."""
    if not _VARIABLE.fullmatch(text) or text.lower().startswith(("sk_", "hf_")):
        raise UsageError(
            "api_key_env holds the NAME of the environment variable with the key, such as OPENAI_API_KEY; what stands "
            "there is no such name (it is not repeated here, since it may be the key itself)"
        )
    return text


def _sixteen_bits(name: str) -> str:
    refuse_four_bit_name(name)
    return name


def refuse_four_bit_name(name: str) -> None:
    """Raise UsageError for the name or path of a served model that says that it has 4 bits."""
    if _FOUR_BIT_NAME.search(name.lower()):
        raise UsageError(
            f"the served model {name!r} is a 4-bit one by its name, which is refused: its answers differ from those of "
            "the model that is trained; serve it in int8, fp8, bf16, fp16 or fp32"
        )


class ModelServer(BaseModel):
    """An OpenAI-compatible completions server as a user declares it; without an endpoint there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    endpoint: Annotated[str, AfterValidator(server_address)] | None = Field(
        None, description="address of an OpenAI-compatible completions server: http://127.0.0.1:8000"
    )
    model: Annotated[str, AfterValidator(_sixteen_bits)] | None = Field(
        None, description="the name that the server gives to its model; None: the only one that it serves"
    )
    precision: Precision | None = Field(None, description="of the weights behind the server, as you started it")
    api_key_env: Annotated[str, AfterValidator(variable_name)] | None = Field(
        None, description="NAME of the environment variable that holds the key; None: no key is sent"
    )
    timeout: float = Field(300.0, gt=0, description="seconds to wait for one answer")


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
