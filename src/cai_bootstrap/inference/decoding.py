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
) -> list[list[int]]:
    """The new tokens of each row, its end token included.

    `inputs` and `mask` are (rows, width), padded on the left. `pick(logits, step)` maps (rows, vocabulary) to the next
    tokens (rows,). `stopped(new)` tells from the new tokens so far (rows, steps) which rows are done. `filler` is fed
    to rows that are done and still there. `pinned` keeps the batch's shape to the end, so that no row's arithmetic
    depends on when another ends. `heard` is told the first row's new tokens after each step.
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
    for step in range(max_new_tokens):
        chosen = torch.where(ended, filler, pick(logits, step))
        made[rows, step] = chosen
        lengths[rows] += ~ended
        ended |= torch.isin(chosen, end_tokens)
        if stopped is not None:
            ended |= stopped(made[rows, : step + 1])
        if heard is not None:
            heard(made[0, : int(lengths[0])].tolist())
        done = int(ended.sum())
        if done == len(rows) or step + 1 == max_new_tokens:
            break
        if not pinned and done >= ENDED_SHARE * len(rows) and _can_shrink(cache):
            left = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(left)
            rows, mask, chosen, ended = rows[left], mask[left], chosen[left], ended[left]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
        logits, cache = _forward(
            model,
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
        )
    return [row[:length] for row, length in zip(made.tolist(), lengths.tolist(), strict=True)]


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


def _can_shrink(cache: Any) -> bool:
    """Whether rows can leave this cache: recurrent layers, for example, keep a state of another kind."""
    layers = getattr(cache, "layers", None) or [None]
    return all(hasattr(layer, "batch_select_indices") for layer in layers)
