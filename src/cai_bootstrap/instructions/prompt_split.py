"""How prompts are parted into train, dev and test: prompts that are alike stay together, and the seed decides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from cai_bootstrap.instructions.diversity import similar_pairs
from cai_bootstrap.instructions.text import word_list

Part = Literal["train", "dev", "test"]
# Two prompts are alike from this similarity of their words on. Where all prompts have one wording ("What is a …?"),
# the first would put them all into one cluster; then the next is taken, and last each prompt stands alone.
ALIKE = (0.70, 0.75, 0.80)
MOST_TEST, MOST_DEV = 500, 300
MATCHED_TEST, MATCHED_LEAST = 60, 84
_NEARLY = 0.9  # of the wanted size: whole clusters do not always add up to it


@dataclass(frozen=True)
class Split:
    """For each text its part and its cluster (from 0, in order of appearance); `alike` is the similarity used, or 1."""

    parts: Sequence[Part]
    clusters: Sequence[int]
    alike: float


def held_out_sizes(count: int) -> tuple[int, int]:
    """How many of `count` prompts are test and dev: a third and a sixth, at most 500 and 300."""
    return min(MOST_TEST, round(count / 3)), min(MOST_DEV, round(count / 6))


def split_texts(texts: Sequence[str], *, seed: int) -> Split:
    """Part prompts into train, dev and test, no two alike ones into different parts."""
    test, dev = held_out_sizes(len(texts))
    return _looser_to_tighter([word_list(text) for text in texts], test, dev, f"split:{seed}")


def split_matched(pairs: Sequence[tuple[str, str]], *, seed: str) -> Split:
    """Part matched pairs into train and test; a pair is one unit. Of fewer than 84 pairs, all train.

    Where pairs that are alike stay on one side, the test part may be smaller than max(60, a third) by up to a tenth,
    but never smaller than 60.
    """
    count = len(pairs)
    test = max(MATCHED_TEST, round(count / 3)) if count >= MATCHED_LEAST else 0
    return _looser_to_tighter(
        [word_list(" ".join(pair)) for pair in pairs], test, 0, f"matched:{seed}", fewest=min(test, MATCHED_TEST)
    )


def _looser_to_tighter(words: Sequence[list[str]], test: int, dev: int, seed: str, fewest: int = 0) -> Split:
    for alike in ALIKE:
        clusters = clusters_of(words, alike)
        parts = _deal(clusters, test, dev, seed)
        sizes = Counter(parts)
        if sizes["test"] >= max(_NEARLY * test, fewest) and sizes["dev"] >= _NEARLY * dev:
            return Split(parts, clusters, alike)
    alone = list(range(len(words)))
    return Split(_deal(alone, test, dev, seed), alone, 1.0)


def clusters_of(words: Sequence[list[str]], least: float) -> list[int]:
    """For each text (as words) the number of its cluster: texts alike by `least` or more are linked, and so on."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(words)
    labels = np.arange(count)
    for first, second in similar_pairs(words, least):
        a, b = labels[first], labels[second]
        apart = a != b
        if apart.any():
            links = coo_matrix((np.ones(int(apart.sum()), dtype=bool), (a[apart], b[apart])), shape=(count, count))
            labels = connected_components(links, directed=False)[1][labels]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers)) for label in labels]


def _deal(clusters: Sequence[int], test: int, dev: int, seed: str) -> list[Part]:
    """Whole clusters in a seeded order: to test as long as they fit, then to dev, the others to train."""
    sizes = Counter(clusters)
    order = list(sizes)
    Random(seed).shuffle(order)
    room: dict[Part, int] = {"test": test, "dev": dev}
    part_of: dict[int, Part] = {}
    for cluster in order:
        part = next((part for part, left in room.items() if sizes[cluster] <= left), None)
        if part is not None:
            room[part] -= sizes[cluster]
        part_of[cluster] = part or "train"
    return [part_of[cluster] for cluster in clusters]
