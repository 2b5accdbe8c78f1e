"""Fills of the transformations: one right output follows from the text in the instruction."""

import json
from random import Random

from cai_bootstrap.instructions.fill import Fill, Supply, checked, drawn, exact, gold_answer
from cai_bootstrap.instructions.fills_text import NUMBERS
from cai_bootstrap.instructions.pool import nouns, plain_words, plural, with_article, words

FORMS = (
    ("{name} lives in {city}.", ("Name", "name"), ("City", "city")),
    ("{name} moved to {city} last year.", ("Name", "name"), ("City", "city")),
    ("In {city} there lives a nurse called {name}.", ("Name", "name"), ("City", "city")),
    ("{name} bought {a_thing}.", ("Buyer", "name"), ("Item", "thing")),
    ("Someone named {name} lost {a_thing}.", ("Owner", "name"), ("Object", "thing")),
    ("The {thing} belongs to {name}.", ("Object", "thing"), ("Owner", "name")),
    ("{name} is {age} years old.", ("Name", "name"), ("Age", "age")),
    ("{name} will arrive on {day}.", ("Guest", "name"), ("Day", "day")),
    ("The train to {city} leaves on {day}.", ("City", "city"), ("Day", "day")),
    ("{name} ordered {a_thing} from {city}.", ("Customer", "name"), ("City", "city")),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
KEYS = ("name", "city", "item", "animal", "owner", "place", "food", "plant")


def _row(random: Random, low: int, high: int) -> list[str]:
    return random.sample(plain_words(), random.randint(low, high))


def _phrase(random: Random) -> str:
    """A short text without end punctuation: a noun phrase, a small clause, or a row of words."""
    a, b = random.sample(nouns(), 2)
    p, q = random.sample(words()["adjectives"], 2)
    name, other = random.sample(words()["names"], 2)
    city, thing = random.choice(words()["cities"]), random.choice(words()["things"])
    return random.choice(
        (
            f"{name} and {other} live in {city}",
            f"{name} gave {other} {with_article(thing)}",
            f"we saw {with_article(a)} in {city}",
            f"my {thing} is {p} and {q}",
            f"{random.randint(2, 60)} {p} {plural(a)}",
            f"bring the {thing} on {random.choice(DAYS)}",
            f"{name} forgot the {p} {thing} again",
            f"where is my {thing}",
            f"{p} {a}",
            f"the {p} {a}",
            f"the {a} is {p}",
            f"{p} {a} and {q} {b}",
            f"{name} likes the {a}",
            f"{name} lives in {city}",
            f"the {a} near the {b}",
            f"one {p} {a} for {name}",
            " ".join(_row(random, 3, 5)),
        )
    )


def _lower_phrase(random: Random) -> str:
    a, b = random.sample(nouns(), 2)
    p = random.choice(words()["adjectives"])
    return random.choice(
        (
            a,
            p,
            f"{p} {a}",
            f"the {p} {a}",
            f"{a} and {b}",
            f"the {a} is {p}",
            f"{p} {a} and {b}",
            f"we need {with_article(a)}",
            f"a {b} for my {a}" if with_article(b).startswith("a ") else f"my {b} and your {a}",
            f"no {plural(a)} here",
        )
    )


def _different(random: Random) -> list[str]:
    """The words of a phrase of at least three different words."""
    while True:
        row = _phrase(random).split()
        if len(row) > 2 and len({word.lower() for word in row}) == len(row):
            return row


def _repeat(random: Random) -> Fill:
    text = _phrase(random)
    return exact({"text": text}, [text], content=(text,))


def _word_at(random: Random, place: int) -> Fill:
    row = _different(random)
    text = " ".join(row)
    rivals = [word for word in row if word != row[place]]
    return gold_answer({"text": text}, [row[place]], content=(text,), rivals=rivals, in_context=True)


def _nth_word(random: Random) -> Fill:
    nth, place = random.choice((("second", 1), ("second", 1), ("third", 2)))
    row = _different(random)
    text = " ".join(row)
    rivals = [word for i, word in enumerate(row) if i != place]
    return gold_answer({"text": text, "nth": nth}, [row[place]], content=(text,), rivals=rivals, in_context=True)


def _uppercase(random: Random) -> Fill:
    text = _lower_phrase(random)
    return exact({"text": text}, [text.upper()], content=(text,))


def _lowercase(random: Random) -> Fill:
    text = _lower_phrase(random)
    shown = text.upper() if random.random() < 0.7 else text.title()
    return exact({"text": shown}, [text], content=(text, shown))


def _rearranged(random: Random, row: list[str], result: list[str]) -> Fill:
    """A list of words and its rearrangement, in the separator that was shown; the other one is accepted."""
    separators = [", ", " "]
    random.shuffle(separators)
    first, second = separators
    return exact({"list": first.join(row)}, [first.join(result), second.join(result)], content=(" ".join(row),))


def _sort_words(random: Random) -> Fill:
    while True:
        row = _row(random, 3, 5)
        if row != sorted(row):
            return _rearranged(random, row, sorted(row))


def _reverse_words(random: Random) -> Fill:
    row = _row(random, 3, 5)
    return _rearranged(random, row, row[::-1])


def _join_commas(random: Random) -> Fill:
    row = _row(random, 3, 5)
    return exact({"list": " ".join(row)}, [", ".join(row), ",".join(row)], content=(" ".join(row),))


def _remove_word(random: Random) -> Fill:
    row = _different(random)
    place = random.randrange(len(row))
    text = " ".join(row)
    return exact({"text": text, "word": row[place]}, [" ".join(row[:place] + row[place + 1 :])], content=(text,))


def _replace_word(random: Random) -> Fill:
    while True:
        row = _different(random)
        place = random.randrange(len(row))
        new = random.choice(nouns())
        if row[place] in nouns() and new not in row:
            text = " ".join(row)
            result = " ".join([*row[:place], new, *row[place + 1 :]])
            return exact({"text": text, "old": row[place], "new": new}, [result], content=(text,))


def _json_keys(random: Random) -> Fill:
    source = {
        "name": words()["names"], "owner": words()["names"], "city": words()["cities"], "place": words()["cities"],
        "item": nouns(), "animal": words()["animal"], "food": words()["food"], "plant": words()["plant"],
    }  # fmt: skip
    keys = random.sample(KEYS, random.choice((2, 2, 3)))
    values = {key: random.choice(source[key]) for key in keys}
    told = [f'"{key}" is "{value}"' for key, value in values.items()]
    pairs = ", ".join(told[:-1]) + " and " + told[-1]
    checks = [{"check": "json", "keys": keys, "values": values}]
    topic = " ".join(values.values())
    return checked({"pairs": pairs}, checks, topic=topic, answer=json.dumps(values))


def _fill_form(random: Random) -> Fill:
    sentence, *fields = random.choice(FORMS)
    thing = random.choice(words()["things"])
    values = {
        "name": random.choice(words()["names"]), "city": random.choice(words()["cities"]), "thing": thing,
        "a_thing": with_article(thing), "age": str(random.randint(5, 90)), "day": random.choice(DAYS),
    }  # fmt: skip
    separator = random.choice((" / ", ", ", "; "))
    form = separator.join(f"{label}: ___" for label, _ in fields)
    outputs = [separator.join(f"{label}: {values[key]}" for label, key in fields)]
    if any(key == "thing" for _, key in fields):
        for article in ("a_thing", "the_thing"):
            told = {**values, "thing": values["a_thing"] if article == "a_thing" else f"the {thing}"}
            outputs.append(separator.join(f"{label}: {told[key]}" for label, key in fields))
    told_in = sentence.format_map(values)
    return exact({"sentence": told_in, "form": form}, outputs, content=(told_in,))


def _count_words(random: Random) -> Fill:
    while True:
        row = (_phrase(random) if random.random() < 0.5 else " ".join(_row(random, 2, 7))).split()
        if 2 <= len(row) <= 8:
            break
    text, n = " ".join(row), len(row)
    rivals = [str(other) for other in (n - 1, n + 1)] + [NUMBERS[k] for k in (n - 1, n + 1) if k in NUMBERS]
    return gold_answer({"text": text}, [str(n), NUMBERS[n]], content=(text,), rivals=rivals, in_context=True)


def repeat() -> Supply:
    return drawn("repeat", _repeat)


def first_word() -> Supply:
    return drawn("first_word", lambda random: _word_at(random, 0))


def last_word() -> Supply:
    return drawn("last_word", lambda random: _word_at(random, -1))


def nth_word() -> Supply:
    return drawn("nth_word", _nth_word)


def uppercase() -> Supply:
    return drawn("uppercase", _uppercase)


def lowercase() -> Supply:
    return drawn("lowercase", _lowercase)


def sort_words() -> Supply:
    return drawn("sort_words", _sort_words)


def reverse_words() -> Supply:
    return drawn("reverse_words", _reverse_words)


def join_commas() -> Supply:
    return drawn("join_commas", _join_commas)


def remove_word() -> Supply:
    return drawn("remove_word", _remove_word)


def replace_word() -> Supply:
    return drawn("replace_word", _replace_word)


def json_keys() -> Supply:
    return drawn("json_keys", _json_keys)


def fill_form() -> Supply:
    return drawn("fill_form", _fill_form)


def count_words() -> Supply:
    return drawn("count_words", _count_words)
