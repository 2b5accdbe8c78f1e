"""Fills of the skills whose answer stands in, or follows from, a few statements or a list in the instruction."""

from random import Random

from cai_bootstrap.instructions.fill import Fill, gold_answer
from cai_bootstrap.instructions.fills_facts import OWNING, UNCOUNTED, overlap
from cai_bootstrap.instructions.materials import joined, material, number_word, plain, row, some_things, statement_slots
from cai_bootstrap.instructions.pool import capitalised, facts, handwritten, is_train, nouns, with_article, words
from cai_bootstrap.instructions.registry import skill

# What one person is more than another, and the same seen from the other side.
DEGREES = (("taller", "shorter"), ("older", "younger"), ("faster", "slower"), ("stronger", "weaker"),
           ("richer", "poorer"), ("heavier", "lighter"), ("louder", "quieter"), ("happier", "sadder"))  # fmt: skip
GATHERED = ("bought", "packed", "found", "sold", "painted", "lost", "needs", "carries", "saw", "drew")
NO_LETTER = frozenset("ai")  # words by themselves


def _statements(random: Random) -> tuple[list[str], list[tuple[str, str]]]:
    """Two or three statements of one kind, as (who or what, what is said of it), and their texts."""
    kind, count = random.choice(("has", "place", "color")), random.choice((2, 2, 3))
    if kind == "has":
        verb = random.choice(OWNING)
        who = random.sample(words()["names"], count)
        predicates = [f"{verb} {with_article(thing)}" for thing in some_things(random, count)]
    else:
        who = [f"the {noun}" for noun in some_things(random, count)]
        values = random.sample(plain("colors"), count) if kind == "color" else _rooms(random, count)
        predicates = [f"is {value}" for value in values]
    pairs = list(zip(who, predicates, strict=True))
    return [f"{a} {b}" for a, b in pairs], pairs


def _rooms(random: Random, count: int) -> list[str]:
    return [f"in the {place}" for place in random.sample(plain("places"), count)]


def _claim(random: Random) -> tuple[dict[str, str], bool]:
    """Statements, a claim about one of them, and whether the statements bear it out."""
    texts, pairs = _statements(random)
    holds = random.random() < 0.5
    target, other = random.sample(range(len(pairs)), 2)
    claim = f"{pairs[target][0]} {pairs[target if holds else other][1]}"
    return {**statement_slots(random, texts), "claim": claim}, holds


@skill("true_false", "question", hard=True, two_answers=True)
def _true_false(random: Random) -> Fill:
    slots, holds = _claim(random)
    return gold_answer(slots, [str(holds)], content=(slots["claim"],), rivals=[str(not holds)], in_context=True)


@skill("yes_no_told", "question", hard=True, two_answers=True)
def _yes_no_told(random: Random) -> Fill:
    slots, holds = _claim(random)
    answer, claim = "yes" if holds else "no", slots["claim"]
    return Fill(slots, "yes_no", {"in_context": True}, [answer], None, capitalised(answer), (claim,), claim)


@skill("where_is", "question")
def _where_is(random: Random) -> Fill:
    """Two to four people in cities, or things in rooms, and one of them is asked for."""
    count = random.choice((2, 2, 3, 4))
    if random.random() < 0.4:
        who, places = random.sample(words()["names"], count), random.sample(words()["cities"], count)
        where = [f"in {place}" for place in places]
    else:
        places = random.sample(plain("places"), count)
        who = [f"the {thing}" for thing in some_things(random, count + 8) if thing not in places][:count]
        where = [f"in the {place}" for place in places]
    target = random.randrange(count)
    slots = {**statement_slots(random, [f"{a} is {b}" for a, b in zip(who, where, strict=True)]), "who": who[target]}
    golds = [capitalised(where[target]), places[target], where[target].removeprefix("in ")]
    rivals = [place for place in places if place != places[target]]
    return gold_answer(slots, golds, content=(who[target].removeprefix("the "),), rivals=rivals, in_context=True)


@skill("who_is_taller", "question")
def _who_is_taller(random: Random) -> Fill:
    x, y = random.sample(words()["names"], 2)
    pair = random.choice(DEGREES)
    more, less = pair if random.random() < 0.5 else pair[::-1]
    same = random.random() < 0.5
    gold, rival = (x, y) if same else (y, x)
    slots = {"x": x, "y": y, "more": more, "asked": more if same else less}
    return gold_answer(slots, [gold], content=(f"{x} {more}",), rivals=[rival], in_context=True)


