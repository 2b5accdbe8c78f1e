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
# Attributes by which some models scale their logits; TRL's own fused head knows them all.
SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def add_answer_head(model: Any) -> None:
    """Let `model(..., answers=places)` return the log-probability (nats) of each answer token, as a (rows, width)
    table that is 0 elsewhere. Without `answers` the forward is what it was. For a model whose fused head is TRL's."""
    if hasattr(model, "answers_head"):
        return
    original = model.forward
    text = model.config.get_text_config()
    scaled = any(getattr(text, name, None) not in (None, 1.0, 1) for name in SCALES)
    softcap = getattr(text, "final_logit_softcapping", None)

    @functools.wraps(original)  # `generate` reads the signature
    def forward(*args: Any, answers: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if answers is None:
            return original(*args, **kwargs)
        ids = kwargs["input_ids"]
        if scaled:
            kept = torch.zeros(ids.numel() + 1, dtype=torch.bool, device=ids.device)
            kept[answers] = True
            labels = ids.masked_fill(~kept[:-1].view_as(ids), -100)
            outputs = original(**{**kwargs, "labels": labels}, fused_lm_head=True)
            return torch.nn.functional.pad(outputs.log_probs.float(), (1, 0))
        kwargs.pop("labels", None)
        hidden = model.base_model(**kwargs, use_cache=False).last_hidden_state
        here = answers.clamp(max=ids.numel() - 1)
        head = model.get_output_embeddings()
        before = hidden.reshape(-1, hidden.shape[-1]).index_select(0, (here - 1).clamp(min=0))
        found = ChunkedLogProbFunction.apply(
            before, head.weight, head.bias, ids.reshape(-1)[here], 1.0, VOCABULARY_TILE, softcap, 1.0, ("log_probs",)
        )[0]
        table = found.new_zeros(ids.numel() + 1).scatter(0, answers, found)
        return table[:-1].view_as(ids)

    model.forward = forward
    model.answers_head = True


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
