"""Words, facts and frames of the suite, each given to the split that `split_of` says it belongs to."""

import csv
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cai_bootstrap.judging.split import split_of
from cai_bootstrap.records import TaskType

HERE = Path(__file__).parent
Difficulty = Literal["easy", "medium", "hard"]
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "purple", "gray")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Template:
    """One wording. `tag` says what the answer is or which checks hold; its meaning belongs to the skill."""

    id: str
    type: TaskType
    skill: str
    split: str
    tag: str
    text: str
    index: int


@dataclass
class Draft:
    """An item before it is numbered, with the output that an oracle would give and the names that its split owns."""

    instruction: str
    scorer: str
    reference: str
    args: dict[str, Any] = field(default_factory=dict)
    gold: list[str] = field(default_factory=list)
    fact_key: str | None = None
    source: str = "template"
    difficulty: Difficulty = "easy"
    entities: list[str] = field(default_factory=list)


@cache
def sections(name: str) -> dict[str, list[str]]:
    """A text file's lines by their `== title`; comments and empty lines are left out."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            title = line[3:].strip()
            found[title] = []
        elif line.strip() and not line.startswith("# "):
            found[title].append(line)
    return found


def word_list(title: str) -> tuple[str, ...]:
    """All words of a section of words.txt, whatever their split: small closed classes."""
    return tuple(word for line in sections("words.txt")[title] for word in line.split())


MONTHS = word_list("months")
NUMBER_WORDS = word_list("numbers")


@cache
def table(name: str) -> tuple[dict[str, str], ...]:
    """A table of facts, as rows."""
    with (HERE / f"{name}.tsv").open(encoding="utf-8", newline="") as source:
        return tuple(csv.DictReader(source, delimiter="\t"))


def lookup(name: str, key: str, value: str) -> dict[str, str]:
    """The one row of a table whose `key` column is `value`."""
    (row,) = [row for row in table(name) if row[key].casefold() == value.casefold()]
    return row


@cache
def words(kind: str, split: str) -> tuple[str, ...]:
    """A kind's words in a split's share."""
    return tuple(word for line in sections("words.txt")[kind] for word in line.split() if split_of(word) == split)


@cache
def aliases() -> dict[str, list[str]]:
    """Accepted other names by canonical name."""
    rows = (HERE / "aliases.txt").read_text(encoding="utf-8").splitlines()
    pairs = (row.split(": ", 1) for row in rows if not row.startswith("#"))
    return {name: others.split(", ") for name, others in pairs}


def names_of(name: str) -> list[str]:
    """A name and its accepted others."""
    return [name, *aliases().get(name, [])]


@cache
def picks(kind: str, split: str) -> dict[str, tuple[str, ...]]:
    """The facts that are asked for, by difficulty. Raises ValueError if one belongs to another split."""
    found = {}
    for line in sections("picks.txt")[f"{kind} {split}"]:
        level, _, listed = line.partition(": ")
        found[level] = tuple(listed.split(", "))
        for name in found[level]:
            if split_of(name) != split:
                raise ValueError(f"picks.txt: {kind} {split}: {name} belongs to {split_of(name)}")
    return found


@cache
def deck(kind: str, split: str, level: str) -> Iterator[str]:
    """The facts of one kind and difficulty, in a fixed shuffled order, over and over."""
    order = list(picks(kind, split)[level])
    random.Random(f"{kind}.{split}.{level}").shuffle(order)
    return itertools.cycle(order)


@cache
def frame_deck(title: str) -> Iterator[str]:
    """The lines of a section of frames.txt, in a fixed shuffled order, over and over."""
    order = list(sections("frames.txt")[title])
    random.Random(title).shuffle(order)
    return itertools.cycle(order)


@cache
def yes_no_deck(split: str) -> Iterator[bool]:
    """As many yes as no."""
    order = [True, False, False, True]
    return itertools.cycle(order if split == "test" else order[::-1])


def start_over() -> None:
    """Put every deck back to its first card, so that each build deals the same."""
    for dealt in (deck, frame_deck, yes_no_deck):
        dealt.cache_clear()


def article(word: str) -> str:
    """A word with its indefinite article."""
    return ("an " if word[0].casefold() in "aeiou" and not word.startswith(("uk", "eu", "uni", "use")) else "a ") + word


def capital_first(text: str) -> str:
    return text[:1].upper() + text[1:]


class Slots(dict[str, str]):
    """Slot values; `a_x` and `an_x` give x with its article, a capital first letter gives it capitalised."""

    def __missing__(self, name: str) -> str:
        if name[0].isupper() and not name.isupper():
            return capital_first(self[name[0].lower() + name[1:]])
        if match := re.fullmatch(r"an?_(.+)", name):
            return article(self[match[1]])
        raise KeyError(name)


def fill(text: str, slots: Slots) -> str:
    """A template's text with its slots filled and `\\n` made a line break."""
    return text.replace("\\n", "\n").format_map(slots)


def slot_names(text: str) -> list[str]:
    """The slots of a text, without article prefixes, in order, each once."""
    names = [re.sub(r"^[aA]n?_", "", name) for name in re.findall(r"{(\w+)}", text)]
    return list(dict.fromkeys(names))


def draw(rng: random.Random, pool: Sequence[str], count: int, *, avoid: Sequence[str] = ()) -> list[str]:
    """`count` different words of a pool."""
    return rng.sample([word for word in pool if word not in avoid], count)


def number_forms(number: int) -> list[str]:
    """A number as digits and, up to twenty, as a word."""
    return [str(number), *([NUMBER_WORDS[number]] if 0 <= number < len(NUMBER_WORDS) else [])]
