"""A model's shape, read from its config.json or from the list of known architectures; no weights are touched.

The weights of a plain dense decoder follow from its sizes. Those of any other, as a mixture of experts, are counted on
the model that transformers builds.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.fast.attention import MASK_FOR_EACH_KIND
from cai_bootstrap.inference.model_size import ModelSize, count_weights
from cai_bootstrap.inference.models import hub_caches

KNOWN = Path(__file__).with_name("architectures.yaml")
FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")  # before and after attention, before and after the MLP
HEAD_NORMS = ("gemma3", "gemma3_text", "qwen3")  # on query and key
BIASED = ("qwen2",)  # query, key and value have a bias although config.json does not say so
PLAIN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text")  # weights by arithmetic
# What families of mixtures of experts call their experts, those that each token goes through, and a shared one's width.
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k")


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes: `hidden` d, `inner` m (MLP), `layers` L, `heads` H, `kv_heads` K, `head` h, `vocabulary` V.

    Of a mixture of experts `inner` is the width that one token goes through (all experts of it, shared ones too), and
    `counted` holds its weights, all experts among them.
    """

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
    experts: int = 0
    counted: ModelSize | None = None

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
        """Weights of all linear layers: L · (d·Hh + 2·d·Kh + Hh·d + 3·d·m), the part that 8 bits shrink.

        Experts are no linear layers, and stay as they are in 8 bits.
        """
        if self.counted is not None:
            return self.counted.linear_parameters
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def other_parameters(self) -> int:
        """Embedding V·d, the head V·d if it is not the embedding, norms and biases; and experts."""
        if self.counted is not None:
            return self.counted.parameters - self.counted.linear_parameters
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
        """Adapters on all linear layers but the head, L · Σ r·(in + out), and on experts where PEFT adapts them."""
        if self.counted is not None:
            return rank * self.counted.adapter_parameters
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
    architectures = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))
    short = {name.rsplit("/", 1)[-1].lower(): name for name in architectures}
    name = model if model in architectures else short.get(model.rsplit("/", 1)[-1].lower())
    if name is None:
        raise UsageError(
            f"the shape of '{model}' is not known here: give a folder with its config.json, run `cai prepare`, or "
            f"plan for one of: {', '.join(architectures)}"
        )
    return _shape(model, "the list of known architectures", architectures[name])


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a model's configuration: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path}: expected an object with the model's sizes")
    return dict(config.get("text_config") or config)


def _shape(name: str, source: str, config: dict[str, Any]) -> Shape:
    try:
        heads = int(config["num_attention_heads"])
        kind = str(config.get("model_type", ""))
        layers = int(config["num_hidden_layers"])
        types = config.get("layer_types")
        sliding = types.count("sliding_attention") if types else int(config.get("sliding_layers", 0))
        experts = next((int(config[name]) for name in EXPERTS if config.get(name)), 0)
        return Shape(
            name=name,
            source=source,
            hidden=int(config["hidden_size"]),
            inner=_width_of_a_token(config) if experts else int(config["intermediate_size"]),
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
            experts=experts,
            counted=None if kind in ("", *PLAIN) and not experts else count_weights(config),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{source}: not a decoder that can be planned for: {error} is missing or no number") from error


def _width_of_a_token(config: dict[str, Any]) -> int:
    """The MLP's width in a mixture of experts, for one token: its experts together, or a dense layer's if wider."""
    used = next((int(config[name]) for name in EXPERTS_PER_TOKEN if config.get(name)), None)
    if used is None:
        raise KeyError(EXPERTS_PER_TOKEN[0])
    expert = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    shared += expert * int(config.get("n_shared_experts") or config.get("moe_num_shared_experts") or 0)
    return max(used * expert + shared, int(config.get("intermediate_size") or 0))
