"""Transformations of a given text or list of words: the exact output follows from the instruction."""

import random
import re
from collections.abc import Callable

from .pools import (
    COLOURS,
    NUMBER_WORDS,
    Difficulty,
    Draft,
    Slots,
    Template,
    article,
    capital_first,
    draw,
    fill,
    number_forms,
    sections,
    slot_names,
    words,
)

POOLS = {
    "adj": "adjectives",
    "thing": "things",
    "animal": "animals",
    "end": "endings",
    "name": "names",
    "city": "cities",
    "job": "jobs",
    "food": "foods",
}
REPLACEABLE = ("thing", "animal", "end", "job", "food")
HARDER: dict[Difficulty, Difficulty] = {"easy": "medium", "medium": "hard", "hard": "hard"}
MARKS = {"[]": ("[", "]"), "()": ("(", ")"), "**": ("*", "*"), '""': ('"', '"')}


def slots_for(text: str, split: str, rng: random.Random) -> tuple[Slots, list[str]]:
    """Values for a text's slots, all different, and those that the split owns."""
    slots, owned = Slots(), list[str]()
    for slot in slot_names(text):
        kind = slot.rstrip("0123456789")
        if kind in POOLS:
            (slots[slot],) = draw(rng, words(POOLS[kind], split), 1, avoid=owned)
            owned.append(slots[slot])
        elif kind == "colour":
            slots[slot] = rng.choice(COLOURS)
        elif kind == "num":
            slots[slot] = str(rng.randrange(6, 80))
    return slots, owned


def sentence(template: Template, rng: random.Random, level: Difficulty) -> tuple[str, Slots, list[str]]:
    """A sentence of the split's frames; without quotation marks where they would make it unclear what is meant."""
    frames = sections("frames.txt")[f"text {template.split} {level}"]
    if '"' in template.text or template.skill in ("first_word", "nth_word", "surround", "count_words"):
        frames = [frame for frame in frames if '"' not in frame]
    frame = rng.choice(frames)
    if template.skill == "replace_word":
        frame = rng.choice([f for f in frames if set(slot_names(f)) & set(REPLACEABLE)])
    slots, owned = slots_for(frame, template.split, rng)
    return fill(frame, slots), slots, owned


def bare(word: str) -> str:
    return word.strip('.,;:!?"')


