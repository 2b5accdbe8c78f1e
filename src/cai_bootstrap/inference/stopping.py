"""Stop strings for batched decoding, without a look at the whole vocabulary at every step.

transformers' own `stop_strings` builds a table over the vocabulary and the stop strings, which takes half a minute for
Gemma's 262,144 tokens. All of this product's stop strings begin with a line break, so only rows that wrote one within
the last few tokens are decoded and searched.
"""

from collections.abc import Sequence
from typing import Any

LOOK_BACK = 8
NEWLINE_PIECES = ("\n", "Ċ", "<0x0A>")


def newline_tokens(tokenizer: Any) -> list[int]:
    """The ids of all tokens whose text holds a line break (raw, byte-level BPE, or SentencePiece byte fallback)."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return sorted(i for piece, i in vocabulary.items() if any(mark in piece for mark in NEWLINE_PIECES))


class StopAtStrings:
    """A transformers stopping criterion: a row is done once its new text holds one of the stop strings."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], newlines: Any, prompt_width: int) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._newlines, self._prompt_width = newlines, prompt_width
        self._done: Any = None

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - transformers' signature
        import torch

        if self._done is None:
            self._done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        recent = input_ids[:, max(self._prompt_width, input_ids.shape[1] - LOOK_BACK) :]
        near = self._newlines[recent].any(-1) & ~self._done
        rows = near.nonzero()[:, 0].tolist()
        if rows:
            new = input_ids[near, max(self._prompt_width, input_ids.shape[1] - 2 * LOOK_BACK) :].tolist()
            texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
            for row, text in zip(rows, texts, strict=True):
                if any(stop in text for stop in self._stops):
                    self._done[row] = True
        return self._done
