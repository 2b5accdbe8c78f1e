"""Fills of the skills that ask for or complete a fact: the world's, the language's, or one in the text itself."""

from functools import lru_cache
from random import Random

from cai_bootstrap.instructions.fill import Fill, gold_answer
from cai_bootstrap.instructions.materials import DAYS, MONTHS, joined, number_word, plain, some_things, statement_slots
from cai_bootstrap.instructions.pool import capitalised, facts, is_train, nouns, plain_words, with_article, words
from cai_bootstrap.instructions.registry import fact_skill, skill

UNCOUNTED = {"color", "sport", "metal", "drink"}
OWNING = ("has", "has", "owns", "bought", "found", "lost", "drew", "carries", "wants", "sold", "forgot", "needs")
GREATER = ("greater", "larger", "bigger", "higher")
LESS = ("smaller", "lower")
SIZES = ("small", "large", "huge", "tiny", "big", "tall", "short", "enormous", "medium")
SHAPES = ("round", "square", "oval", "flat", "curved", "triangular", "rectangular", "pointed")


@fact_skill("capital", "question", "completion")
def _capital() -> list[Fill]:
    return [
        gold_answer({"country": row["country"]}, [row["capital"]], content=(row["key"],),
                    fact_key=f"capital:{row['key']}", closed_set="capitals")
        for row in facts()["countries"]
        if row["capital"]
    ]  # fmt: skip


@fact_skill("currency", "question")
def _currency() -> list[Fill]:
    return [
        gold_answer({"country": row["country"]}, row["currency"], content=(row["key"],),
                    fact_key=f"currency:{row['key']}", closed_set="currencies")
        for row in facts()["countries"]
        if row["currency"]
    ]  # fmt: skip


@fact_skill("element_symbol", "question", "completion")
def _element_symbol() -> list[Fill]:
    return [
        gold_answer({"element": name.lower()}, [symbol], content=(name.lower(),),
                    fact_key=f"element_symbol:{name.lower()}", closed_set="element_symbols")
        for name, symbol in facts()["elements"]
    ]  # fmt: skip


@fact_skill("antonym", "question", "completion")
def _antonym() -> list[Fill]:
    answers: dict[str, list[str]] = {}
    for word, opposite in facts()["antonyms"]:
        answers.setdefault(word, []).append(opposite)
    return [
        gold_answer({"word": word}, golds, content=(word,), fact_key=f"antonym:{word}", rivals=[word])
        for word, golds in answers.items()
    ]


def _forms(kind: str, name: str) -> list[Fill]:
    return [
        gold_answer({"word": word}, forms, content=(word,), fact_key=f"{name}:{word}",
                    rivals=[] if word in forms else [word])
        for word, forms in facts()[kind]
    ]  # fmt: skip


@fact_skill("plural", "question", "completion")
def _plural() -> list[Fill]:
    return _forms("plurals", "plural")


@fact_skill("past_tense", "question", "completion")
def _past_tense() -> list[Fill]:
    return _forms("pasts", "past_tense")


@fact_skill("weekday_month", "question", "completion")
def _weekday_month() -> list[Fill]:
    fills = []
    for unit, names in (("day", DAYS), ("month", MONTHS)):
        for i, name in enumerate(names):
            for side, step in (("before", -1), ("after", 1)):
                key = f"{side}:{name.lower()}"
                if is_train(key):
                    answer = names[(i + step) % len(names)]
                    slots = {"unit": unit, "side": side, "name": name}
                    fills.append(
                        gold_answer(slots, [answer], content=(name,), fact_key=key,
                                    closed_set="weekdays" if unit == "day" else "months")
                    )  # fmt: skip
    return fills


def _two_numbers(random: Random, relation: str) -> tuple[int, int]:
    """Two different numbers whose comparison belongs to the training share in either order."""
    while True:
        top = random.choice((10, 20, 100, 100, 100, 1000, 1000, 10_000, 1_000_000))
        a = random.randint(1, top)
        b = a + random.randint(-9, 9) if random.random() < 0.2 else random.randint(1, top)
        if a != b and b > 0 and is_train(f"{relation}:{a}:{b}") and is_train(f"{relation}:{b}:{a}"):
            return a, b


def _written(random: Random, *numbers: int) -> list[str]:
    """The numbers in digits, now and then in words."""
    if max(numbers) <= 100 and random.random() < 0.2:
        return [number_word(n) for n in numbers]
    return [str(n) for n in numbers]


