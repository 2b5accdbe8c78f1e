"""Fills of the skills that ask for or complete a fact: the world's, the language's, or one in the text itself."""

from functools import lru_cache
from random import Random

from cai_bootstrap.instructions.fill import Fill, Supply, drawn, gold_answer, listed
from cai_bootstrap.instructions.pool import capitalised, facts, is_train, nouns, plain_words, with_article, words

WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]  # fmt: skip
UNCOUNTED = {"color", "sport", "metal", "drink"}
GREATER = ("greater", "larger", "bigger", "higher")
LESS = ("smaller", "lower")
SIZES = ("small", "large", "huge", "tiny", "big", "tall", "short", "enormous", "medium")
SHAPES = ("round", "square", "oval", "flat", "curved", "triangular", "rectangular", "pointed")


def capital() -> Supply:
    return listed(
        [
            gold_answer({"country": row["country"]}, [row["capital"]], content=(row["key"],),
                        fact_key=f"capital:{row['key']}", closed_set="capitals")
            for row in facts()["countries"]
            if row["capital"]
        ]
    )  # fmt: skip


def currency() -> Supply:
    return listed(
        [
            gold_answer({"country": row["country"]}, row["currency"], content=(row["key"],),
                        fact_key=f"currency:{row['key']}", closed_set="currencies")
            for row in facts()["countries"]
            if row["currency"]
        ]
    )  # fmt: skip


def element_symbol() -> Supply:
    return listed(
        [
            gold_answer({"element": name.lower()}, [symbol], content=(name.lower(),),
                        fact_key=f"element_symbol:{name.lower()}", closed_set="element_symbols")
            for name, symbol in facts()["elements"]
        ]
    )  # fmt: skip


def antonym() -> Supply:
    answers: dict[str, list[str]] = {}
    for word, opposite in facts()["antonyms"]:
        answers.setdefault(word, []).append(opposite)
    return listed(
        [
            gold_answer({"word": word}, golds, content=(word,), fact_key=f"antonym:{word}", rivals=[word])
            for word, golds in answers.items()
        ]
    )


def _forms(kind: str, skill: str) -> Supply:
    return listed(
        [
            gold_answer({"word": word}, forms, content=(word,), fact_key=f"{skill}:{word}",
                        rivals=[] if word in forms else [word])
            for word, forms in facts()[kind]
        ]
    )  # fmt: skip


def plural() -> Supply:
    return _forms("plurals", "plural")


def past_tense() -> Supply:
    return _forms("pasts", "past_tense")


def weekday_month() -> Supply:
    fills = []
    for unit, names in (("day", WEEKDAYS), ("month", MONTHS)):
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
    return listed(fills)


def _two_numbers(random: Random, relation: str) -> tuple[int, int]:
    """Two different numbers whose comparison belongs to the training share in either order."""
    while True:
        top = random.choice((20, 100, 100, 1000))
        a, b = random.randint(1, top), random.randint(1, top)
        if a != b and is_train(f"{relation}:{a}:{b}") and is_train(f"{relation}:{b}:{a}"):
            return a, b


def _compare_numbers(random: Random) -> Fill:
    relation = random.choice(("greater", "less"))
    a, b = _two_numbers(random, relation)
    more = random.choice(GREATER if relation == "greater" else (*LESS, "less"))
    answer = "yes" if (a > b) == (relation == "greater") else "no"
    slots = {"a": str(a), "b": str(b), "more": more}
    args = {"in_context": True}
    return Fill(slots, "yes_no", args, [answer], f"{relation}:{a}:{b}", capitalised(answer), (f"{a} {b}",), f"{a},{b}")


def _compare_pick(random: Random) -> Fill:
    relation = random.choice(("max", "min"))
    a, b = _two_numbers(random, relation)
    more = random.choice(GREATER if relation == "max" else LESS)
    gold = max(a, b) if relation == "max" else min(a, b)
    slots = {"a": str(a), "b": str(b), "more": more}
    return gold_answer(slots, [str(gold)], content=(f"{a} {b}",), fact_key=f"{relation}:{a}:{b}",
                       rivals=[str(a + b - gold)], in_context=True)  # fmt: skip


def _who_has(random: Random) -> Fill:
    x, y = random.sample(words()["names"], 2)
    one, two = random.sample(words()["things"], 2)
    first = random.random() < 0.5
    owner, other, thing = (x, y, one) if first else (y, x, two)
    slots = {"x": x, "y": y, "one": with_article(one), "two": with_article(two), "the": f"the {thing}"}
    return gold_answer(slots, [owner], content=(thing,), rivals=[other], in_context=True)


