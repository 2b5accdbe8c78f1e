"""What instructions are about: short texts of varied syntax, rows of words, and numbers, of the training share only."""

from functools import lru_cache
from random import Random

from cai_bootstrap.instructions.pool import (
    capitalised,
    handwritten,
    is_train,
    nouns,
    plain_words,
    plural,
    with_article,
    words,
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@lru_cache(maxsize=8)
def plain(kind: str) -> list[str]:
    """Everyday words written down by hand (`colors`, `places`, `plain_things`, ...), those of the training share."""
    return [word for word in handwritten()[kind] if is_train(word)]


def number_word(n: int) -> str:
    """A number from 0 to 100 in words. Raises IndexError above."""
    if n == 100:
        return "one hundred"
    if n < 20:
        return _ONES[n]
    return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")


def adjective(random: Random) -> str:
    """An adjective, an everyday one more often than not."""
    return random.choice(plain("plain_adjectives") if random.random() < 0.75 else words()["adjectives"])


def material(random: Random) -> dict[str, str]:
    """A value for every slot that a hand-written text may have; those of one kind differ from each other."""
    noun, second = random.sample(nouns(), 2) if random.random() < 0.6 else some_things(random, 2)
    thing, other_thing = some_things(random, 2)
    name, other = random.sample(words()["names"], 2)
    animal, food = random.choice(plain("plain_animals")), random.choice(words()["food"])
    adj, adj2 = random.sample(plain("plain_adjectives"), 2)
    return {
        "name": name, "other": other, "city": random.choice(words()["cities"]), "thing": thing,
        "a_thing": with_article(thing), "other_thing": other_thing, "noun": noun, "a_noun": with_article(noun),
        "nouns": plural(second), "animal": animal, "animals": plural(animal), "a_animal": with_article(animal),
        "food": food, "adj": adj, "adj2": adj2, "a_adj": with_article(adj), "color": random.choice(plain("colors")),
        "day": random.choice(DAYS), "month": random.choice(MONTHS), "n": str(random.randint(2, 60)),
    }  # fmt: skip


def phrase(random: Random) -> str:
    """A short text of 2 to 10 words without end punctuation: a clause, a noun phrase, a wish, or a row of words."""
    if random.random() < 0.12:
        return " ".join(row(random, 3, 6))
    text: str = random.choice(handwritten()["sentences"])
    return text.format_map(material(random))


def row(random: Random, low: int, high: int) -> list[str]:
    """From `low` to `high` different words: things of every kind, or all names, cities, colors or adjectives."""
    sources = [plain_words(), plain_words(), plain_words(), plain("plain_things"), words()["names"], words()["cities"],
               plain("colors"), plain("plain_adjectives"), words()["food"], plain("plain_animals")]  # fmt: skip
    return random.sample(random.choice(sources), random.randint(low, high))


def different_words(random: Random, least: int = 3) -> list[str]:
    """The words of a phrase that has at least `least` of them, all different."""
    while True:
        row = phrase(random).split()
        if len(row) >= least and len({word.lower() for word in row}) == len(row):
            return row


def joined(parts: list[str], last: str = "and") -> str:
    """Parts as a sentence lists them: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def statement_slots(random: Random, facts: list[str]) -> dict[str, str]:
    """Several statements for two slots: `facts` is one clause, `told` may be sentences, without the last full stop."""
    if len(facts) == 2 and random.random() < 0.4:
        clause = random.choice((f"{facts[0]}, but {facts[1]}", f"{facts[0]}, while {facts[1]}"))
    else:
        clause = joined(facts)
    sentences = ". ".join(map(capitalised, facts))
    return {"facts": clause, "told": random.choice((clause, sentences, "; ".join(facts)))}


def some_things(random: Random, count: int) -> list[str]:
    """Different things that one can have, everyday ones more often than not."""
    return random.sample(plain("plain_things") if random.random() < 0.65 else words()["things"], count)
