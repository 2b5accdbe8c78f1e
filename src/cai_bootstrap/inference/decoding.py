"""Decoding a batch token by token, without going on with the rows that have ended.

Most answers are a few tokens long and some run to the limit, so a batch that keeps its shape spends most of its time on
rows that are done. Here ended rows leave the batch, with their part of the key-value cache, as soon as they are half of
it. What is drawn depends on the prompts, the sampling and the batch alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

ENDED_SHARE = 0.5
Pick = Callable[[Any, int], Any]
Stopped = Callable[[Any], Any]


def decode(
    model: Any,
    inputs: Any,
    mask: Any,
    *,
    max_new_tokens: int,
    ends: Sequence[int],
    filler: int,
    pick: Pick,
    stopped: Stopped | None = None,
    pinned: bool = False,
    heard: Callable[[list[int]], None] | None = None,
    shapes: Any = None,
) -> list[list[int]]:
    """The new tokens of each row, its end token included.

    `inputs` and `mask` are (rows, width), padded on the left. `pick(logits, step)` maps (rows, vocabulary) to the next
    tokens (rows,). `stopped(new)` tells from the new tokens so far (rows, steps) of some rows which of them are done.
    `filler` is fed to rows that are done and still there. `pinned` keeps the batch's shape to the end, so that no row's
    arithmetic depends on when another ends. `heard` is told the first row's new tokens after each step. With `shapes`
    (`fixed_steps.FixedShapes`) steps are recorded, where that can be done.
    """
    import torch

    device, count = inputs.device, len(inputs)
    made = torch.full((count, max_new_tokens), filler, dtype=torch.long, device=device)
    lengths = torch.zeros(count, dtype=torch.long, device=device)
    rows = torch.arange(count, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    end_tokens = torch.tensor(list(ends), device=device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits, cache = _forward(model, input_ids=inputs, attention_mask=mask, position_ids=positions)
    steps: _Growing | _Fixed = _Growing(model, cache, mask)
    if shapes is not None and (room := shapes.room_for(cache, inputs.shape[1] + max_new_tokens)) is not None:
        steps = _Fixed(shapes, cache, mask, room)
    del cache
    for step in range(max_new_tokens):
        chosen = torch.where(ended, filler, pick(logits, step))
        made[rows, step] = chosen
        lengths[rows] += ~ended
        ended |= torch.isin(chosen, end_tokens)
        if stopped is not None:
            going = ~ended
            ended[going] |= stopped(made[rows[going], : step + 1])
        if heard is not None:
            heard(made[0, : int(lengths[0])].tolist())
        done = int(ended.sum())
        if done == len(rows) or step + 1 == max_new_tokens:
            break
        if not pinned and done >= ENDED_SHARE * len(rows) and steps.can_shrink:
            left = (~ended).nonzero()[:, 0]
            steps.keep(left)
            rows, chosen, ended = rows[left], chosen[left], ended[left]
        logits = steps.next(chosen)
    return [row[:length] for row, length in zip(made.tolist(), lengths.tolist(), strict=True)]


class _Growing:
    """Steps whose cache grows by a token each: any model, any device."""

    def __init__(self, model: Any, cache: Any, mask: Any) -> None:
        self._model, self._cache, self._mask = model, cache, mask

    @property
    def can_shrink(self) -> bool:
        """Whether rows can leave this cache: recurrent layers, for example, keep a state of another kind."""
        layers = getattr(self._cache, "layers", None) or [None]
        return all(hasattr(layer, "batch_select_indices") for layer in layers)

    def keep(self, rows: Any) -> None:
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]

    def next(self, tokens: Any) -> Any:
        """The logits after one more token of each row."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=-1)
        logits, self._cache = _forward(
            self._model,
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._mask.sum(-1, keepdim=True) - 1,
            past_key_values=self._cache,
        )
        return logits


class _Fixed:
    """Steps of a fixed shape (`fixed_steps`)."""

    can_shrink = True

    def __init__(self, shapes: Any, cache: Any, mask: Any, room: int) -> None:
        self._shapes, self._room, self._most = shapes, room, len(mask)
        self._steps = shapes.of(cache, len(mask), len(mask), room)
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        self._steps.begin(layers, mask.bool(), mask.shape[1])
        self._positions = mask.sum(-1)

    def keep(self, rows: Any) -> None:
        self._positions = self._positions[rows]
        steps = self._shapes.of(self._steps.cache, len(rows), self._most, self._room)
        layers, seen = self._steps.kept(rows)
        steps.begin(layers, seen, self._steps.filled)
        self._steps = steps

    def next(self, tokens: Any) -> Any:
        logits = self._steps.step(tokens, self._positions)
        self._positions = self._positions + 1
        return logits


def _forward(model: Any, **inputs: Any) -> tuple[Any, Any]:
    """The logits after each row's last token, and the cache."""
    output = model(**inputs, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1], output.past_key_values


def greedy(logits: Any, step: int) -> Any:  # noqa: ARG001 - the same at every step
    """The likeliest token of each row."""
    return logits.argmax(-1)


def sampler(temperature: float, top_p: float) -> Pick:
    """Draw from the distribution at `temperature`, cut to its nucleus `top_p` (Holtzman et al., 1904.09751)."""
    import torch
    from transformers.generation.logits_process import TopPLogitsWarper

    nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    def draw(logits: Any, step: int) -> Any:  # noqa: ARG001 - the same at every step
        scores = logits.float() / temperature
        if nucleus is not None:
            scores = nucleus(None, scores)
        return torch.multinomial(torch.softmax(scores, -1), 1)[:, 0]

    return draw
