"""Fills of the skills that write free text under explicit conditions (generation, finishing a sentence).

Beside `random`, each function takes the parts of a hand-written exemplar, in place of what it would draw itself.
"""

from functools import lru_cache
from random import Random
from typing import Any

from cai_bootstrap.instructions.fill import Fill, checked
from cai_bootstrap.instructions.materials import number_word, plain
from cai_bootstrap.instructions.pool import capitalised, handwritten, is_train, nouns, plain_words, plural, with_article
from cai_bootstrap.instructions.pool import words as word_lists
from cai_bootstrap.instructions.registry import FillMaker, WorkedFill, by_row, skill

STARTERS = ("Yesterday", "Today", "Tomorrow", "Suddenly", "Slowly", "Quickly", "Usually", "Sometimes", "Perhaps",
            "Maybe", "Finally", "Carefully", "Quietly", "Nobody", "Everyone", "Someone", "Outside", "Inside", "Please",
            "Luckily", "Often", "Never", "Once", "Soon", "Here", "There", "Although", "Because", "When", "If", "After",
            "Before", "Most", "Many", "Some", "Every", "My", "Our", "Without", "During", "Tonight", "Gently",
            "Nothing", "Everything", "Eventually", "Honestly", "Together", "Still", "Early")  # fmt: skip
ONE_SENTENCE: dict[str, Any] = {"check": "sentences", "min": 1, "max": 1}
MESSAGE_WORDS = 30
# A second rule for a sentence, in words that go on after "and"; `{value}` is its word or number.
RULES = {
    "max": ("use at most {value} words", "keep it to {value} words or fewer", "use no more than {value} words"),
    "start": ("begin with the word {value}", "let the first word be {value}", 'start with "{value}"'),
    "avoid": ("do not use the word {value}", 'leave out the word "{value}"', "never use the word {value}"),
    "include": ("use the word {value} too", 'put the word "{value}" in it', "let the word {value} appear in it"),
    "exclaim": ("end with an exclamation mark", "put an exclamation mark at the end"),
    "ask": ("make it a question", "end with a question mark"),
}


def _number(random: Random, n: int) -> str:
    return number_word(n) if random.random() < 0.6 else str(n)


def _topic(random: Random, topic: str = "", word: str = "") -> tuple[str, str]:
    """A topic as it stands in a text ("a kite", "old kites", "rain") and the word that an answer must contain."""
    if topic:
        return topic, word or topic.split()[-1]
    shape = random.random()
    if shape < 0.3:
        word = random.choice(plain("plain_topics"))
        return word, word
    noun = random.choice([*plain("plain_things"), *plain("plain_animals")] if shape < 0.7 else nouns())
    if random.random() < 0.2:
        described = f"{random.choice(plain('plain_adjectives'))} {noun}"
        return with_article(described), noun
    form = random.random()
    if form < 0.5:
        return with_article(noun), noun
    return (plural(noun), plural(noun)) if form < 0.8 else (f"the {noun}", noun)


def _name(random: Random) -> str:
    return random.choice(word_lists()["names"])


@lru_cache(maxsize=1)
def _starters() -> list[str]:
    return [w for w in STARTERS if is_train(w)] + word_lists()["names"] + [capitalised(plural(n)) for n in nouns()]


def _contains(*words: str) -> dict[str, Any]:
    return {"check": "contains", "words": list(words)}


@skill("sentence_about", "generation", exemplars=by_row)
def _sentence_about(random: Random, *row: str) -> Fill:
    topic, word = _topic(random, *row)
    return checked({"topic": topic}, [ONE_SENTENCE, _contains(word)], topic=word)


@skill("sentence_with_words", "generation", exemplars=by_row)
def _sentence_with_words(random: Random, a: str = "", b: str = "") -> Fill:
    while a == b:
        a = random.choice(nouns())
        b = random.choice([*nouns(), *plain_words(), *plain("plain_adjectives"), *plain("plain_topics")])
    return checked({"a": a, "b": b}, [ONE_SENTENCE, _contains(a, b)], topic=a)