@skill("how_many", "question", hard=True)
def _how_many(random: Random) -> Fill:
    n = random.randint(2, 7)
    things = some_things(random, n)
    name, verb = random.choice(words()["names"]), random.choice(GATHERED)
    text = joined([with_article(thing) for thing in things])
    slots = {"x": name, "verb": verb, "list": text}
    rivals = [spelled for other in range(1, 10) if other != n for spelled in (str(other), number_word(other))]
    golds = [str(n), number_word(n)]
    return gold_answer(slots, golds, content=(text,), rivals=[r for r in rivals if r != "one"], in_context=True)


@skill("which_first", "question", hard=True, rare=True)
def _which_first(random: Random) -> Fill:
    """The first or last of two to four words in the alphabet; no two begin with the same letter."""
    while True:
        options = row(random, 2, 4)
        if len({word[0].lower() for word in options}) == len(options):
            break
    end = random.choice(("first", "first", "last"))
    ranked = sorted(options, key=str.lower)
    gold = ranked[0] if end == "first" else ranked[-1]
    slots = {"options": joined(options, "or"), "list": ", ".join(options), "end": end}
    rivals = [word for word in options if word != gold]
    return gold_answer(slots, [gold], content=(" ".join(options),), rivals=rivals, in_context=True)


@skill("letter_position", "question", hard=True, rare=True)
def _letter_position(random: Random) -> Fill:
    """The first or last letter of a word, where that is no word by itself."""
    while True:
        word, end = (
            random.choice([*nouns(), *words()["names"], *plain("plain_topics")]),
            random.choice(("first", "last")),
        )
        letter = word[0 if end == "first" else -1].lower()
        if letter not in NO_LETTER:
            break
    slots = {"word": word, "end": end}
    rivals = sorted(set(word.lower()) - {letter} - NO_LETTER)
    return gold_answer(slots, [letter], content=(word,), rivals=rivals, in_context=True)


@skill("odd_one_out", "question")
def _odd_one_out(random: Random) -> Fill:
    """Two to four of one kind and one of another."""
    members = facts()["categories"]
    kind, other = random.sample(
        [k for k in sorted(members) if k not in UNCOUNTED and k not in ("shape", "body part")], 2
    )
    odd = random.choice(members[other])
    if overlap(kind, other) or odd in members[kind] or {kind, other} <= _ANIMALS:
        return _odd_one_out(random)
    same = random.sample([word for word in members[kind] if word not in members[other]], random.choice((2, 3, 3, 4)))
    options = [*same, odd]
    random.shuffle(options)
    slots = {"list": ", ".join(options), "options": joined(options, "or")}
    return gold_answer(slots, [odd], content=(odd,), rivals=same)


_ANIMALS = {"bird", "fish", "insect", "mammal", "reptile"}


@skill("fill_blank", "completion")
def _fill_blank(random: Random) -> Fill:
    sentence, unfinished, slot = random.choice(handwritten()["told"])
    values = material(random)
    value = values[slot]
    golds = [values[f"a_{slot}"], value] if slot in ("thing", "animal") and "kind of" not in unfinished else [value]
    rivals = [values[k] for k in ("name", "other", "city") if k != slot and f"{{{k}}}" in sentence]
    slots = {"told": sentence.format_map(values), "rest": unfinished.format_map(values)}
    return gold_answer(slots, golds, content=(value,), rivals=[r for r in rivals if r not in slots["rest"].split()],
                       in_context=True)  # fmt: skip


@skill("count_on", "completion", hard=True)
def _count_on(random: Random) -> Fill:
    """Numbers in words, counted up or down by ones, twos, fives or tens."""
    while True:
        step, length = random.choice((1, 1, 1, 2, 5, 10, -1, -2)), random.randint(3, 5)
        start = random.randint(1, 60)
        numbers = [start + step * i for i in range(length + 1)]
        row = [number_word(n) for n in numbers[:-1] if 0 < n <= 100]
        key = f"sequence:{','.join(row)}"
        if len(row) == length and 0 < numbers[-1] <= 100 and is_train(key):
            break
    golds = [number_word(numbers[-1]), str(numbers[-1])]
    text = random.choice((", ", ", ", " ")).join(row)
    return gold_answer({"list": text}, golds, content=(" ".join(row[-2:]),), fact_key=key, rivals=[row[-1]],
                       in_context=True)  # fmt: skip
