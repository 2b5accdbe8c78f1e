"""How texts are compared: one normal form, and one similarity of words."""

import re

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def word_list(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def without_possessives(words: list[str]) -> list[str]:
    """The words with "'s" cut off: a text that says "Peru's" names Peru."""
    return [word[:-2] if word.endswith(("'s", "’s")) else word for word in words]


def normalised(text: str) -> str:
    """A text in lower case, one space between its parts: texts that differ only in case or spacing become equal."""
    return " ".join(text.casefold().split())


def words_similarity(a: list[str], b: list[str], least: float = 0.0) -> float:
    """Share of words in common and in order, 0 to 1 (ROUGE-L's F-measure); 0 where it is below `least`."""
    from rapidfuzz.distance import Indel

    return float(Indel.normalized_similarity(a, b, score_cutoff=least))