@lru_cache(maxsize=1)
def _properties() -> dict[str, list[str]]:
    return {
        "color": [c for c in facts()["categories"]["color"] if is_train(c)],
        "size": [s for s in SIZES if is_train(s)],
        "shape": [s for s in SHAPES if is_train(s)],
    }


def _property_of(random: Random) -> Fill:
    kind = random.choice(("color", "color", "size", "shape"))
    p, q = random.sample(_properties()[kind], 2)
    one, two = random.sample(nouns(), 2)
    first = random.random() < 0.5
    slots = {"kind": kind, "p": p, "q": q, "one": one, "two": two, "asked": one if first else two}
    slots |= {
        "x": random.choice(words()["names"]),
        "p_one": with_article(f"{p} {one}"),
        "q_two": with_article(f"{q} {two}"),
    }
    gold, rival = (p, q) if first else (q, p)
    return gold_answer(slots, [gold], content=(slots["asked"],), rivals=[rival], in_context=True)


def _category_pick(random: Random) -> Fill:
    known = facts()["categories"]
    kinds = sorted(known)
    kind = random.choice(kinds)
    member = random.choice(known[kind])
    homes = {k for k in kinds if member in known[k]}
    rival = random.choice([k for k in kinds if k not in homes and not _overlap(k, kind)])
    pair = [kind, rival]
    random.shuffle(pair)
    this, that = (with_article(name) for name in pair)
    slots = {"member": member if kind in UNCOUNTED else with_article(member), "this": this, "that": that}
    golds = [with_article(kind), kind]
    return gold_answer(slots, golds, content=(member,), fact_key=f"kind:{member}", rivals=[rival], options=[this, that])


def _overlap(a: str, b: str) -> bool:
    """Categories of which one thing may be both: an orange is a fruit and a color, a boat is a vehicle."""
    pairs = ({"color", "fruit"}, {"color", "metal"}, {"boat", "vehicle"}, {"fruit", "tree"}, {"color", "flower"},
             {"fruit", "vegetable"}, {"flower", "tree"}, {"metal", "tool"}, {"sport", "insect"})  # fmt: skip
    return {a, b} in pairs


def _number_sequence(random: Random) -> Fill:
    while True:
        length = random.randint(3, 5)
        kind = random.choice(("up", "up", "up", "down", "double"))
        if kind == "double":
            start, row = random.randint(1, 12), []
            row = [start * 2**i for i in range(length + 1)]
        else:
            step = random.randint(1, 12)
            start = random.randint(1, 60)
            row = [start + step * i for i in range(length + 1)]
            if kind == "down":
                row = row[::-1]
        shown = row[:length]
        key = "sequence:" + ",".join(map(str, shown))
        if is_train(key):
            text = ", ".join(map(str, shown))
            rivals = [str(shown[-1]), str(row[length] + 1), str(row[length] - 1)]
            content = (f"{shown[-2]} {shown[-1]}",)
            return gold_answer({"list": text}, [str(row[length])], content=content, fact_key=key, rivals=rivals,
                               in_context=True)  # fmt: skip


def letter_sequence() -> Supply:
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
    return listed(fills)


def _repeat_pattern(random: Random) -> Fill:
    unit = random.choice(("ab", "ab", "abc", "aab"))
    source = _properties()["color"] if random.random() < 0.4 else plain_words()
    chosen = dict(zip("abc", random.sample(source, 3), strict=True))
    length = random.randint(2 * len(unit), 3 * len(unit) - 1)
    row = [chosen[unit[i % len(unit)]] for i in range(length + 1)]
    text = random.choice((" ", ", ")).join(row[:length])
    rivals = sorted(set(row) - {row[length]})
    return gold_answer({"list": text}, [row[length]], content=(text,), rivals=rivals, in_context=True)


def compare_numbers() -> Supply:
    return drawn("compare_numbers", _compare_numbers)


def compare_pick() -> Supply:
    return drawn("compare_pick", _compare_pick)


def who_has() -> Supply:
    return drawn("who_has", _who_has)


def property_of() -> Supply:
    return drawn("property_of", _property_of)


def category_pick() -> Supply:
    return drawn("category_pick", _category_pick)


def number_sequence() -> Supply:
    return drawn("number_sequence", _number_sequence)


def repeat_pattern() -> Supply:
    return drawn("repeat_pattern", _repeat_pattern)
