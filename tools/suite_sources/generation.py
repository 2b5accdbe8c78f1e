"""Constrained writing: the template's tag lists everything that the instruction demands (templates/generation.txt)."""

import itertools
import random
from typing import Any

from cai_bootstrap.judging.split import split_of

from .pools import (
    NUMBER_WORDS,
    Difficulty,
    Draft,
    Slots,
    Template,
    draw,
    fill,
    frame_deck,
    picks,
    sections,
    slot_names,
    words,
)

POOLS = {
    "topic": "topics",
    "thing": "things",
    "animal": "animals",
    "end": "endings",
    "adj": "adjectives",
    "name": "names",
    "city": "cities",
    "job": "jobs",
}
BANNED = {"easy": ("very", "nice", "really"), "medium": ("good", "and", "it"), "hard": ("the", "is", "a")}
LIMITS = {"easy": (12, 14, 15), "medium": (9, 10), "hard": (6, 7)}
EXACT = {"easy": (5,), "medium": (6, 7), "hard": (8, 9)}
EXACT_FORMS = {
    5: "We talk about {} today.",
    6: "We often talk about {} today.",
    7: "We often talk about {} at home.",
    8: "We often talk about {} at my school.",
    9: "We often talk about {} at home with friends.",
}


def write(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """An item whose output is judged by checks alone (or, for `pick`, against every right choice)."""
    if template.tag == "pick":
        return pick(template, rng, level)
    tokens = template.tag.split()
    slots, owned = slot_values(template, tokens, rng, level)
    checks = checks_of(tokens, slots)
    return Draft(
        fill(template.text, slots),
        "checks",
        reference(tokens, slots),
        {"checks": checks},
        difficulty=difficulty_of(tokens, level),
        entities=owned,
    )


def difficulty_of(tokens: list[str], level: Difficulty) -> Difficulty:
    """How hard the demands are: a banned word or a word limit as strict as its level, else by kind and number."""
    if any(token == "w<" or token.startswith("f:") for token in tokens):
        return level
    if any(token in ("w=", "l4", "n4") or token.startswith("lw:") for token in tokens):
        return "hard"
    if len(tokens) > 2 or any(token in ("s2", "n3", "l3") or token.startswith("fw:") for token in tokens):
        return "medium"
    return "easy"


def slot_values(
    template: Template, tokens: list[str], rng: random.Random, level: Difficulty
) -> tuple[Slots, list[str]]:
    slots, owned = Slots(hello="Hello", dear="Dear"), list[str]()
    for slot in slot_names(template.text):
        if slot in POOLS:
            (slots[slot],) = draw(rng, words(POOLS[slot], template.split), 1, avoid=owned)
            owned.append(slots[slot])
        elif slot == "country":
            slots[slot] = rng.choice(
                sorted({name for row in picks("capital", template.split).values() for name in row})
            )
            owned.append(slots[slot])
        elif slot == "start":
            openers = " ".join(sections("frames.txt")["start"]).split()
            slots[slot] = rng.choice([word for word in openers if split_of(word) == template.split])
        elif slot in ("ban", "ban2"):
            (slots[slot],) = draw(rng, BANNED[level], 1, avoid=list(slots.values()))
        elif slot == "n":
            floor = 10 if template.skill == "greeting" else 0
            number = rng.choice(EXACT[level] if "w=" in tokens else LIMITS[level])
            slots["count"] = str(max(floor, number) if "w<" in tokens else number)
            slots["n"] = NUMBER_WORDS[int(slots["count"])] if rng.random() < 0.6 else slots["count"]
        elif slot == "category":
            slots[slot], _, slots["members"] = next(frame_deck(f"category {template.split}")).partition(": ")
            if split_of(slots[slot]) != template.split:
                raise ValueError(f"frames.txt: category {slots[slot]} belongs to {split_of(slots[slot])}")
            owned.append(slots[slot])
        else:
            raise ValueError(f"{template.id}: unknown slot {slot}")
    return slots, owned


def checks_of(tokens: list[str], slots: Slots) -> list[dict[str, Any]]:
    """The checks that a tag stands for."""
    checks: list[dict[str, Any]] = []
    contained = [slots[token[2:]] for token in tokens if token.startswith("c:")]
    banned = [slots[token[2:]] for token in tokens if token.startswith("f:")]
    for token in tokens:
        if token in ("s1", "s2"):
            checks.append({"check": "sentences", "min": int(token[1]), "max": int(token[1])})
        elif token == "w<":
            checks.append({"check": "words", "min": 1, "max": int(slots["count"])})
        elif token == "w=":
            checks.append({"check": "words", "min": int(slots["count"]), "max": int(slots["count"])})
        elif token.startswith("fw:"):
            checks.append({"check": "first_word", "word": slots[token[3:]]})
        elif token.startswith("lw:"):
            checks.append({"check": "last_word", "word": slots[token[3:]]})
        elif token == "q":
            checks.append({"check": "question"})
        elif token[0] == "l" and token[1:].isdigit():
            checks.append({"check": "list", "items": int(token[1:]), "separator": "comma"})
        elif token[0] == "n" and token[1:].isdigit():
            checks.append({"check": "list", "items": int(token[1:]), "separator": "numbered"})
        elif not token.startswith(("c:", "f:")):
            raise ValueError(f"unknown check {token}")
    if contained:
        checks.append({"check": "contains", "words": contained})
    if banned:
        checks.append({"check": "forbids", "words": banned})
    return checks


def reference(tokens: list[str], slots: Slots) -> str:
    """An output that passes."""
    contained = " and ".join(slots[token[2:]] for token in tokens if token.startswith("c:"))
    starts = [slots[token[3:]] for token in tokens if token.startswith("fw:")]
    ends = [slots[token[3:]] for token in tokens if token.startswith("lw:")]
    for token in tokens:
        if token[0] in "ln" and token[1:].isdigit():
            members = slots["members"].split(", ")[: int(token[1:])]
            return ", ".join(members) if token[0] == "l" else "\n".join(f"{i}. {m}" for i, m in enumerate(members, 1))
    if "w=" in tokens:
        return EXACT_FORMS[int(slots["count"])].format(contained)
    if "q" in tokens:
        return f"Do you know anything about {contained}?"
    if starts:
        return f"{starts[0]}, we talked about {contained or 'winter'}."
    if ends:
        return f"Yesterday we talked about {contained + ' and ' if contained else ''}{ends[0]}."
    if "s2" in tokens:
        return f"We talked about {contained or 'summer'} yesterday. Everybody listened."
    return f"We talked about {contained} yesterday."


def pick(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """Any two of the given words, in any order, with a comma between them."""
    kind = rng.choice(["foods", "animals", "things"])
    options = draw(rng, words(kind, template.split), {"easy": 3, "medium": 4, "hard": 5}[level])
    pairs = [f"{one}{comma}{two}" for one, two in itertools.permutations(options, 2) for comma in (", ", ",")]
    gold = [*pairs, *(pair[0].upper() + pair[1:] for pair in pairs)]
    text = fill(template.text, Slots(options=", ".join(options)))
    return Draft(text, "exact", gold[0], {}, gold, difficulty=level, entities=options)
