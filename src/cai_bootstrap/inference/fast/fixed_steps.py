"""Decoding steps of a fixed shape, recorded as CUDA graphs: the host starts one graph a token, not a thousand kernels.

The key-value cache is allocated once for all tokens to come, and a step writes into it in place. Rows that have ended
leave as they do elsewhere (`decoding`), in halves: each half is a shape of its own, recorded once and used again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from cai_bootstrap.inference.fast.attention import layer_kinds, window_of

TOKENS_STEP = 64  # a cache is this much longer than needed at most, so that batches of similar lengths share a shape
FEWEST_ROWS = 32
WARM_UPS = 2


class FixedSteps:
    """`model` for `rows` rows, one token at a time, with room for `tokens` tokens of prompt and answer."""

    def __init__(self, model: Any, like: Any, rows: int, tokens: int) -> None:
        self._model, self.rows, self.tokens = model, rows, tokens
        self.cache = Cache(layers=[StaticLayer(tokens) for _ in like.layers])
        for layer, known in zip(self.cache.layers, like.layers, strict=True):
            layer.lazy_initialization(
                known.keys[:1].expand(rows, -1, -1, -1), known.values[:1].expand(rows, -1, -1, -1)
            )
        device = like.layers[0].keys.device
        self._seen = torch.ones(rows, tokens, dtype=torch.bool, device=device)
        self._token = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._columns = torch.arange(tokens, device=device)
        self._kinds = layer_kinds(model.config)
        self._graph: Any = None
        self._logits: Any = None

    def begin(self, layers: Sequence[tuple[Any, Any]], seen: Any, filled: int) -> None:
        """Take over what was read so far: keys and values (rows, heads, tokens, size) of each layer, at most `rows`
        rows of them, and which of its `filled` columns each row may see."""
        count = len(seen)
        self._seen.fill_(True)
        self._seen[:count, : seen.shape[1]] = seen
        for layer, (keys, values) in zip(self.cache.layers, layers, strict=True):
            layer.keys[:count, :, :filled] = keys[:, :, :filled]
            layer.values[:count, :, :filled] = values[:, :, :filled]
            layer.cumulative_length.fill_(filled)
        self.filled = filled

    def step(self, tokens: Any, positions: Any) -> Any:
        """Feed each row's last token; the logits (rows given, vocabulary) after it. They hold until the next step."""
        count = len(tokens)
        self._token[:count, 0] = tokens
        self._position[:count, 0] = positions
        if not tokens.is_cuda:
            self._logits = self._forward()
        else:
            if self._graph is None:
                self._record()
            self._graph.replay()
        self.filled += 1
        return self._logits[:count]

    def kept(self, rows: Any) -> tuple[list[tuple[Any, Any]], Any]:
        """What `begin` takes of these rows."""
        layers = [
            (layer.keys[rows][:, :, : self.filled], layer.values[rows][:, :, : self.filled])
            for layer in self.cache.layers
        ]
        return layers, self._seen[rows]

    def _forward(self) -> Any:
        lengths = self.cache.layers[0].cumulative_length
        allowed = self._seen & (self._columns <= lengths)
        dtype = self.cache.layers[0].dtype
        mask = torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)[:, None, None]
        output = self._model(
            input_ids=self._token, position_ids=self._position, past_key_values=self.cache, use_cache=True,
            attention_mask=dict.fromkeys(self._kinds, mask) if self._kinds else mask, logits_to_keep=1,
        )  # fmt: skip
        return output.logits[:, -1]

    def _record(self) -> None:
        cuda: Any = torch.cuda  # its streams have no types
        stream = cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._forward()
                self._reset()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.empty_cache()  # a recording has memory of its own, and cannot ask for what is only kept
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._logits = self._forward()
        self._graph = graph  # only now: one that ran out of memory must not be replayed
        self._reset()

    def _reset(self) -> None:
        """A recording or a trial has moved the ends of the cache, or its column at the end was written: once more."""
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(self.filled)


class FixedShapes:
    """The recorded shapes of one model. `forget` drops them and their memory."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[tuple[int, int, bool], FixedSteps] = {}

    def room_for(self, cache: Any, tokens: int) -> int | None:
        """The length of a fixed cache for so many tokens; None where one would not do what this cache does."""
        config = self._model.config
        plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
        if not plain or config.get_text_config()._attn_implementation != "sdpa":
            return None
        room, window = -(-tokens // TOKENS_STEP) * TOKENS_STEP, window_of(config)
        if window is not None and room > window:
            return window if tokens <= window else None
        return room

    def of(self, like: Any, count: int, most: int, tokens: int) -> FixedSteps:
        """Steps for at least `count` rows: those known with at most twice as many, or `most`, or a half of it ..."""
        off = adapters_off(self._model)
        if any(known[1:] != (tokens, off) for known in self._known):
            self.forget()
        fewest = max(count, FEWEST_ROWS)
        rows = min((known[0] for known in self._known if count <= known[0] < 2 * fewest), default=0)
        if not rows:
            rows = most
            while rows // 2 >= fewest:
                rows //= 2
        key = (rows, tokens, off)
        if key not in self._known:
            self._known[key] = FixedSteps(self._model, like, rows, tokens)
        return self._known[key]

    def forget(self) -> bool:
        """Drop them all; whether there were any."""
        had = bool(self._known)
        self._known.clear()
        return had


def adapters_off(model: Any) -> bool:
    """Whether the model's adapters are switched off: another forward pass than with them."""
    layer = next((module for module in model.modules() if hasattr(module, "lora_A")), None)
    return bool(layer is not None and layer.disable_adapters)
