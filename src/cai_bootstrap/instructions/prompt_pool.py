"""The shipped prompts of the constitution stage, `open-questions`: wordings × topics, both written by hand.

Train, dev, test and unseen share no wording and no topic. Three of four training prompts are open questions, the
others requests, so that a principle that applies to questions alone has something to leave unchanged. `unseen` holds
kinds that never train (yes/no questions, statements, long ones), and requests of shapes that never train.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import cast

from cai_bootstrap.instructions.pool import capitalised, plural, with_article, yaml_data
from cai_bootstrap.records import Prompt, PromptKind

NAME = "open-questions"
SPLITS = ("train", "dev", "test", "unseen")
# In how many prompts a wording stands: the more wordings a split has, the fewer are enough.
TOPICS_PER_WORDING: dict[str, dict[str, int]] = {
    "train": {"question": 20, "request": 18},
    "dev": {"question": 7, "request": 5},
    "test": {"question": 4, "request": 4},
    "unseen": {"yes_no": 4, "statement": 4, "request": 4, "long": 5},
}
_SLOT = re.compile(r"\{\w+\}")
Slots = dict[str, str]


@lru_cache(maxsize=1)
def shipped_prompts() -> tuple[Prompt, ...]:
    """All shipped prompts, split by split, always the same ones; within a split in a mixed order.

    So the first n training prompts are a fair sample of them: `{"id": "train.q17", "text": "What is a kite?",
    "kind": "question", "split": "train", "wording": "What is …?", "topic": "kite"}`.
    """
    return tuple(prompt for split in SPLITS for prompt in _of_split(split))


def _of_split(split: str) -> list[Prompt]:
    rows: list[tuple[str, str, str, str]] = []
    for kind, by_class in yaml_data("prompts/wordings.yaml")[split].items():
        for topics, wordings in by_class.items():
            slots = topics_of(topics, split)
            count = min(TOPICS_PER_WORDING[split][kind], len(slots))
            rows += [(kind, *row) for row in _filled(wordings, slots, count, Random(f"{split}:{kind}:{topics}"))]
    Random(f"{NAME}:{split}").shuffle(rows)
    unique = {text: (kind, wording, topic) for kind, wording, topic, text in rows}
    return [
        Prompt.model_validate(
            {
                "id": f"{split}.{number:04d}",
                "text": text,
                "kind": cast(PromptKind, kind),
                "split": split,
                "wording": wording,
                "topic": topic,
            }
        )
        for number, (text, (kind, wording, topic)) in enumerate(unique.items(), 1)
    ]


def _filled(
    wordings: Sequence[str], slots: Sequence[Slots], count: int, random: Random
) -> Iterator[tuple[str, str, str]]:
    """Wording, topic and text: each wording with `count` different topics, all topics equally often."""
    turn = itertools.cycle(random.sample(slots, len(slots)))
    for wording in wordings:
        for topic in itertools.islice(turn, count):
            text = capitalised(_SLOT.sub(lambda slot, topic=topic: topic[slot[0][1:-1]], wording))  # type: ignore[misc]
            yield _SLOT.sub("…", wording), topic["topic"], text


def topics_of(topics: str, split: str) -> list[Slots]:
    """The topics of a class (`thing`, `doing`, …) in a split, each as the words that fill its wordings' slots."""
    entries = yaml_data("prompts/topics.yaml")[topics].get(split, ())
    return [_slots(topics, [part.strip() for part in str(entry).split("|")]) for entry in entries]


def _slots(topics: str, parts: list[str]) -> Slots:
    first = parts[0]
    if topics in ("stuff", "idea"):
        return {"topic": first, "x": first}
    if topics == "doing":
        return {"topic": first, "do": first, "doing": parts[1]}
    if topics == "happening":
        return {"topic": f"{first} {parts[1]}", "who": first, "does": parts[1], "do": parts[2]}
    noun = {"topic": first, "noun": first, "a": with_article(first)}
    if topics == "place":
        return {**noun, "s": plural(first), "in": f"{parts[1]} {with_article(first)}"}
    return {**noun, "s": parts[1] if len(parts) > 1 else plural(first)}
