"""A user's prompts made one clean line each, counted by what became of them, sampled where there are too many."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.text import normalised, word_list

LONGEST = 2_000  # characters
FAR_TOO_LONG = 65_536  # characters: such a line is no prompt, and its file no list of prompts
SAMPLE = 50_000
USER_ROLES = ("user", "human")
# Control characters but blanks and line ends, half surrogate pairs, and what is invisible and without meaning in a
# prompt: byte-order mark, zero-width space, word joiner, bidi controls. Joiners of emoji and of scripts stay.
HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\u200b\u2060\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True)
class Cleaned:
    """Clean texts with their places in the source (from 1), in its order, and how many were dropped by reason."""

    texts: Sequence[tuple[int, str]]
    counts: dict[str, int]


def clean_prompts(
    cells: Iterable[tuple[int, object]], *, seed: int, too_long_is_error: bool, source: str, sample: int = SAMPLE
) -> Cleaned:
    """The different prompts of a stream; of more than `sample`, so many, every one with the same chance.

    A cell is a text, or a list of messages, whose last user message counts; anything else counts as empty. Memory
    grows by a sample and by 16 bytes for each prompt read. Raises UsageError for a prompt of more than 65,536
    characters if `too_long_is_error`.
    """
    random = Random(f"prompts:{seed}")
    counts = Counter(dict.fromkeys(("read", "empty", "too_long", "duplicate", "not_sampled"), 0))
    seen: set[bytes] = set()
    kept: list[tuple[int, str]] = []
    for place, cell in cells:
        counts["read"] += 1
        text = clean(prompt_in(cell))
        if too_long_is_error and len(text) > FAR_TOO_LONG:
            raise UsageError(
                f"{source}: line or row {place} holds a prompt of {len(text):,} characters; a prompt has at most "
                f"{LONGEST:,}. Is there one prompt a line? Shorten it or take it out"
            )
        digest = hashlib.blake2b(normalised(text).encode(), digest_size=16).digest()
        reason = "empty" if not word_list(text) else "too_long" if len(text) > LONGEST else ""
        reason = reason or ("duplicate" if digest in seen else "")
        if reason:
            counts[reason] += 1
            continue
        seen.add(digest)
        if len(kept) < sample:
            kept.append((place, text))
        else:
            counts["not_sampled"] += 1
            slot = random.randrange(len(seen))
            if slot < sample:
                kept[slot] = (place, text)
    return Cleaned(sorted(kept), dict(counts))


def clean(text: str) -> str:
    """A text as one line: composed characters (NFC), no control characters, one space where there was any space."""
    return " ".join(HIDDEN.sub("", unicodedata.normalize("NFC", text)).split())


def prompt_in(cell: object) -> str:
    """The prompt that a cell holds: a text itself, of a list of messages the last one by the user, else nothing."""
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Sequence) or isinstance(cell, bytes):
        return ""
    for message in reversed(cell):
        if isinstance(message, Mapping):
            role = message.get("role", message.get("from"))
            if role in USER_ROLES:
                return _content(message.get("content", message.get("value")))
    return ""


def _content(content: object) -> str:
    """A message's text, which may come in parts: `[{"type": "text", "text": "What is a kite?"}]`."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return " ".join(part for part in parts if isinstance(part, str))
