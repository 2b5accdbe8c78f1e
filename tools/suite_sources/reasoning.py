"""Items whose answer stands in or follows from the instruction: comparisons, sequences, patterns, little stories."""

import random
import re
from collections.abc import Callable

from cai_bootstrap.judging.split import split_of

from .pools import (
    COLOURS,
    NUMBER_WORDS,
    Difficulty,
    Draft,
    Slots,
    Template,
    draw,
    fill,
    frame_deck,
    number_forms,
    slot_names,
    words,
    yes_no_deck,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CLASSES = {
    "name": "names",
    "thing": "things",
    "food": "foods",
    "animal": "animals",
    "city": "cities",
    "job": "jobs",
}


def context(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """A little story whose question is answered by one of its own words; the tag names the slot that holds it."""
    del level
    slots, owned = Slots(), list[str]()
    by_class: dict[str, list[str]] = {}
    for slot in slot_names(template.text):
        by_class.setdefault(slot.rstrip("0123456789"), []).append(slot)
    for kind, members in by_class.items():
        if kind == "num":
            values = [str(number) for number in rng.sample(range(3, 60), len(members))]
        elif kind == "colour":
            values = rng.sample(COLOURS, len(members))
        else:
            values = draw(rng, words(CLASSES[kind], template.split), len(members))
            owned += values
        slots.update(dict(zip(members, values, strict=True)))
    gold = slots[template.tag]
    kind = template.tag.rstrip("0123456789")
    rivals = [slots[slot] for slot in by_class[kind] if slot != template.tag]
    accepted = number_forms(int(gold)) if kind == "num" else [gold]
    told = len(by_class[kind])
    return Draft(
        fill(template.text, slots),
        "answer",
        gold,
        {"in_context": True, "rivals": rivals},
        accepted,
        None,
        difficulty="easy" if told <= 2 else "medium" if told == 3 else "hard",
        entities=owned,
    )


def numbers_of(rng: random.Random, level: Difficulty, count: int, *, decimals: bool) -> list[str]:
    """Different numbers, written out: small ones, three- and four-digit neighbours, decimals or negatives."""
    if level == "easy":
        return [str(number) for number in rng.sample(range(2, 30), count)]
    if level == "medium":
        base = rng.choice([90, 100, 250, 480, 1000, 2300])
        return [str(base + offset) for offset in rng.sample(range(-30, 31), count)]
    if decimals:
        whole = rng.randrange(10)
        return [f"{whole}.{part}" for part in rng.sample(["5", "25", "75", "8", "09", "31", "6", "12"], count)]
    return [str(number) for number in rng.sample([*range(-25, -1), *range(1, 9)], count)]


def owned_numbers(
    rng: random.Random, level: Difficulty, count: int, relation: str, split: str, *, decimals: bool = True
) -> tuple[list[str], str]:
    """Numbers whose comparison belongs to the split, and its key."""
    while True:
        numbers = numbers_of(rng, level, count, decimals=decimals)
        key = ":".join([relation, *numbers])
        if split_of(key) == split and len({float(number) for number in numbers}) == count:
            return numbers, key


def compare_numbers(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """Yes or no on a comparison."""
    wanted = next(yes_no_deck(template.split))
    while True:
        (one, two), key = owned_numbers(rng, level, 2, template.tag, template.split, decimals=rng.random() < 0.5)
        holds = float(one) > float(two) if template.tag == "greater" else float(one) < float(two)
        if holds == wanted and not ("team" in template.text and "-" in one + two):
            break
    gold = "yes" if holds else "no"
    text = fill(template.text, Slots(n1=one, n2=two))
    return Draft(text, "yes_no", gold, {"in_context": True}, [gold], key, difficulty=level, entities=[key])


def compare_pick(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """Which of some numbers is the largest or smallest, or which of two words is the longer."""
    if template.tag in ("longer", "shorter"):
        gap = {"easy": 4, "medium": 2, "hard": 1}[level]
        while True:
            one, two = draw(rng, words("things", template.split), 2)
            if abs(len(one) - len(two)) == gap:
                break
        gold = (max if template.tag == "longer" else min)(one, two, key=len)
        values, key, owned = [one, two], None, [one, two]
        slots = Slots(w1=one, w2=two)
    else:
        values, key = owned_numbers(rng, level, int(template.tag[-1]), template.tag[:-1], template.split)
        gold = (max if template.tag.startswith("max") else min)(values, key=float)
        slots, owned = Slots({f"n{i}": value for i, value in enumerate(values, 1)}), [key]
    rivals = [value for value in values if value != gold]
    accepted = number_forms(int(gold)) if gold.isdigit() else [gold]
    args = {"in_context": True, "rivals": rivals}
    return Draft(fill(template.text, slots), "answer", gold, args, accepted, key, difficulty=level, entities=owned)


def number_rule(rng: random.Random, level: Difficulty) -> tuple[list[int], int]:
    """Four numbers in a row, and how the next one is reached."""
    if level == "easy":
        step = rng.choice([1, 2, 5, 10])
        start = rng.randrange(1, 12) * (step if step > 2 else 1)
    elif level == "medium":
        step = rng.choice([3, 4, 6, 7, -2, -3, -5])
        start = rng.randrange(2, 20) if step > 0 else rng.randrange(40, 70)
    elif rng.random() < 0.5:
        ratio, start = rng.choice([2, 3]), rng.randrange(2, 8)
        return [start * ratio**i for i in range(4)], start * ratio**4
    else:
        step, start = rng.choice([11, 12, 15, -7, -9, 25]), rng.randrange(60, 120)
    return [start + step * i for i in range(4)], start + step * 4


def number_sequence(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """The next number of a row."""
    while True:
        row, following = number_rule(rng, level)
        key = "sequence:" + ",".join(map(str, row))
        if split_of(key) == template.split:
            break
    step = following - row[-1]
    wrong = {following + step, following + 1, following - 1, following + 2, row[-1] + 1} - {following, *row}
    return Draft(
        fill(template.text, Slots(seq=", ".join(map(str, row)))),
        "answer",
        str(following),
        {"in_context": True, "rivals": [str(number) for number in sorted(wrong)]},
        number_forms(following),
        key,
        difficulty=level,
        entities=[key],
    )


def letter_key(row: list[str]) -> str:
    return "sequence:" + ",".join(row)


def letter_sequence(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """The next letter of a row. Answers that are words of one letter (a, i) are left out."""
    steps = {"easy": (1,), "medium": (2,), "hard": (-1, -2, 3)}[level]
    rows = [
        [LETTERS[start + step * i] for i in range(length + 2)]
        for step in steps
        for length in (3, 4, 5)
        for start in range(26)
        if 0 <= start + step * (length + 1) < 26
    ]
    owned = [row for row in rows if row[-2] not in "ai" and split_of(letter_key(row[:-2])) == template.split]
    *shown, following, after = rng.choice(owned)
    key = letter_key(shown)
    at = LETTERS.index(following)
    wrong = {LETTERS[(at + offset) % 26] for offset in (-1, 1, 2)} | {after}
    row = ", ".join(shown)
    gold = following.upper() if "{SEQ}" in template.text else following
    return Draft(
        fill(template.text, Slots(seq=row, SEQ=row.upper())),
        "answer",
        gold,
        {"in_context": True, "rivals": sorted(wrong - {"a", "i", following, *shown})},
        [gold],
        key,
        difficulty=level,
        entities=[key],
    )


def repeat_pattern(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """The next word of a repeating row; the row breaks off at any place of its second or third round."""
    shape = template.tag
    kinds = ["colours"] if "lights" in template.text else ["things", "animals", "colours"]
    kind = rng.choice(kinds if "lays things" not in template.text else ["things"])
    pool = COLOURS if kind == "colours" else words(kind, template.split)
    members = dict(zip("abc", draw(rng, pool, len(set(shape))), strict=False))
    rounds = {"easy": 2, "medium": 3, "hard": 2}[level]
    extra = 0 if level == "medium" else rng.randrange(1, len(shape))
    row = [members[letter] for letter in (shape * (rounds + 1))[: rounds * len(shape) + extra]]
    gold = members[shape[extra]]
    return Draft(
        fill(template.text, Slots(seq=", ".join(row), seq_s=" ".join(row))),
        "answer",
        gold,
        {"in_context": True, "rivals": sorted(set(members.values()) - {gold})},
        [gold],
        None,
        difficulty="easy" if shape == "ab" else "hard" if shape in ("aab", "abb") else "medium",
        entities=[] if kind == "colours" else sorted(members.values()),
    )


def finish_sentence(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """The rest of a sentence within a word limit, ending with a full stop."""
    limit = {"easy": rng.choice([9, 10, 12]), "medium": rng.choice([6, 7, 8]), "hard": rng.choice([4, 5])}[level]
    opening, _, ending = next(frame_deck(f"opening {template.split}")).partition(" | ")
    checks = [
        {"check": "words", "min": 1, "max": limit},
        {"check": "sentences", "min": 1, "max": 1},
        {"check": "ends_with", "text": "."},
        {"check": "continues"},
    ]
    limit_text = NUMBER_WORDS[limit] if rng.random() < 0.5 else str(limit)
    text = fill(template.text, Slots(n=limit_text, opening=opening))
    return Draft(text, "checks", ending, {"checks": checks}, difficulty=level)


def takes_s(word: str) -> bool:
    return not re.search(r"(s|x|z|ch|sh|fe?|[^aeiou]y|o)$", word)


def analogy_in_context(template: Template, rng: random.Random, level: Difficulty) -> Draft:
    """A rule shown by two examples and asked of a third word or number."""
    del level
    relation = template.tag
    rules: dict[str, Callable[[str], str]] = {
        "plural": lambda word: word + "s",
        "double": lambda number: str(2 * int(number)),
        "plusone": lambda number: str(int(number) + 1),
        "plusten": lambda number: str(int(number) + 10),
        "upper": str.upper,
        "first": lambda word: word[0],
        "last": lambda word: word[-1],
    }
    rule = rules[relation]
    numeric = relation in ("double", "plusone", "plusten")
    while True:
        if numeric:
            shown = [str(number) for number in rng.sample(range(3, 40), 3)]
        else:
            shown = draw(rng, [word for word in words("things", template.split) if takes_s(word)], 3)
        answers = [rule(value) for value in shown]
        if len({*shown, *answers}) == 6 and answers[2] not in ("a", "i"):
            break
    gold = answers[2]
    slots = Slots(zip(("x", "y", "z", "fx", "fy", "fz"), [*shown, *answers], strict=True))
    text = fill(template.text, slots)
    owned = [] if numeric else shown
    levels: dict[str, Difficulty] = {"plural": "easy", "plusone": "easy", "first": "hard", "last": "hard"}
    difficulty = levels.get(relation, "medium")
    if relation == "upper":
        return Draft(text, "exact", gold, {}, [gold, gold + "."], difficulty=difficulty, entities=owned)
    wrong = {answers[0], answers[1]} | ({shown[2] + "es"} if relation == "plural" else set())
    accepted = number_forms(int(gold)) if numeric else [gold]
    args = {"in_context": True, "rivals": sorted(wrong)}
    return Draft(text, "answer", gold, args, accepted, difficulty=difficulty, entities=owned)
