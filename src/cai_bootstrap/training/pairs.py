"""Preference pairs as token ids, exactly as the model will meet them: BOS and prompt, then the answer, then EOS.

Prompt and answer are encoded apart, as they are when the trained model is asked. EOS is put once after every chosen
answer and after a rejected one that the model itself had ended; a rejected answer that was cut off at the token limit
gets none, or the model would be taught that stopping there is what is wrong (or right) with it.

The pairs' prompts end with a line break. Trained on those alone, the model followed half as much when somebody left the
line break out (docs/RESULTS.md), so a share of the pairs is asked without it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cai_bootstrap.files import fingerprint
from cai_bootstrap.records import PreferencePair

LINE_BREAK = "\n"


@dataclass(frozen=True)
class Asking:
    """How the pairs are asked: a `bare_share` (0 to 1) of them without the line break that ends their prompt.

    Which ones, a hash of the pair's id and the seed decides: neither their order nor the other pairs matter, and a pair
    that is bare in a smaller share is bare in a larger one.
    """

    bare_share: float = 0.0
    seed: int = 0

    def is_bare(self, pair: PreferencePair) -> bool:
        """Whether this pair is asked without the line break. Never if its prompt ends without one anyway."""
        drawn = int(fingerprint(["asked bare", pair.id, self.seed])[:13], 16) / 16**13
        return drawn < self.bare_share and pair.prompt.endswith(LINE_BREAK)

    def texts(self, pair: PreferencePair) -> tuple[str, str, str]:
        """Prompt, chosen and rejected as they are encoded.

        The line break moves from the end of a bare prompt to the beginning of both answers: asked "What is a kite?",
        the model first ends the line and then answers as ever. An answer in the same line would be another text than
        the one that it gives when asked plainly.
        """
        if not self.is_bare(pair):
            return pair.prompt, pair.chosen, pair.rejected
        return pair.prompt.removesuffix(LINE_BREAK), LINE_BREAK + pair.chosen, LINE_BREAK + pair.rejected


PLAINLY = Asking()


@dataclass(frozen=True)
class TokenisedPair:
    """Token ids of one pair. `prompt_ids` begins with BOS where the tokenizer wants one."""

    id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def tokenise(
    pairs: Iterable[PreferencePair], tokenizer: Any, *, max_length: int, asking: Asking = PLAINLY
) -> list[TokenisedPair]:
    """Encode pairs as they are asked.

    An answer that would pass `max_length` tokens with its prompt is cut, and then has no EOS.
    """
    tokenised: list[TokenisedPair] = []
    for pair in pairs:
        prompt, chosen, rejected = asking.texts(pair)
        prompt_ids: list[int] = tokenizer(prompt)["input_ids"]
        room = max(1, max_length - len(prompt_ids))
        chosen_ids = _answer(tokenizer, chosen, True)[:room]
        rejected_ids = _answer(tokenizer, rejected, pair.rejected_finished)[:room]
        tokenised.append(TokenisedPair(pair.id, prompt_ids, chosen_ids, rejected_ids))
    return tokenised


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