def repeat(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    text, _, owned = sentence(template, rng, level)
    return exact(template, Slots(text=text), [text], level, owned)


def exact(template: Template, slots: Slots, gold: list[str], level: Difficulty, owned: list[str]) -> Draft:
    accepted = list(dict.fromkeys(gold))
    return Draft(fill(template.text, slots), "exact", accepted[0], {}, accepted, difficulty=level, entities=owned)


def one_word(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """The first, last or n-th word, in the sentence's case, in lower case or with a capital."""
    text, slots, owned = sentence(template, rng, level)
    del slots
    at = {"first_word": 0, "last_word": -1}.get(template.skill)
    pieces = text.split()
    place_of = int(template.tag) - 1 if at is None else at
    word = bare(pieces[place_of])
    gold = [word, word.lower(), capital_first(word)]
    if not re.search(r"\b(only|just|nothing more|nothing else)\b", template.text):
        place = {0: "first", 1: "second", 2: "third", -1: "last"}[place_of]
        gold += [
            f"The {place} word {of}is {shown}"
            for of in ("", "of this sentence ")
            for shown in (word, f'"{word}"', f'"{word}."')
        ]
    return exact(template, Slots(text=text), gold, level, owned)


def case(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    text, _, owned = sentence(template, rng, level)
    gold = text.upper() if template.skill == "uppercase" else text.lower()
    return exact(template, Slots(text=text, TEXT=text.upper()), [gold], HARDER[level], owned)


def some_words(template: Template, rng: random.Random, level: Difficulty) -> list[str]:
    """Three to six words of one kind; sorting is harder where first letters are shared."""
    pool = words(rng.choice(["things", "animals", "foods"]), template.split)
    count = {"easy": 3, "medium": 4, "hard": 5}[level]
    while True:
        chosen = draw(rng, pool, count)
        letters = len({word[0] for word in chosen})
        in_order = chosen == sorted(chosen) or chosen[::-1] == sorted(chosen)
        if not in_order and (template.skill != "sort_words" or (letters < count) == (level == "hard")):
            return chosen


def word_list(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """Sort, reverse or join a list of words."""
    given = some_words(template, rng, level)
    made = {"sort_words": sorted(given), "reverse_words": given[::-1], "join_commas": given}[template.skill]
    commas = template.skill == "join_commas" or template.tag == "csv"
    joined = [", ".join(made), ",".join(made)] if commas else [" ".join(made)]
    gold = joined if template.skill != "reverse_words" or commas else [*joined, ", ".join(made)]
    gold = [*gold, *(capital_first(text) for text in gold)]
    level = HARDER[level] if template.skill == "sort_words" else level
    return exact(template, Slots(words=", ".join(given), words_s=" ".join(given)), gold, level, given)


def remove_word(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """A sentence without the word that its frame marks as removable."""
    frame = rng.choice(sections("frames.txt")[f"cut {template.split} {level}"])
    slots, owned = slots_for(frame, template.split, rng)
    before, cut, after = fill(frame, slots).split("~")
    gold = (before + after).replace("  ", " ").replace(" .", ".")
    return exact(template, Slots(text=before + cut + after, cut=cut), [gold], level, owned)


def replace_word(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """A sentence with one word in another's place."""
    text, slots, owned = sentence(template, rng, level)
    kind = rng.choice([slot for slot in slots if slot in REPLACEABLE])
    old = slots[kind]
    pool = [word for word in words(POOLS[kind], template.split) if article(word)[:2] == article(old)[:2]]
    (new,) = draw(rng, pool, 1, avoid=owned)
    gold = re.sub(rf"\b{old}\b", new, text)
    return exact(template, Slots(text=text, old=old, new=new), [gold], level, [*owned, new])


def fields(template: Template, rng: random.Random) -> tuple[str, dict[str, str], list[str]]:
    """The instruction of a form or JSON template, and the values that belong to its keys."""
    slots, owned = slots_for(template.text, template.split, rng)
    pairs = dict(part.split("=") for part in template.tag.split())
    return fill(template.text, slots), {key: slots[slot] for key, slot in pairs.items()}, owned


def json_keys(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    del level
    text, values, owned = fields(template, rng)
    inside = ", ".join(f'"{key}": "{value}"' for key, value in values.items())
    check = {"check": "json", "keys": list(values), "values": values}
    return Draft(text, "checks", "{" + inside + "}", {"checks": [check]}, difficulty="hard", entities=owned)


def fill_form(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    del level
    text, values, owned = fields(template, rng)
    parts = [f"{key}: {value}" for key, value in values.items()]
    gold = [separator.join(parts) for separator in (" / ", "\n", ", ")]
    return Draft(text, "exact", gold[0], {}, gold, difficulty="easy" if len(parts) == 2 else "medium", entities=owned)


def words_in_order(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    kinds = {"easy": "name thing end", "medium": "animal thing end", "hard": "adj job food"}[level].split()
    chosen: list[str] = []
    for kind in kinds:
        chosen += draw(rng, words(POOLS[kind], template.split), 1, avoid=chosen)
    checks = [{"check": "order", "words": chosen}, {"check": "sentences", "min": 1, "max": 1}]
    text = fill(template.text, Slots(zip(("w1", "w2", "w3"), chosen, strict=True)))
    reference = "First we wrote about {}, then about {} and later about {}.".format(*chosen)
    return Draft(text, "checks", reference, {"checks": checks}, difficulty=level, entities=chosen)


def count_words(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    text, _, owned = sentence(template, rng, level)
    count = len(text.split())
    wrong = [count + offset for offset in (-3, -2, -1, 1, 2, 3) if count + offset > 1]
    rivals = [form for number in wrong for form in (str(number), NUMBER_WORDS[number])]
    args = {"in_context": True, "rivals": rivals}
    return Draft(
        fill(template.text, Slots(text=text)),
        "answer",
        str(count),
        args,
        number_forms(count),
        None,
        "template",
        level,
        owned,
    )


def surround(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    before, after = MARKS[template.tag]
    if "{text}" in template.text:
        inner, _, owned = sentence(template, rng, level)
    else:
        (inner,) = draw(rng, words("things", template.split), 1)
        owned, level = [inner], "easy"
    slots = Slots(text=inner, thing=inner)
    return exact(template, slots, [before + inner + after], level, owned)


SKILLS: dict[str, Callable[[Template, random.Random, Difficulty], Draft]] = {
    "repeat": repeat,
    "first_word": one_word,
    "last_word": one_word,
    "nth_word": one_word,
    "uppercase": case,
    "lowercase": case,
    "sort_words": word_list,
    "reverse_words": word_list,
    "join_commas": word_list,
    "remove_word": remove_word,
    "replace_word": replace_word,
    "json_keys": json_keys,
    "fill_form": fill_form,
    "words_in_order": words_in_order,
    "count_words": count_words,
    "surround": surround,
}
