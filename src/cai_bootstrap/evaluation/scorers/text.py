"""Words, sentences, echoes and repetition: what the scorers see in a text. Pure functions, no item knowledge."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import sentencex

MAX_SAME_TRIGRAM = 2
MIN_DISTINCT_1 = 0.5
MIN_BEGINNING = 5
MIN_REPEATED_RUN = 5
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+|(?<=\d)[.,]\d+)*")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}
_ENUMERATION = re.compile(r"(?m)^\s*(?:\d{1,2}[.)]|[-*•])(?:\s+|$)")

Words = tuple[str, ...]


def composed(text: str) -> str:
    """The text with composed letters (NFC) and straight apostrophes."""
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).replace("’", "'")


@lru_cache(maxsize=65536)
def words_of(text: str) -> Words:
    """The words of a text as written: letters and digits, with inner apostrophes and hyphens ("don't", "3.5")."""
    return tuple(_WORD.findall(composed(text)))


@lru_cache(maxsize=65536)
def folded_words(text: str) -> Words:
    """The words of a text, case-folded and without accents, so that "Reykjavík" and "Reykjavik" are one word."""
    return tuple(_fold(word) for word in words_of(text))


@lru_cache(maxsize=65536)
def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


@lru_cache(maxsize=16384)
def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text that hold a word. A line break ends a sentence; a list marker is no sentence.

    Within a line, sentencex (rule-based, abbreviations known) decides.
    """
    lines = (line.strip() for line in _ENUMERATION.sub("", text).splitlines())
    found = (part.strip() for line in lines if line for part in sentencex.segment("en", line))
    return tuple(part for part in found if words_of(part))


def lines_of(text: str) -> list[str]:
    """The non-empty lines of a text, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def unquote(text: str) -> str:
    """The text without surrounding whitespace and without one pair of quotation marks around the whole of it."""
    text = text.strip()
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1] and text[-1] not in text[1:-1]:
        return text[1:-1].strip()
    return text


def find_phrase(words: Sequence[str], phrase: Sequence[str], start: int = 0) -> int:
    """Where `phrase` first stands in `words` from `start` on, as whole consecutive words; -1 if nowhere."""
    size = len(phrase)
    if size == 0:
        return -1
    first, wanted = phrase[0], tuple(phrase)
    for at in range(start, len(words) - size + 1):
        if words[at] == first and tuple(words[at : at + size]) == wanted:
            return at
    return -1


def is_degenerate(words: Words) -> bool:
    """Whether some 3-gram stands more than twice, or fewer than half of the words are different ones.

    The latter also of a beginning of five words or more: what follows a stammer does not mend it.
    """
    if len(words) < 3:
        return False
    if len(set(words)) < MIN_DISTINCT_1 * len(words):
        return True
    if len(words) < MIN_BEGINNING:
        return False
    seen: set[str] = set()
    for size, word in enumerate(words, 1):
        seen.add(word)
        if size >= MIN_BEGINNING and len(seen) < MIN_DISTINCT_1 * size:
            return True
    return max(Counter(zip(words, words[1:], words[2:], strict=False)).values()) > MAX_SAME_TRIGRAM


def is_repeated(text: str) -> bool:
    """Whether a text of two words or more is one unit written twice or more, or holds the same sentence twice.

    Five words or more need not be the whole of it: a run that stands twice in a row, or a sentence with which another
    begins ("I like my old dog. I like my old dog so"), is repeated too.
    """
    words = folded_words(text)
    if len(words) < 2:
        return False
    letters = "".join(words)
    if letters in (letters + letters)[1:-1]:
        return True
    if len(words) < 4:
        return False
    if _stands_twice_in_a_row(words):
        return True
    sentences = [folded_words(sentence) for sentence in sentences_of(text)]
    if len(sentences) < 2:
        return False
    return len(set(sentences)) < len(sentences) or any(
        len(one) >= MIN_REPEATED_RUN and one == other[: len(one)] for one, other in permutations(sentences, 2)
    )


def _stands_twice_in_a_row(words: Words) -> bool:
    """Whether some run of at least `MIN_REPEATED_RUN` words is followed by itself."""
    for size in range(MIN_REPEATED_RUN, len(words) // 2 + 1):
        same = 0
        for left, right in zip(words, words[size:], strict=False):
            same = same + 1 if left == right else 0
            if same == size:
                return True
    return False


def longest_shared_run(left: Words, right: Words) -> int:
    """The length in words of the longest consecutive run that both texts hold."""
    if not left or not right:
        return 0
    positions: dict[str, list[int]] = {}
    for at, word in enumerate(right):
        positions.setdefault(word, []).append(at)
    best = 0
    previous: dict[int, int] = {}
    for word in left:
        current = {at: previous.get(at - 1, 0) + 1 for at in positions.get(word, ())}
        if current:
            best = max(best, *current.values())
        previous = current
    return best


def is_echo(instruction: str, text: str, *, free_text: bool) -> bool:
    """Whether an output gives the instruction back.

    Always: the whole instruction stands in the output, or is it. For `free_text` (a text the model must make up), also
    an output that is a part of the instruction, or shares with it a run of at least 4 words and 60% of the instruction.
    """
    asked, given = folded_words(instruction), folded_words(text)
    if not asked or not given:
        return False
    if given == asked or (len(asked) >= 3 and find_phrase(given, asked) >= 0):
        return True
    if not free_text:
        return False
    if find_phrase(asked, given) >= 0:
        return True
    return longest_shared_run(given, asked) >= max(4, 0.6 * len(asked))
