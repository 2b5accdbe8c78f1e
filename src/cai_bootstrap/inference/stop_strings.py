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
    """Tells which rows' new tokens (rows, steps) have just completed one of the stop strings."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], newlines: Any) -> None:
        self._tokenizer, self._stops, self._newlines = tokenizer, tuple(stops), newlines

    def __call__(self, new: Any) -> Any:
        near = self._newlines[new[:, -LOOK_BACK:]].any(-1)
        rows = near.nonzero()[:, 0].tolist()
        if rows:
            texts = self._tokenizer.batch_decode(new[near, -2 * LOOK_BACK :].tolist(), skip_special_tokens=True)
            near[rows] = near.new_tensor([any(stop in text for stop in self._stops) for text in texts])
        return near