def _limits_first(make: FillMaker, random: Random, rows: list[Any]) -> list[WorkedFill]:
    """Each topic with a limit that its answer keeps; all limits are drawn before the first fill."""
    limits = [random.randint(5, 10) for _ in rows]
    return [(make(random, topic, n), answer) for (topic, answer), n in zip(rows, limits, strict=True)]


@skill("max_words", "generation", exemplars=_limits_first)
def _max_words(random: Random, topic: str = "", n: int = 0) -> Fill:
    n = n or random.choice((4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 10, 10, 11, 12, 14, 15, 20))
    topic, word = _topic(random, topic)
    return checked({"topic": topic, "n": _number(random, n)}, [{"check": "words", "min": 1, "max": n}], topic=word)


@skill("start_with", "generation", exemplars=by_row)
def _start_with(random: Random, word: str = "") -> Fill:
    word = word or random.choice(_starters())
    return checked({"word": word}, [ONE_SENTENCE, {"check": "first_word", "word": word}], topic=word)


@skill("end_with", "generation", exemplars=by_row)
def _end_with(random: Random, word: str = "") -> Fill:
    word = word or random.choice(plain_words())
    return checked({"word": word}, [ONE_SENTENCE, {"check": "last_word", "word": word}], topic=word)


@skill("two_sentences", "generation", exemplars=by_row)
def _two_sentences(random: Random, *row: str) -> Fill:
    topic, word = _topic(random, *row)
    return checked({"topic": topic}, [{"check": "sentences", "min": 2, "max": 2}, _contains(word)], topic=word)


@skill("ask_question", "generation", exemplars=by_row)
def _ask_question(random: Random, *row: str) -> Fill:
    topic, word = _topic(random, *row)
    return checked({"topic": topic}, [ONE_SENTENCE, {"check": "question"}, _contains(word)], topic=word)


def _first_examples(make: FillMaker, random: Random, rows: list[Any]) -> list[WorkedFill]:
    """Each kind of things, and as many of its five examples as are asked for."""
    counts = ((things, examples, random.randint(2, 5)) for things, examples in rows)
    return [(make(random, things, n), ", ".join(examples.split(", ")[:n])) for things, examples, n in counts]


@skill("list_items", "generation", exemplars=_first_examples, rows="things")
def _list_items(random: Random, things: str = "", n: int = 0) -> Fill:
    if not things:
        things, examples = random.choice(handwritten()["things"])
        n = random.randint(2, len(examples.split(", ")))
    checks = [{"check": "list", "items": n, "separator": "comma"}]
    return checked({"things": things, "n": _number(random, n)}, checks, topic=things)


@skill("avoid_word", "generation", exemplars=by_row)
def _avoid_word(random: Random, topic: str = "", forbidden: str = "") -> Fill:
    if not topic and random.random() < 0.1:
        topic, forbidden = random.choice(handwritten()["avoid_pairs"])
    topic, word = _topic(random, topic)
    forbidden = forbidden or random.choice(plain("avoidable"))
    checks = [ONE_SENTENCE, _contains(word), {"check": "forbids", "words": [forbidden]}]
    return checked({"topic": topic, "word": forbidden}, checks, topic=word)


@skill("greeting", "generation", exemplars=by_row, rows="purposes")
def _greeting(random: Random, purpose: str = "") -> Fill:
    name = _name(random)
    purpose = purpose or random.choice(handwritten()["purposes"])[0]
    checks = [_contains(name), {"check": "words", "min": 1, "max": MESSAGE_WORDS}]
    return checked({"name": name, "purpose": purpose}, checks, topic=name)


@skill("finish_sentence", "completion", exemplars=by_row, rows="openings")
def _finish_sentence(random: Random, opening: str = "") -> Fill:
    start = opening or random.choice(handwritten()["openings"])[0]
    name, n = _name(random), random.randint(5, 12)
    checks: list[dict[str, Any]] = [
        {"check": "continues"},
        {"check": "words", "min": 1, "max": n},
        {"check": "ends_with", "text": "."},
    ]
    return checked({"start": start.replace("{name}", name), "n": str(n)}, checks, topic=opening or name)


