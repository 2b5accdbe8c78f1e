"""Preference pairs as token ids, exactly as the model will meet them: BOS and prompt, then the answer, then EOS.

Prompt and answer are encoded apart, as they are when the trained model is asked. EOS is put once after every chosen
answer and after a rejected one that the model itself had ended; a rejected answer that was cut off at the token limit
gets none, or the model would be taught that stopping there is what is wrong (or right) with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cai_bootstrap.records import PreferencePair


@dataclass(frozen=True)
class TokenisedPair:
    """Token ids of one pair. `prompt_ids` begins with BOS where the tokenizer wants one."""

    id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def tokenise(pairs: Iterable[PreferencePair], tokenizer: Any, *, max_length: int) -> list[TokenisedPair]:
    """Encode pairs; an answer that would pass `max_length` tokens with its prompt is cut, and then has no EOS."""
    made: list[TokenisedPair] = []
    for pair in pairs:
        prompt_ids: list[int] = tokenizer(pair.prompt)["input_ids"]
        room = max(1, max_length - len(prompt_ids))
        chosen = _answer(tokenizer, pair.chosen, True)[:room]
        rejected = _answer(tokenizer, pair.rejected, pair.rejected_finished)[:room]
        made.append(TokenisedPair(pair.id, prompt_ids, chosen, rejected))
    return made


def _answer(tokenizer: Any, text: str, finished: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id] if finished else ids


def rows_of(pairs: Sequence[TokenisedPair], reference: Sequence[tuple[float, float]] | None = None) -> list[Any]:
    """The pairs as the collator reads them; `reference` adds the reference model's log-probabilities (nats) of chosen
    and rejected. A plain list: a row of a `datasets.Dataset` takes 45 µs to fetch, 64 of them 2.9 ms a step."""
    made: list[Any] = [
        {"prompt_ids": p.prompt_ids, "chosen_ids": p.chosen_ids, "rejected_ids": p.rejected_ids} for p in pairs
    ]
    for row, (chosen, rejected) in zip(made, reference or [], strict=reference is not None):
        row |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    return made
