"""Fills of the transformations: one right output follows from the text in the instruction."""

import json
from random import Random

from cai_bootstrap.instructions.fill import Fill, checked, exact, gold_answer
from cai_bootstrap.instructions.materials import (
    adjective,
    different_words,
    joined,
    material,
    number_word,
    phrase,
    plain,
    row,
)
from cai_bootstrap.instructions.pool import capitalised, nouns, words
from cai_bootstrap.instructions.registry import skill

FORMS = (
    ("{name} lives in {city}.", ("Name", "name"), ("City", "city")),
    ("{name} moved to {city} last year.", ("Name", "name"), ("City", "city")),
    ("In {city} there lives a nurse called {name}.", ("Name", "name"), ("City", "city")),
    ("{name} bought {a_thing}.", ("Buyer", "name"), ("Item", "thing")),
    ("Someone named {name} lost {a_thing}.", ("Owner", "name"), ("Object", "thing")),
    ("The {thing} belongs to {name}.", ("Object", "thing"), ("Owner", "name")),
    ("{name} is {n} years old.", ("Name", "name"), ("Age", "n")),
    ("{name} will arrive on {day}.", ("Guest", "name"), ("Day", "day")),
    ("The train to {city} leaves on {day}.", ("City", "city"), ("Day", "day")),
    ("{name} ordered {a_thing} from {city}.", ("Customer", "name"), ("City", "city")),
    ("The {thing} costs {n} dollars.", ("Item", "thing"), ("Price", "n")),
    ("Our meeting with {name} is on {day}.", ("With", "name"), ("When", "day")),
    ("{name} painted the {thing} {color}.", ("Painter", "name"), ("Object", "thing"), ("Color", "color")),
    ("On {day}, {name} flies to {city}.", ("Passenger", "name"), ("Destination", "city"), ("Day", "day")),
    ("{name} was born in {month}.", ("First name", "name"), ("Month of birth", "month")),
    ("There are {n} seats left for {day}.", ("Day", "day"), ("Free seats", "n")),
    ("{name} and {other} share a flat in {city}.", ("First tenant", "name"), ("Second tenant", "other"),
     ("City", "city")),
    ("The letter from {name} reached {other} on {day}.", ("From", "name"), ("To", "other"), ("Day", "day")),
    ("{name} has a {color} {thing}.", ("Person", "name"), ("Color", "color")),
    ("In {month} the hotel in {city} is full.", ("Place", "city"), ("Month", "month")),
)  # fmt: skip
KEYS = ("name", "city", "item", "animal", "owner", "place", "food", "plant", "color", "day", "month", "age", "count",
        "first", "last", "title", "tool", "pet")  # fmt: skip
TOLD = ('"{key}" is {value}', '"{key}" is {value}', 'the key "{key}" has the value {value}', '"{key}" equals {value}',
        "{key} is {value}", 'the value of "{key}" is {value}')  # fmt: skip


def _row(random: Random, low: int = 3, high: int = 6) -> list[str]:
    return row(random, low, high)


def _lower_phrase(random: Random) -> str:
    """A text of small letters: one word, a row of words, or a clause."""
    a = random.choice(nouns())
    text = random.choice((a, f"{adjective(random)} {a}", f"the {adjective(random)} {a}", *[phrase(random)] * 5))
    return text.lower()


@skill("repeat", "transformation")
def _repeat(random: Random) -> Fill:
    """A text with or without end punctuation, or a row of words with commas."""
    if random.random() < 0.15:
        text = ", ".join(_row(random))
    else:
        text = phrase(random) + random.choice(("", "", "", ".", "!"))
        text = capitalised(text) if random.random() < 0.3 else text
    return exact({"text": text}, [text], content=(text,))


def _word_at(random: Random, place: int) -> Fill:
    row = different_words(random)
    text = " ".join(row)
    rivals = [word for word in row if word != row[place]]
    return gold_answer({"text": text}, [row[place]], content=(text,), rivals=rivals, in_context=True)


@skill("nth_word", "transformation", hard=True, rare=True)
def _nth_word(random: Random) -> Fill:
    nth, place = random.choice((("second", 1), ("second", 1), ("third", 2)))
    row = different_words(random)
    text = " ".join(row)
    rivals = [word for i, word in enumerate(row) if i != place]
    return gold_answer({"text": text, "nth": nth}, [row[place]], content=(text,), rivals=rivals, in_context=True)


@skill("uppercase", "transformation", hard=True, rare=True)
def _uppercase(random: Random) -> Fill:
    text = _lower_phrase(random)
    return exact({"text": text}, [text.upper()], content=(text,))


@skill("lowercase", "transformation", hard=True)
def _lowercase(random: Random) -> Fill:
    text = _lower_phrase(random)
    source = random.choice((text.upper(), text.upper(), text.title()))
    return exact({"text": source}, [text], content=(text, source))


