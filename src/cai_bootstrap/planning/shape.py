"""A model's shape, read from its config.json or from the list of known architectures; no weights are touched."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.fast.attention import MASK_FOR_EACH_KIND
from cai_bootstrap.inference.models import hub_caches

KNOWN = Path(__file__).with_name("architectures.yaml")
FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")  # before and after attention, before and after the MLP
HEAD_NORMS = ("gemma3", "gemma3_text", "qwen3")  # on query and key
BIASED = ("qwen2",)  # query, key and value have a bias although config.json does not say so


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes: `hidden` d, `inner` m (MLP), `layers` L, `heads` H, `kv_heads` K, `head` h, `vocabulary` V."""

    name: str
    source: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    norms: int
    head_norms: bool
    biased: bool
    window: int | None
    sliding_layers: int
    masked: bool  # attention in training is given a mask, and then keeps keys and values for every head

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of each linear layer of a block: query, key, value, output, gate, up, down."""
        query, key = self.heads * self.head, self.kv_heads * self.head
        return [
            (self.hidden, query), (self.hidden, key), (self.hidden, key), (query, self.hidden),
            (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden),
        ]  # fmt: skip

    @property
    def block_parameters(self) -> int:
        """Weights of all linear layers: L · (d·Hh + 2·d·Kh + Hh·d + 3·d·m), the part that 8 bits shrink."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def other_parameters(self) -> int:
        """Embedding V·d, the head V·d if it is not the embedding, norms and biases."""
        small = self.layers * (self._block_small) + self.hidden
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + small

    @property
    def _block_small(self) -> int:
        biases = (self.heads + 2 * self.kv_heads) * self.head if self.biased else 0
        return self.norms * self.hidden + biases + (2 * self.head if self.head_norms else 0)

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.block_parameters + self.other_parameters

    def lora_parameters(self, rank: int) -> int:
        """Adapters on all linear layers but the head: L · Σ r·(in + out)."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


def read_shape(model: str) -> Shape:
    """The shape of a local folder's, a cached, or a known model.

    Raises UsageError if there is neither a config.json nor a known architecture of that name.
    """
    folder = Path(model).expanduser()
    if (folder / "config.json").is_file():
        return _shape(model, str(folder / "config.json"), _read(folder / "config.json"))
    for cache in hub_caches():
        for cached in sorted(cache.glob(f"models--{model.replace('/', '--')}/snapshots/*/config.json")):
            return _shape(model, "config.json in the model cache", _read(cached))
    known = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))
    short = {name.rsplit("/", 1)[-1].lower(): name for name in known}
    name = model if model in known else short.get(model.rsplit("/", 1)[-1].lower())
    if name is None:
        raise UsageError(
            f"the shape of '{model}' is not known here: give a folder with its config.json, run `cai prepare`, or "
            f"plan for one of: {', '.join(known)}"
        )
    return _shape(model, "the list of known architectures", known[name])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a model's configuration: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected an object with the model's sizes")
    return dict(found.get("text_config") or found)


def _shape(name: str, source: str, config: dict[str, Any]) -> Shape:
    try:
        heads = int(config["num_attention_heads"])
        kind = str(config.get("model_type", ""))
        layers = int(config["num_hidden_layers"])
        types = config.get("layer_types")
        sliding = types.count("sliding_attention") if types else int(config.get("sliding_layers", 0))
        return Shape(
            name=name,
            source=source,
            hidden=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            layers=layers,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or config["hidden_size"] // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            norms=4 if kind in FOUR_NORMS else 2,
            head_norms=kind in HEAD_NORMS,
            biased=bool(config.get("attention_bias", False)) or kind in BIASED,
            window=int(config["sliding_window"]) if sliding and config.get("sliding_window") else None,
            sliding_layers=sliding,
            masked=kind not in MASK_FOR_EACH_KIND,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{source}: not a decoder that can be planned for: {error} is missing or no number") from error
