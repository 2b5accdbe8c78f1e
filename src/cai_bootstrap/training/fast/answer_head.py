"""The log-probabilities of answers: the head runs on answer tokens alone, and nothing waits for the GPU.

TRL's fused head finds those tokens on the GPU, which stops the host in the middle of each forward pass and cannot be
recorded in a CUDA graph; here their places come with the batch (`training.collate`). The head's tiles are TRL's.
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from trl.kernels import ChunkedLogProbFunction

from cai_bootstrap.inference.fast.attention import layer_kinds, window_of

VOCABULARY_TILE = 32_768
MULTIPLIERS = ("logit_scale", "output_multiplier", "lm_head_multiplier")  # of logits: Cohere, Falcon-H1 and others


def add_answer_head(model: Any) -> None:
    """Let `model(..., answers=places)` return the log-probability (nats) of each answer token, as a (rows, width)
    table that is 0 elsewhere. Without `answers` the forward is what it was."""
    if hasattr(model, "answers_head"):
        return
    original = model.forward
    text = model.config.get_text_config()
    scale = logit_scale(text)
    softcap = getattr(text, "final_logit_softcapping", None)

    @functools.wraps(original)  # `generate` reads the signature
    def forward(*args: Any, answers: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if answers is None:
            return original(*args, **kwargs)
        ids = kwargs["input_ids"]
        kwargs.pop("labels", None)
        hidden = model.base_model(**kwargs, use_cache=False).last_hidden_state
        here = answers.clamp(max=ids.numel() - 1)
        head = model.get_output_embeddings()
        before = hidden.reshape(-1, hidden.shape[-1]).index_select(0, (here - 1).clamp(min=0))
        scores = ChunkedLogProbFunction.apply(
            before, head.weight, head.bias, ids.reshape(-1)[here], 1.0, VOCABULARY_TILE, softcap, scale, ("log_probs",)
        )[0]
        table = scores.new_zeros(ids.numel() + 1).scatter(0, answers, scores)
        return table[:-1].view_as(ids)

    model.forward = forward
    model.answers_head = True


def logit_scale(text: Any) -> float:
    """What a model multiplies its logits by, from its text configuration; 1 for most."""
    for name in MULTIPLIERS:
        if (multiplier := getattr(text, name, None)) is not None:
            return float(multiplier)
    scaling = getattr(text, "logits_scaling", None)
    if scaling is None:
        return 1.0
    # Granite and MiniCPM3 divide by it.
    return float(scaling) if text.model_type == "hyperclovax" else 1 / float(scaling)


def answer_logps(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability (nats) and number of tokens of each row's answer."""
    table = model(input_ids=batch["input_ids"], attention_mask=mask_for(model, batch), answers=batch["answers"])
    return table.float().sum(dim=1), batch["lengths"].clamp(min=1)


def mask_for(model: Any, batch: Mapping[str, torch.Tensor]) -> Any:
    """The mask that a model needs for rows padded on the right: none where its attention is causal by itself.

    An answer's token looks back only, and padding stands after it. A sliding window longer than the rows hides nothing.
    """
    config = getattr(model, "module", model).config
    kinds, window = layer_kinds(config), window_of(config)
    fits = window is None or batch["input_ids"].shape[1] <= window
    plain = getattr(config.get_text_config(), "_attn_implementation", None) == "sdpa" and fits
    return dict.fromkeys(kinds) if plain and kinds else batch["attention_mask"]
