"""Instructions that the model writes itself: Self-Instruct (Wang et al. 2022, arXiv 2212.10560) for a base model.

A base model continues a list: the prompt shows numbered tasks of one type and stops where the next one would begin. The
functions here are pure; running the engine is the generation room's work.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from cai_bootstrap.instructions.diversity import KnownTexts
from cai_bootstrap.instructions.text import normalised, word_list
from cai_bootstrap.records import TaskType

MIN_WORDS = 3
MAX_WORDS = 40
_HEADS: dict[TaskType, str] = {
    "question": "A list of short questions, each with one short answer. Every question is about something different.",
    "completion": "A list of unfinished sentences for the reader to complete. Every one is about something different.",
    "generation": "A list of short writing tasks, each with one condition. Each one is about something different.",
    "transformation": "A list of small tasks that change a given text. Every task has another text and another change.",
}
_NUMBER = re.compile(r"^\s*(?:\d{1,3}\s*[.):]|[-*•])\s*")
_MARKERS = re.compile(
    r"<[^>]*>|\[/?(?:INST|SYS)\]|###|```|https?://|^\s*(?:answer|response|output|instruction|question|task|user|assistant|"
    r"human|system|q|a)\s*:",
    re.IGNORECASE,
)  # fmt: skip
_PICTURED = re.compile(
    r"\b(?:image|picture|photo|figure|table|graph|diagram|passage|paragraph|article)\s+(?:above|below)\b", re.I
)


def prompt(seed_instructions: Sequence[str], type: TaskType) -> str:
    """A numbered list of seed instructions, ending where the model is to write the next one."""
    lines = [f"{number}. {_one_line(text)}" for number, text in enumerate(seed_instructions, 1)]
    return "\n".join([_HEADS[type], "", *lines, f"{len(lines) + 1}."])


def parse(text: str) -> list[str]:
    """The instructions in a model's continuation: one a line, 3 to 40 words, without numbers, answers or chat markers.

    A last line that may have been cut off (no end punctuation, and other lines before it) is left out.
    """
    lines = text.split("\n")
    whole = lines[:-1] if len(lines) > 1 and not re.search(r"[.?!:]\s*$", lines[-1]) else lines
    found = []
    for line in whole:
        plain = " ".join(_NUMBER.sub("", line).split())
        if (
            MIN_WORDS <= len(word_list(plain)) <= MAX_WORDS
            and not _MARKERS.search(plain)
            and not _PICTURED.search(plain)
        ):
            found.append(plain)
    return found


class Known:
    """The instructions that there are already; `filter_new` adds those that it keeps."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._exact: set[str] = set()
        self._near = KnownTexts()
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._near)

    def add(self, text: str) -> None:
        """Remember an instruction."""
        self._exact.add(normalised(text))
        self._near.add(word_list(text))

    def fault(self, text: str) -> str | None:
        """Why the text is no new instruction (a reason of `filter_new`), or None."""
        words = word_list(text)
        if normalised(text) in self._exact:
            return "duplicate"
        if len(set(words)) * 2 < len(words):
            return "repetitive"
        if sum(c.isascii() and c.isalpha() for c in text) < 0.5 * len(text):
            return "not_text"
        return "near_duplicate" if self._near.near(words) else None


def filter_new(candidates: Sequence[str], known: Sequence[str] | Known) -> tuple[list[str], dict[str, int]]:
    """Candidates that are new against `known` and each other, and how many were dropped by reason.

    Give a `Known` to filter many batches: it remembers what was kept, and is indexed once. Reasons: `duplicate` (equal
    but for case and spacing), `repetitive` (fewer than half of its words are different), `not_text` (few letters),
    `near_duplicate` (words at least 85% like an earlier text's).
    """
    seen = known if isinstance(known, Known) else Known(known)
    dropped: Counter[str] = Counter()
    kept: list[str] = []
    for text in candidates:
        if reason := seen.fault(text):
            dropped[reason] += 1
        else:
            seen.add(text)
            kept.append(text)
    return kept, dict(sorted(dropped.items()))


def _one_line(text: str) -> str:
    return " ".join(text.split())