@skill("compare_numbers", "question", two_answers=True)
def _compare_numbers(random: Random) -> Fill:
    relation = random.choice(("greater", "less"))
    a, b = _two_numbers(random, relation)
    more = random.choice(GREATER if relation == "greater" else (*LESS, "less"))
    answer = "yes" if (a > b) == (relation == "greater") else "no"
    first, second = _written(random, a, b)
    slots = {"a": first, "b": second, "more": more}
    return Fill(slots, "yes_no", {"in_context": True}, [answer], f"{relation}:{a}:{b}", capitalised(answer),
                (f"{first} {second}",), f"{a},{b}")  # fmt: skip


@skill("compare_pick", "question", "completion")
def _compare_pick(random: Random) -> Fill:
    relation = random.choice(("max", "min"))
    a, b = _two_numbers(random, relation)
    more = random.choice(GREATER if relation == "max" else LESS)
    gold = max(a, b) if relation == "max" else min(a, b)
    spelling = dict(zip((a, b), _written(random, a, b), strict=True))
    slots = {"a": spelling[a], "b": spelling[b], "more": more}
    golds, rivals = (_spellings(spelling[n], n) for n in (gold, a + b - gold))
    return gold_answer(slots, golds, content=(f"{spelling[a]} {spelling[b]}",), fact_key=f"{relation}:{a}:{b}",
                       rivals=rivals, in_context=True)  # fmt: skip


def _spellings(spelling: str, n: int) -> list[str]:
    """A number as it was spelled, and the other way to write it."""
    other = [str(n)] if spelling != str(n) else [number_word(n)] if n <= 100 else []
    return [spelling, *other]


@skill("who_has", "question", "completion")
def _who_has(random: Random) -> Fill:
    """Two to four people with a thing each; the slots `x` and `y` hold two of them, `facts` holds all."""
    people = random.sample(words()["names"], random.choice((2, 2, 3, 3, 4)))
    things = some_things(random, len(people))
    target, beside = random.sample(range(len(people)), 2)
    first, second = sorted((target, beside))
    verb = random.choice(OWNING)
    slots = {
        "x": people[first], "y": people[second], "one": with_article(things[first]),
        "two": with_article(things[second]), "the": f"the {things[target]}", "verb": verb,
    }  # fmt: skip
    slots |= statement_slots(
        random, [f"{name} {verb} {with_article(thing)}" for name, thing in zip(people, things, strict=True)]
    )
    rivals = [name for name in people if name != people[target]]
    return gold_answer(slots, [people[target]], content=(things[target],), rivals=rivals, in_context=True)


@lru_cache(maxsize=1)
def _properties() -> dict[str, list[str]]:
    return {
        "color": plain("colors"),
        "size": [s for s in SIZES if is_train(s)],
        "shape": [s for s in SHAPES if is_train(s)],
    }


@skill("property_of", "question", "completion")
def _property_of(random: Random) -> Fill:
    """Two to four things with a property of one kind each; `one` and `two` are two of them, `facts` tells of all."""
    kind = random.choice(("color", "color", "size", "shape"))
    properties = _properties()[kind]
    values = random.sample(properties, min(len(properties), random.choice((2, 2, 3, 3, 4))))
    things = some_things(random, len(values)) if random.random() < 0.6 else random.sample(nouns(), len(values))
    target, beside = random.sample(range(len(values)), 2)
    first, second = sorted((target, beside))
    p, q, one, two = values[first], values[second], things[first], things[second]
    slots = {
        "kind": kind, "p": p, "q": q, "one": one, "two": two, "asked": things[target],
        "x": random.choice(words()["names"]), "p_one": with_article(f"{p} {one}"), "q_two": with_article(f"{q} {two}"),
        "seen": joined([with_article(f"{value} {thing}") for thing, value in zip(things, values, strict=True)]),
    }  # fmt: skip
    slots |= statement_slots(random, [f"the {thing} is {value}" for thing, value in zip(things, values, strict=True)])
    rivals = [value for value in values if value != values[target]]
    return gold_answer(slots, [values[target]], content=(things[target],), rivals=rivals, in_context=True)


