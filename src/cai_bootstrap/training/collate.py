"""Token ids of some pairs as one batch of tensors: chosen rows first, then rejected ones, padded on the right.

The places of the answers' tokens are worked out here, on the CPU, so that no GPU is asked for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Collator:
    """Rows of `training.pairs.rows_of` to tensors.

    `input_ids` and `attention_mask` are (rows, width). `answers` (tokens,) holds the places of all answer tokens in
    the flattened `input_ids`; `lengths` (rows,) how many of them are each row's. `width_step` and `answer_step` round
    widths and numbers of answer tokens up, so that batches have few different shapes; a place added in `answers` is
    rows × width, which is none. Without `rejected` there are chosen rows only.
    """

    pad_id: int
    rejected: bool = True
    width_step: int = 1
    answer_step: int = 1

    def __call__(self, pairs: Sequence[Row]) -> dict[str, torch.Tensor]:
        prompts = [pair["prompt_ids"] for pair in pairs]
        answers = [pair["chosen_ids"] for pair in pairs]
        if self.rejected:
            prompts = prompts * 2
            answers = answers + [pair["rejected_ids"] for pair in pairs]
        starts = np.array([len(ids) for ids in prompts])
        lengths = np.array([len(ids) for ids in answers])
        width = _up(int((starts + lengths).max()), self.width_step)
        ids = np.full((len(prompts), width), self.pad_id, dtype=np.int64)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids[row, : len(prompt)] = prompt
            ids[row, len(prompt) : len(prompt) + len(answer)] = answer
        columns = np.arange(width)
        ends = (starts + lengths)[:, None]
        places = np.flatnonzero((columns >= starts[:, None]) & (columns < ends))
        added = _up(len(places), self.answer_step) - len(places)
        places = np.concatenate([places, np.full(added, ids.size)])
        batch = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy((columns < ends).astype(np.int64)),
            "answers": torch.from_numpy(places),
            "lengths": torch.from_numpy(lengths),
        }
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in pairs[0]:
                batch[name] = torch.tensor([pair[name] for pair in pairs], dtype=torch.float32)
        return batch


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
