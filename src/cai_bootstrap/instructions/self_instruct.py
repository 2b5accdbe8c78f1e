"""Instructions that the model writes itself: Self-Instruct (Wang et al. 2022, arXiv 2212.10560) for a base model.

A base model continues a list: the prompt shows numbered tasks of one type and stops where the next one would begin. The
functions here are pure; running the engine is the generation room's work.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random

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
_NUMBER = re.compile(r"^\s*\d{1,3}\s*[.):]\s*")
_MARKERS = re.compile(
    r"<[^>]*>|\[/?(?:INST|SYS)\]|###|```|https?://|\b(?:answer|response|solution|output|assistant|user)\s*:|"
    r"^\s*(?:instruction|question|task|human|system|q|a)\s*:",
    re.IGNORECASE,
)  # fmt: skip
_PICTURED = re.compile(
    r"\b(?:image|picture|photo|figure|table|graph|diagram|passage|paragraph|article)\s+(?:above|below)\b", re.I
)


_REQUESTS = frozenset(
    ("complete", "finish", "continue", "fill", "go", "add", "write", "give", "please", "could", "can", "would", "end")
)
_HOW_TO_ANSWER = frozenset(("yes", "no", "word", "words", "name", "number", "only", "please", "or", "answer", "one"))
OPENER_WORDS = 3
MIN_SAME_OPENER = 3
MAX_OPENER_SHARE = 0.04


def choose_seeds(
    random: Random, templated: Mapping[str, Sequence[str]], written: Sequence[str], count: int = 8
) -> list[str]:
    """Seed instructions for one prompt in a random order: one a skill, and one in four written by the model before.

    `templated` holds the texts of one type by skill. Six by people and two by the model is Self-Instruct's mix.
    """
    own = random.sample(written, min(len(written), count // 4))
    skills = random.sample(sorted(templated), min(len(templated), count - len(own)))
    chosen = [*own, *(random.choice(templated[skill]) for skill in skills)]
    random.shuffle(chosen)
    return chosen


def prompt(seed_instructions: Sequence[str], type: TaskType) -> str:
    """A numbered list of seed instructions, ending where the model is to write the next one."""
    lines = [f"{number}. {_one_line(text)}" for number, text in enumerate(seed_instructions, 1)]
    return "\n".join([_HEADS[type], "", *lines, f"{len(lines) + 1}."])


def parse(text: str, type: TaskType, *, cut: bool = False) -> list[str]:
    """The instructions in a model's continuation of the list, in their order, without their numbers.

    Only its first line and numbered ones are instructions; what stands between is an answer or a comment. Each has 3 to
    40 words, no chat marker, no answer, and the form of its type (see `_has_form`). `cut` says that the token limit
    ended the text: then its last line counts only if it ends with a mark.
    """
    lines = text.split("\n")
    if cut and not re.search(r"[.?!:\"”]\s*$", lines[-1]):
        lines = lines[:-1]
    found = []
    for place, line in enumerate(lines):
        if place and not _NUMBER.match(line):
            continue
        plain = " ".join(_NUMBER.sub("", line).split())
        if (
            MIN_WORDS <= len(word_list(plain)) <= MAX_WORDS
            and not _MARKERS.search(plain)
            and not _PICTURED.search(plain)
            and _has_form(plain, type)
        ):
            found.append(plain)
    return found


def _has_form(text: str, type: TaskType) -> bool:
    """Whether a text can be an instruction of a type.

    A question has no answer behind its question mark; a completion is unfinished, or asks for its end; a transformation
    brings its text along, after a colon or in quotation marks.
    """
    if type == "question":
        asked, mark, rest = text.rpartition("?")
        behind = word_list(rest)
        return not mark or not asked or not behind or not _HOW_TO_ANSWER.isdisjoint(behind)
    if type == "completion":
        return text[-1] not in ".!?" or word_list(text)[0] in _REQUESTS or text.endswith("...")
    if type == "transformation":
        return bool(re.search(r":\s*\S|[\"“].+[\"”]|\?\s+\S", text))
    return True


def opener(text: str) -> tuple[str, ...]:
    """The words by which many alike instructions are recognised: a base model loves to write "Write a short story"."""
    return tuple(word_list(text)[:OPENER_WORDS])


class Known:
    """The instructions that there are already; `filter_new` adds those that it keeps.

    Of `wanted` new ones at most 4% (but three) may begin with the same three words.
    """

    def __init__(self, texts: Iterable[str] = (), *, wanted: int = 0) -> None:
        self._exact: set[str] = set()
        self._near = KnownTexts()
        self._openers: Counter[tuple[str, ...]] = Counter()
        self._same_opener = max(MIN_SAME_OPENER, int(MAX_OPENER_SHARE * wanted))
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
        if self._openers[opener(text)] >= self._same_opener:
            return "same_opener"
        return "near_duplicate" if self._near.near(words) else None

    def keep(self, text: str) -> None:
        """Remember a new instruction, and how it begins."""
        self.add(text)
        self._openers[opener(text)] += 1


def filter_new(candidates: Sequence[str], known: Sequence[str] | Known) -> tuple[list[str], dict[str, int]]:
    """Candidates that are new against `known` and each other, and how many were dropped by reason.

    Give a `Known` to filter many batches: it remembers what was kept, and is indexed once. Reasons: `duplicate` (equal
    but for case and spacing), `repetitive` (fewer than half of its words are different), `not_text` (few letters),
    `same_opener` (too many new ones begin so), `near_duplicate` (words at least 85% like an earlier text's).
    """
    seen = known if isinstance(known, Known) else Known(known)
    dropped: Counter[str] = Counter()
    kept: list[str] = []
    for text in candidates:
        if reason := seen.fault(text):
            dropped[reason] += 1
        else:
            seen.keep(text)
            kept.append(text)
    return kept, dict(sorted(dropped.items()))


def _one_line(text: str) -> str:
    return " ".join(text.split())
