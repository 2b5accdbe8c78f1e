"""The tokenizer's half of every engine: plain prompts to token ids, and new token ids to a completion."""

from collections.abc import Collection, Sequence
from typing import Any

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.engine import Completion
from cai_bootstrap.inference.guard import chat_token_ids, refuse_chat


class Tokens:
    """Encodes and decodes for one model. `eos` is what its generation settings call an end; `ends` is what ends here.

    A base model ends with its EOS alone; the chat formats' turn ends do not count, unless there is no other.
    """

    def __init__(self, tokenizer: Any, eos: int | Sequence[int] | None) -> None:
        self.tokenizer = tokenizer
        self._forbidden = chat_token_ids(tokenizer)
        found = {tokenizer.eos_token_id, *([eos] if isinstance(eos, int) or eos is None else eos)} - {None}
        self.ends: list[int] = sorted(found - set(self._forbidden)) or sorted(found)

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids with BOS where the tokenizer adds it. Raises EngineError on chat markers."""
        if not prompts:
            return []
        encoded: list[list[int]] = self.tokenizer(list(prompts))["input_ids"]
        refuse_chat(prompts, encoded, self._forbidden)
        return encoded

    def encode_rest(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that stand after a prompt: no BOS."""
        encoded: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return encoded

    @staticmethod
    def scored(head: Sequence[int], tail: Sequence[int]) -> int:
        """How many tokens of `tail` can be scored after `head`: the first of all has nothing to be predicted from."""
        return len(tail) if head else max(0, len(tail) - 1)

    def single(self, choice: str) -> int:
        """The one token that a choice is. Raises EngineError if it is several."""
        ids = self.encode_rest([choice])[0]
        if len(ids) != 1:
            raise EngineError(f"the choice {choice!r} is {len(ids)} tokens long; a choice must be a single token")
        return ids[0]

    def completion(self, ids: Sequence[int], stop: Collection[str]) -> Completion:
        """What new token ids say: cut before the first stop string, else at the end token, else cut off by length."""
        end = next((n for n, token in enumerate(ids) if token in self.ends), None)
        kept = list(ids if end is None else ids[:end])
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True)
        cut = min((at for s in stop if (at := text.find(s)) >= 0), default=None)
        if cut is not None:
            return Completion(text[:cut], "stop", len(kept))
        if end is not None:
            return Completion(text, "eos", end + 1)
        return Completion(text, "length", len(kept))
