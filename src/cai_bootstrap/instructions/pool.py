"""The training pool's data: templates, words, facts and hand-written texts, read from the package's data files."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from cai_bootstrap.judging.split import split_of
from cai_bootstrap.records import TASK_TYPES, TaskType

_SILENT = ("hour", "hon", "heir")
_CONSONANT = ("uni", "use", "usu", "uku", "ute", "eu", "ewe", "one")


@dataclass(frozen=True)
class Template:
    """One wording of a skill; `text` holds `{slots}`."""

    id: str
    type: TaskType
    skill: str
    register: str
    text: str

    def render(self, slots: dict[str, str]) -> str:
        """The text with its slots filled; a slot whose name begins with a capital gets a capital letter."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            return slots[name] if name in slots else capitalised(slots[name[0].lower() + name[1:]])

        return _SLOT.sub(value, self.text)


_SLOT = re.compile(r"\{(\w+)\}")


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the rest untouched."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """The noun with "a" or "an" before it."""
    vowel = (noun[0] in "aeiou" and not noun.startswith(_CONSONANT)) or noun.startswith(_SILENT)
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    """The regular plural of a noun that has one."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _read(name: str) -> str:
    return resources.files("cai_bootstrap.instructions").joinpath("data", name).read_text(encoding="utf-8")


def yaml_data(name: str) -> Any:
    """The content of a YAML file of the package's data folder."""
    return yaml.load(_read(name), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@lru_cache(maxsize=1)
def templates() -> dict[tuple[TaskType, str], tuple[Template, ...]]:
    """Every training template, by type and skill, in the order of the files."""
    by_skill: dict[tuple[TaskType, str], tuple[Template, ...]] = {}
    for kind in TASK_TYPES:
        for skill, registers in yaml_data(f"templates/{kind}.yaml").items():
            texts = [(register, text) for register, entries in registers.items() for text in entries]
            by_skill[kind, skill] = tuple(
                Template(f"train.{kind}.{skill}.{number:02d}", kind, skill, register, text)
                for number, (register, text) in enumerate(texts, 1)
            )
    return by_skill


@lru_cache(maxsize=1)
def counted_sizes() -> dict[str, dict[str, int]]:
    """How many different instructions each skill gives, by type; a test holds the numbers to the pool."""
    return dict(json.loads(_read("pool_sizes.json")))


@lru_cache(maxsize=1)
def words() -> dict[str, list[str]]:
    """Words by kind: `animal`, `artifact`, `food`, `object`, `plant`, `adjectives`, `verbs`, `names`, `cities`."""
    return dict(json.loads(_read("words.json")))


@lru_cache(maxsize=1)
def facts() -> dict[str, Any]:
    """Facts by kind, each held by two independent sources (NOTICE)."""
    return dict(json.loads(_read("facts.json")))


@lru_cache(maxsize=1)
def handwritten() -> dict[str, Any]:
    """Texts written by hand; every entry is split at its bars."""

    def split(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: split(entry) for key, entry in value.items()}
        return [[part.strip() for part in entry.split(" | ")] if " | " in entry else entry for entry in value]

    return dict(split(yaml_data("handwritten.yaml")))


@lru_cache(maxsize=1)
def nouns() -> list[str]:
    """Common countable nouns."""
    return sorted({*words()["animal"], *words()["artifact"], *words()["object"]})


@lru_cache(maxsize=1)
def plain_words() -> list[str]:
    """Nouns of every kind, for lists of words."""
    return sorted({word for kind in ("animal", "artifact", "object", "food", "plant") for word in words()[kind]})


def is_train(key: str) -> bool:
    """Whether an entity, word or fact key belongs to the training share."""
    return split_of(key) == "train"
