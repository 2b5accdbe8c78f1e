"""Guards around a base model: no chat formatting may reach it, and a "base" that behaves like a tuned one is named.

A chat template turns an instruct model's training on and makes any comparison with the base a different experiment, so
it is made impossible: prompts are encoded as plain text and the token ids are checked.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cai_bootstrap.errors import EngineError
from cai_bootstrap.inference.engine import Engine, Sampling, plain_prompt

# Markers by which the common chat formats open a turn (ChatML, Llama 2 and 3, Gemma, Zephyr, Phi, DeepSeek).
CHAT_MARKERS = (
    "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<｜User｜>", "<｜Assistant｜>",
)  # fmt: skip
# Instructions that a base model continues and a tuned model answers and then stops.
SENTINELS = (
    "What is the capital of Italy?",
    "Write one sentence about the sea.",
    "Say hello.",
    "Translate 'good morning' into French.",
    "Name three colours.",
    "Is water wet? Answer yes or no.",
    "What is 2 + 2?",
    "Thank you for your help.",
)
TUNED_RATE = 0.5


def chat_token_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of the tokenizer's own chat markers; BOS, EOS and padding are no markers."""
    harmless = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[m] for m in CHAT_MARKERS if m in vocabulary and vocabulary[m] not in harmless)


def refuse_chat(prompts: Sequence[str], encoded: Iterable[Sequence[int]], forbidden: frozenset[int]) -> None:
    """Raise EngineError if a prompt holds a chat marker as text or as a token id."""
    for prompt, ids in zip(prompts, encoded, strict=True):
        marker = next((m for m in CHAT_MARKERS if m in prompt), None)
        if marker is not None or not forbidden.isdisjoint(ids):
            shown = re.sub(r"\s+", " ", prompt)[:80]
            raise EngineError(
                f"a chat marker ({marker or 'as a token id'}) stands in a prompt for a base model: '{shown}...'; "
                "remove it from the instruction, the constitution or the exemplars"
            )


@dataclass(frozen=True)
class BaseModelReport:
    """What the sentinels showed: the share of instructions that were answered in one short turn and ended by EOS.

    Behaviour alone decides. Many bases (all of Qwen's and Llama's) ship a chat template, which is never used here.
    """

    tuned_rate: float
    has_chat_template: bool
    asked: int

    @property
    def looks_tuned(self) -> bool:
        return self.tuned_rate >= TUNED_RATE

    def note(self, model: str) -> str | None:
        """What to tell of a base that ships a chat template and does not behave like a tuned model, or None."""
        if self.looks_tuned or not self.has_chat_template:
            return None
        answered = round(self.tuned_rate * self.asked)
        return (
            f"'{model}' ships a chat template, which is not used; {answered} of {self.asked} plain instructions were "
            "answered and ended as a tuned model would, so it counts as a base model"
        )

    def warning(self, model: str) -> str | None:
        """What to tell the user, or None."""
        if not self.looks_tuned:
            return None
        signs = [
            f"{self.tuned_rate:.0%} of {self.asked} plain instructions were answered and ended as a tuned model would"
        ]
        if self.has_chat_template:
            signs.append("its tokenizer ships a chat template")
        return (
            f"WARNING: '{model}' was given as a base model but looks chat-tuned ({'; '.join(signs)}). A lift measured "
            "from here does not show that a base model taught itself. Use the base weights, or --allow-instruct."
        )


def inspect_base(engine: Engine, *, has_chat_template: bool) -> BaseModelReport:
    """Ask the sentinels plainly, greedily, and count how many are ended by EOS within 32 tokens."""
    answers = engine.stream([plain_prompt(s) for s in SENTINELS], Sampling(max_new_tokens=32))
    ended = sum(answer.finished and bool(answer.text.strip()) for answer in answers)
    return BaseModelReport(ended / len(SENTINELS), has_chat_template, len(SENTINELS))