@skill("category_pick", "question")
def _category_pick(random: Random) -> Fill:
    members = facts()["categories"]
    kinds = sorted(members)
    kind = random.choice(kinds)
    member = random.choice(members[kind])
    homes = {k for k in kinds if member in members[k]}
    rival = random.choice([k for k in kinds if k not in homes and not overlap(k, kind)])
    pair = [kind, rival]
    random.shuffle(pair)
    this, that = (with_article(name) for name in pair)
    slots = {"member": member if kind in UNCOUNTED else with_article(member), "this": this, "that": that}
    golds = [with_article(kind), kind]
    return gold_answer(slots, golds, content=(member,), fact_key=f"kind:{member}", rivals=[rival], options=[this, that])


def overlap(a: str, b: str) -> bool:
    """Categories of which one thing may be both: an orange is a fruit and a color, a boat is a vehicle."""
    pairs = ({"color", "fruit"}, {"color", "metal"}, {"boat", "vehicle"}, {"fruit", "tree"}, {"color", "flower"},
             {"fruit", "vegetable"}, {"flower", "tree"}, {"metal", "tool"}, {"sport", "insect"})  # fmt: skip
    return {a, b} in pairs


def _row_of_numbers(random: Random) -> list[int]:
    """Four to seven numbers by one rule: constant steps up or down, growing steps, or a constant factor."""
    kind = random.choice(("up", "up", "up", "up", "down", "down", "round", "factor", "growing"))
    if kind == "factor":
        factor, length = random.choice((2, 2, 2, 3, 5, 10)), random.randint(5, 6)
        row = [random.randint(1, 12)]
        while len(row) < length:
            row.append(row[-1] * factor)
        return row
    length = random.randint(4, 7)
    if kind == "growing":
        start, step = random.randint(0, 20), random.randint(1, 3)
        return [start + sum(step + k for k in range(i)) for i in range(length + 1)]
    step, start = random.randint(1, 12), random.randint(1, 60)
    if kind == "round":
        step = random.choice((10, 15, 20, 25, 50, 100))
        start = step * random.randint(0, 8) or 5
    row = [start + step * i for i in range(length)]
    return row[::-1] if kind == "down" or (kind == "round" and random.random() < 0.3) else row


@skill("number_sequence", "completion", hard=True, rare=True)
def _number_sequence(random: Random) -> Fill:
    while True:
        *row, following = _row_of_numbers(random)
        key = "sequence:" + ",".join(map(str, row))
        if is_train(key):
            text = random.choice((", ", ", ", ", ", " ")).join(map(str, row))
            rivals = [str(row[-1]), str(following + 1), str(following - 1)]
            content = (f"{row[-2]} {row[-1]}",)
            return gold_answer({"list": text}, [str(following)], content=content, fact_key=key, rivals=rivals,
                               in_context=True)  # fmt: skip


@fact_skill("letter_sequence", "completion", hard=True, rare=True)
def _letter_sequence() -> list[Fill]:
    fills = []
    for start in range(26):
        for step in (-2, -1, 1, 2, 3, 4):
            for length in (3, 4, 5):
                row = [start + step * i for i in range(length + 1)]
                if not 0 <= row[-1] < 26:
                    continue
                letters = [chr(65 + i) for i in row]
                key = "sequence:" + ",".join(letters[:length]).lower()
                if is_train(key):
                    text, content = ", ".join(letters[:length]), (" ".join(letters[length - 2 : length]),)
                    rivals = [letters[length - 1]]
                    fills.append(
                        gold_answer({"list": text}, [letters[length]], content=content, fact_key=key, rivals=rivals,
                                    in_context=True)
                    )  # fmt: skip
    return fills


@skill("repeat_pattern", "completion")
def _repeat_pattern(random: Random) -> Fill:
    """Words, letters or digits that repeat in a unit of two to four, shown at least twice."""
    unit = random.choice(("ab", "ab", "abc", "abc", "aab", "abb", "abac", "abcd"))
    letters, digits = list("BCDEFGHJKLMNPQRSTUVWXYZ"), [str(n) for n in range(1, 10)]
    source = random.choice((plain("colors"), plain("colors"), plain_words(), plain_words(), letters, digits))
    words_of = dict(zip("abcd", random.sample(source, 4), strict=True))
    length = random.randint(2 * len(unit), 3 * len(unit) - 1)
    row = [words_of[unit[i % len(unit)]] for i in range(length + 1)]
    text = random.choice((" ", ", ", " - ")).join(row[:length])
    rivals = sorted(set(row) - {row[length]})
    return gold_answer({"list": text}, [row[length]], content=(text,), rivals=rivals, in_context=True)