@skill("words_in_order", "transformation", hard=True, exemplars=by_row)
def _words_in_order(random: Random, words: str = "") -> Fill:
    row = words.split(", ") if words else random.sample(nouns(), random.choice((2, 2, 3)))
    return checked({"list": ", ".join(row)}, [ONE_SENTENCE, {"check": "order", "words": row}], topic=row[0])


def _people_in_cities(make: FillMaker, random: Random, rows: list[Any]) -> list[WorkedFill]:
    """Each sentence about a name and a city of its own."""
    cities = random.sample(word_lists()["cities"], len(rows))
    names = random.sample(word_lists()["names"], len(rows))
    fills = [make(random, name, city) for name, city in zip(names, cities, strict=True)]
    return [(fill, answer.format_map(fill.slots)) for fill, answer in zip(fills, rows, strict=True)]


@skill("person_and_place", "generation", exemplars=_people_in_cities)
def _person_and_place(random: Random, name: str = "", city: str = "") -> Fill:
    name, city = name or _name(random), city or random.choice(word_lists()["cities"])
    return checked({"name": name, "city": city}, [ONE_SENTENCE, _contains(name, city)], topic=city)


@skill("word_range", "generation", exemplars=by_row)
def _word_range(random: Random, *row: str) -> Fill:
    """Exemplars have answers of four to seven words."""
    low = random.randint(2, 4 if row else 8)
    topic, word = _topic(random, *row)
    high = random.randint(7, 9) if row else low + random.randint(2, 5)
    slots = {"topic": topic, "low": number_word(low), "high": number_word(high)}
    return checked(slots, [{"check": "words", "min": low, "max": high}], topic=word)


@skill("question_to_person", "generation", exemplars=by_row)
def _question_to_person(random: Random, matter: str = "") -> Fill:
    if not matter:
        matter = random.choice(handwritten()["matters"]) if random.random() < 0.5 else _topic(random)[0]
    name = _name(random)
    return checked({"name": name, "matter": matter}, [ONE_SENTENCE, {"check": "question"}, _contains(name)], topic=name)


@skill("title", "generation", exemplars=by_row)
def _title(random: Random, *row: str) -> Fill:
    """Exemplars have answers of at most five words."""
    n = random.randint(5 if row else 3, 8)
    topic, word = _topic(random, *row)
    checks = [{"check": "words", "min": 1, "max": n}, {"check": "lines", "min": 1, "max": 1}]
    return checked({"topic": topic, "n": _number(random, n)}, checks, topic=word)


@skill("exclamation", "generation", exemplars=by_row)
def _exclamation(random: Random, *row: str) -> Fill:
    topic, word = _topic(random, *row)
    return checked({"topic": topic}, [ONE_SENTENCE, {"check": "ends_with", "text": "!"}, _contains(word)], topic=word)


def _rule_value(random: Random, kind: str, topic: str) -> str:
    """What a rule is about: a number, a word, or nothing."""
    if kind == "max":
        return str(random.randint(5, 15))
    if kind == "start":
        return random.choice(_starters())
    if kind == "avoid":
        return random.choice(plain("avoidable"))
    return random.choice([noun for noun in nouns() if noun not in topic]) if kind == "include" else ""


@skill("two_rules", "generation", exemplars=by_row)
def _two_rules(random: Random, topic: str = "", word: str = "", kind: str = "", value: str = "") -> Fill:
    """One sentence about a topic under one of `RULES`, in one of the rule's wordings."""
    topic, word = _topic(random, topic, word)
    if not kind:
        kind = random.choice(list(RULES))
        value = _rule_value(random, kind, topic)
    rule: dict[str, dict[str, Any]] = {
        "max": {"check": "words", "min": 1, "max": int(value) if kind == "max" else 0},
        "start": {"check": "first_word", "word": value},
        "avoid": {"check": "forbids", "words": [value]},
        "include": _contains(word, value),
        "exclaim": {"check": "ends_with", "text": "!"},
        "ask": {"check": "question"},
    }
    slots = {"topic": topic, "rule": random.choice(RULES[kind]).format(value=value)}
    topic_check = [] if kind == "include" else [_contains(word)]
    return checked(slots, [ONE_SENTENCE, *topic_check, rule[kind]], topic=word)
