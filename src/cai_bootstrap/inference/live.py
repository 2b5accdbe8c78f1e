"""Text while it is being written: what transformers calls a streamer, for one completion."""

from collections.abc import Callable
from typing import Any


class TextSoFar:
    """Hears each new token and tells `on_text` the whole text so far. The first thing it is given is the prompt."""

    def __init__(self, decode: Callable[[list[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode, self._on_text = decode, on_text
        self._ids: list[int] | None = None

    def put(self, value: Any) -> None:
        """A tensor of token ids: the prompt's at first, then one new token at a time."""
        if self._ids is None:
            self._ids = []
            return
        self._ids.extend(value.flatten().tolist())
        self._on_text(self._decode(self._ids))

    def end(self) -> None:
        """Nothing is kept back, so there is nothing left to tell."""
