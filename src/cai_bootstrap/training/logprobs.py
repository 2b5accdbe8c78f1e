"""The log-probabilities of answers, from the model's own logits: the plain way, for any model.

`training.fast.answer_head` gives the same numbers without the logits of every token (a training step of
gemma-3-270m with 8 pairs: see benchmarks/training.py).
"""

from collections.abc import Mapping
from typing import Any

import torch


def answer_logps(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability (nats) and number of tokens of each row's answer.

    `batch` is what `training.collate.Collator` gives: `input_ids` and `attention_mask` (rows, width), `answers` the
    places of the answers' tokens in the flattened `input_ids`, `lengths` (rows,).
    """
    ids = batch["input_ids"]
    logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    token_logps = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
    is_answer = torch.zeros(ids.numel() + 1, dtype=torch.bool, device=ids.device)
    is_answer[batch["answers"]] = True
    is_answer = is_answer[:-1].view_as(ids)[:, 1:]
    return (token_logps * is_answer).sum(dim=1), batch["lengths"].clamp(min=1)