def _rearranged(random: Random, row: list[str], result: list[str]) -> Fill:
    """A list of words and its rearrangement, in the separator that was shown; the other one is accepted."""
    separators = [", ", " "]
    random.shuffle(separators)
    first, second = separators
    return exact({"list": first.join(row)}, [first.join(result), second.join(result)], content=(" ".join(row),))


@skill("sort_words", "transformation", hard=True, rare=True)
def _sort_words(random: Random) -> Fill:
    while True:
        words = _row(random, 2, random.choice((3, 4, 6)))
        if words != sorted(words, key=str.lower):
            return _rearranged(random, words, sorted(words, key=str.lower))


@skill("reverse_words", "transformation", hard=True, rare=True)
def _reverse_words(random: Random) -> Fill:
    words = phrase(random).split()[:6] if random.random() < 0.2 else _row(random, 2, random.choice((3, 4, 6)))
    return _rearranged(random, words, words[::-1]) if words != words[::-1] else _reverse_words(random)


@skill("join_commas", "transformation")
def _join_commas(random: Random) -> Fill:
    words = _row(random, 2, 6)
    return exact({"list": " ".join(words)}, [", ".join(words), ",".join(words)], content=(" ".join(words),))


@skill("remove_word", "transformation", hard=True, rare=True)
def _remove_word(random: Random) -> Fill:
    row = different_words(random)
    place = random.randrange(len(row))
    text = " ".join(row)
    return exact({"text": text, "word": row[place]}, [" ".join(row[:place] + row[place + 1 :])], content=(text,))


@skill("replace_word", "transformation", hard=True, rare=True)
def _replace_word(random: Random) -> Fill:
    """A word is replaced by one of its kind: a noun by a noun, a name by a name, a city, a color, an adjective."""
    kinds = (nouns(), words()["names"], words()["cities"], plain("colors"), plain("plain_adjectives"), words()["food"])
    while True:
        parts = different_words(random)
        place = random.randrange(len(parts))
        kind = next((kind for kind in kinds if parts[place] in kind), None)
        new = random.choice(kind) if kind else parts[place]
        if new not in parts:
            result = " ".join([*parts[:place], new, *parts[place + 1 :]])
            text = " ".join(parts)
            return exact({"text": text, "old": parts[place], "new": new}, [result], content=(text,))


@skill("json_keys", "transformation", hard=True)
def _json_keys(random: Random) -> Fill:
    """One to three keys with words or whole numbers as values, told in one of the usual ways."""
    slots = material(random)
    slot_of = {"owner": "name", "place": "city", "item": "thing", "first": "name", "last": "other", "title": "noun",
              "tool": "thing", "pet": "animal", "age": "n", "count": "n"}  # fmt: skip
    keys = random.sample(KEYS, random.choice((1, 2, 2, 2, 3)))
    values: dict[str, str | int] = {}
    for key in keys:
        value = random.choice(words()["plant"]) if key == "plant" else slots[slot_of.get(key, key)]
        values[key] = int(value) if value.isdigit() else value
    form = random.choice(TOLD)
    pairs = joined([form.format(key=key, value=json.dumps(value)) for key, value in values.items()])
    checks = [{"check": "json", "keys": keys, "values": values}]
    topic = " ".join(map(str, values.values()))
    return checked({"pairs": pairs}, checks, topic=topic, answer=json.dumps(values))


@skill("fill_form", "transformation", hard=True, rare=True)
def _fill_form(random: Random) -> Fill:
    sentence, *fields = random.choice(FORMS)
    values = material(random)
    separator, blank = random.choice((" / ", ", ", "; ", " | ")), random.choice(("___", "___", "____", "..."))
    form = separator.join(f"{label}: {blank}" for label, _ in fields)
    outputs = [separator.join(f"{label}: {values[key]}" for label, key in fields)]
    if any(key == "thing" for _, key in fields):
        for name in (values["a_thing"], f"the {values['thing']}"):
            outputs.append(separator.join(f"{label}: {(values | {'thing': name})[key]}" for label, key in fields))
    text = sentence.format_map(values)
    return exact({"sentence": text, "form": form}, outputs, content=(text,))


@skill("count_words", "transformation", hard=True, rare=True)
def _count_words(random: Random) -> Fill:
    while True:
        counted = (phrase(random) if random.random() < 0.6 else " ".join(_row(random, 2, 9))).split()
        if 2 <= len(counted) <= 10:
            break
    text, n = " ".join(counted), len(counted)
    rivals = [spelled for other in (n - 1, n + 1) for spelled in (str(other), number_word(other))]
    return gold_answer({"text": text}, [str(n), number_word(n)], content=(text,), rivals=rivals, in_context=True)


@skill("first_word", "transformation", hard=True)
def _first_word(random: Random) -> Fill:
    return _word_at(random, 0)


@skill("last_word", "transformation", hard=True)
def _last_word(random: Random) -> Fill:
    return _word_at(random, -1)
