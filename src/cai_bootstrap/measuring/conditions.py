"""The conditions a rate was measured under, and the rule that only equal conditions may be compared.

Model, adapter, rendering and stop rule are what a comparison is about: they stand per side as declared factors
(`FACTORS`) and may differ. Everything in `Conditions` must be equal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from cai_bootstrap.files import fingerprint

FACTORS = ("model", "adapter", "rendering", "stop_rule")
PLAIN_RENDERING = "{instruction}\\n"
BARE_RENDERING: Literal["bare"] = "bare"
StopRule = Literal["eos", "first_line"]
EOS_RULE: StopRule = "eos"
FIRST_LINE_RULE: StopRule = "first_line"


class Identified(Protocol):
    """Anything that can be asked: a suite's item, a prompt, a known fact. Its outputs are kept by its id."""

    @property
    def id(self) -> str: ...


class AskedSet(Protocol):
    """A named, ordered set of what is asked, with the hash of its content: a suite, or held-out prompts."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def items(self) -> Sequence[Identified]: ...


class Conditions(BaseModel):
    """Everything that may change an output or a verdict, apart from the declared factors.

    `decoding` holds the sampling settings, `versions` the libraries' versions, `item_order` the hash that `item_order`
    gives for the items in the order they were run. `own_scorers` holds the modules of the user's own that judge, with
    the hash of each one's source; conditions without any have no such key in a file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: str
    quantization: str | None
    base_model: str
    revision: str
    base_weights_sha256: str
    tokenizer_sha256: str
    decoding: dict[str, Any]
    max_new_tokens: int
    batch_size: int
    padding_side: str
    attention: str
    engine: str
    device: str
    versions: dict[str, str]
    suite_name: str
    suite_sha256: str
    scorer_version: str
    item_order: str
    own_scorers: dict[str, str] = Field(default_factory=dict, exclude_if=lambda sources: not sources)


@dataclass(frozen=True)
class Difference:
    """One condition that is not equal; `field` names the part of a nested one too, like `versions.torch`."""

    field: str
    a: Any
    b: Any


def differences(a: Conditions, b: Conditions) -> list[Difference]:
    """Every condition that differs, in the order of the fields; empty if the two may be compared."""
    found: list[Difference] = []
    left, right = ({**one.model_dump(), "own_scorers": one.own_scorers} for one in (a, b))
    for field, value in left.items():
        other = right[field]
        if isinstance(value, dict) and isinstance(other, dict):
            found += [
                Difference(f"{field}.{key}", value.get(key), other.get(key))
                for key in sorted(value.keys() | other.keys())
                if (key in value, value.get(key)) != (key in other, other.get(key))
            ]
        elif value != other:
            found.append(Difference(field, value, other))
    return found


def item_order(items: Iterable[Identified]) -> str:
    """SHA-256 (hex) of the items' ids in order: batches, and so bf16 outputs, depend on it."""
    return fingerprint([item.id for item in items])
