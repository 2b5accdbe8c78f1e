"""How varied a set of instructions is, and a filter against near-duplicates for instructions that a model wrote.

Two texts are near-duplicates when their words are at least 85% alike (Indel similarity of word lists, the F-measure of
ROUGE-L). Up to 20,000 texts every pair is compared; above, MinHash proposes the pairs and the same rule verifies them.
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cai_bootstrap.instructions.pool import templates
from cai_bootstrap.instructions.text import normalised, word_list
from cai_bootstrap.records import Instruction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR = 0.85
EXHAUSTIVE = 20_000
_CHUNK = 1000
_CELLS = 20_000_000  # of one chunk's table of similarities: 80 MB
_PERMUTATIONS = 64
_BANDS = 16
_FIRST_CODE = 0x10000  # above the surrogates, which are no text outside Python


def near_duplicates(texts: Sequence[str], *, least: float = NEAR, exhaustive: int = EXHAUSTIVE) -> list[bool]:
    """For each text, whether an earlier one is a near-duplicate of it (or equal to it)."""
    words = [word_list(text) for text in texts]
    return _all_pairs(words, least) if len(texts) <= exhaustive else _by_minhash(words, least)


def _all_pairs(words: Sequence[list[str]], least: float) -> list[bool]:
    import numpy as np

    found = np.zeros(len(words), dtype=bool)
    for first, second in similar_pairs(words, least):
        found[np.maximum(first, second)] = True
    return [bool(flag) for flag in found]


def similar_pairs(words: Sequence[list[str]], least: float) -> "Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]":
    """All pairs of texts (as words) that are alike by `least` or more, in batches: the first ones' and second ones'
    numbers. Each pair may come in both orders; no text is paired with itself.
    """
    import numpy as np
    from rapidfuzz.distance import Indel
    from rapidfuzz.process import cdist

    codes: dict[str, str] = {}
    coded = ["".join([codes.setdefault(word, chr(_FIRST_CODE + len(codes))) for word in row]) for row in words]
    # Texts can only be alike when about as long, so each chunk of similar lengths meets its neighbours alone.
    order = sorted(range(len(coded)), key=lambda i: len(coded[i]))
    lengths = np.array([len(coded[i]) for i in order])
    places = np.array(order)
    reach = (2 - least) / least
    size = min(_CHUNK, max(1, _CELLS // max(1, len(order))))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        end = int(np.searchsorted(lengths, lengths[start + len(rows) - 1] * reach, side="right"))
        scores = cdist(
            [coded[i] for i in rows],
            [coded[i] for i in order[start:end]],
            scorer=Indel.normalized_similarity,
            score_cutoff=least,
            dtype=np.float32,
            workers=-1,
        )
        a, b = np.nonzero(scores >= least)
        first, second = places[start + a], places[start + b]
        yield first[first != second], second[first != second]


def _by_minhash(words: Sequence[list[str]], least: float) -> list[bool]:
    known = KnownTexts(least=least, exhaustive=0)
    found = []
    for row in words:
        found.append(known.near(row))
        known.add(row)
    return found


class KnownTexts:
    """Texts seen so far, growing, against which a new one is held: one by one up to `exhaustive`, by MinHash above.

    Texts are given as lists of words (`text.word_list`).
    """

    def __init__(self, texts: Iterable[list[str]] = (), *, least: float = NEAR, exhaustive: int = EXHAUSTIVE) -> None:
        self._least = least
        self._exhaustive = exhaustive
        self._codes: dict[str, str] = {}
        self._coded: list[str] = []
        self._index: Any = None
        for words in texts:
            self.add(words)

    def __len__(self) -> int:
        return len(self._coded)

    def add(self, words: list[str]) -> None:
        """Remember a text."""
        self._coded.append(self._code(words))
        if self._index is not None:
            self._index.insert(len(self._coded) - 1, _sketch(self._coded[-1]))
        elif len(self._coded) > self._exhaustive:
            from rensa import RMinHashLSH

            self._index = RMinHashLSH(threshold=0.6, num_perm=_PERMUTATIONS, num_bands=_BANDS)
            for number, coded in enumerate(self._coded):
                self._index.insert(number, _sketch(coded))

    def near(self, words: list[str]) -> bool:
        """Whether a text seen so far is a near-duplicate of this one (or equal to it)."""
        from rapidfuzz.distance import Indel
        from rapidfuzz.process import extractOne

        coded = self._code(words)
        rivals = self._coded if self._index is None else [self._coded[n] for n in self._index.query(_sketch(coded))]
        found = extractOne(coded, rivals, scorer=Indel.normalized_similarity, score_cutoff=self._least)
        return found is not None

    def _code(self, words: list[str]) -> str:
        """One character a word, so that comparing words is comparing characters."""
        return "".join([self._codes.setdefault(word, chr(_FIRST_CODE + len(self._codes))) for word in words])


def _sketch(coded: str) -> Any:
    from rensa import RMinHash

    made = RMinHash(num_perm=_PERMUTATIONS, seed=1)
    made.update(list(coded))
    return made


def measure(instructions: Sequence[Instruction]) -> dict[str, float | int]:
    """Figures of diversity: counts are of instructions, shares and ratios are between 0 and 1, entropy is in bits.

    `effective_unique` is the number of instructions that have no earlier near-duplicate. `compression_ratio` is the
    compressed size over the plain one: lower means more repetitive. A `topic` is a word that the template did not
    bring along. Raises ZeroDivisionError for no instructions at all, which no sampler returns.
    """
    texts = [made.instruction for made in instructions]
    rows = [word_list(text) for text in texts]
    whole = "\n".join(texts).encode()
    repeated = sum(near_duplicates(texts))
    known = {template.id: set(word_list(template.text)) for group in templates().values() for template in group}
    pairs = {
        (made.template, word)
        for made, row in zip(instructions, rows, strict=True)
        if made.template in known
        for word in row
        if word not in known[made.template]
    }
    used = {made.template for made in instructions if made.template in known}
    return {
        "instructions": len(texts),
        "exact_unique": len({normalised(text) for text in texts}),
        "effective_unique": len(texts) - repeated,
        "near_duplicate_share": repeated / len(texts),
        **{f"distinct_{n}": _distinct(rows, n) for n in (1, 2, 3)},
        "compression_ratio": len(zlib.compress(whole, 6)) / len(whole),
        "opener_entropy": _entropy(Counter(tuple(row[:2]) for row in rows)),
        "templates_used": len(used),
        "template_share": len(used) / len(known),
        "topics": len({word for _, word in pairs}),
        "template_topic_pairs": len(pairs),
    }


def _distinct(rows: Iterable[list[str]], n: int) -> float:
    """Different n-grams over all n-grams (Li et al. 2016, distinct-n)."""
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _entropy(counts: Counter[tuple[str, ...]]) -> float:
    total = counts.total()
    return -sum(n / total * math.log2(n / total) for n in counts.values())
