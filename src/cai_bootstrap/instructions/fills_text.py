"""Fills of the skills that write free text under explicit conditions (generation, finishing a sentence).

For each skill: the fill of a topic or word, the hand-written exemplars where they are more than rows of it, the skill.
"""

from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

from cai_bootstrap.instructions.fill import Fill, checked
from cai_bootstrap.instructions.materials import number_word, plain
from cai_bootstrap.instructions.pool import capitalised, handwritten, is_train, nouns, plain_words, plural, with_article
from cai_bootstrap.instructions.pool import words as word_lists
from cai_bootstrap.instructions.registry import Exemplars, WorkedFill, skill

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


def _topic(random: Random) -> tuple[str, str]:
    """A topic as it stands in a text ("a kite", "old kites", "rain") and the word that an answer must contain."""
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


def _last_word(topic: str) -> str:
    """The word of a hand-written topic that an answer must contain."""
    return topic.split()[-1]


def _by_row(fill: Callable[..., Fill]) -> Exemplars:
    """Exemplars of rows that end in the answer; `fill` takes what stands before it."""
    return lambda _, rows: [(fill(*parts), answer) for *parts, answer in rows]


def _about(topic: str, word: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [word]}]
    return checked({"topic": topic}, checks, topic=word)


@skill("sentence_about", "generation", exemplars=_by_row(_about))
def _sentence_about(random: Random) -> Fill:
    return _about(*_topic(random))


def _with_words(a: str, b: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [a, b]}]
    return checked({"a": a, "b": b}, checks, topic=a)


@skill("sentence_with_words", "generation", exemplars=_by_row(_with_words))
def _sentence_with_words(random: Random) -> Fill:
    a, b = (
        random.choice(nouns()),
        random.choice([*nouns(), *plain_words(), *plain("plain_adjectives"), *plain("plain_topics")]),
    )
    return _with_words(a, b) if a != b else _sentence_with_words(random)


def _at_most(random: Random, topic: str, word: str, n: int) -> Fill:
    return checked({"topic": topic, "n": _number(random, n)}, [{"check": "words", "min": 1, "max": n}], topic=word)


def _max_words_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    limits = [random.randint(5, 10) for _ in rows]
    return [
        (_at_most(random, topic, _last_word(topic), n), answer) for (topic, answer), n in zip(rows, limits, strict=True)
    ]


@skill("max_words", "generation", exemplars=_max_words_exemplars)
def _max_words(random: Random) -> Fill:
    n = random.choice((4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 10, 10, 11, 12, 14, 15, 20))
    return _at_most(random, *_topic(random), n)


@lru_cache(maxsize=1)
def _starters() -> list[str]:
    return [w for w in STARTERS if is_train(w)] + word_lists()["names"] + [capitalised(plural(n)) for n in nouns()]


def _starting(word: str) -> Fill:
    return checked({"word": word}, [ONE_SENTENCE, {"check": "first_word", "word": word}], topic=word)


@skill("start_with", "generation", exemplars=_by_row(_starting))
def _start_with(random: Random) -> Fill:
    return _starting(random.choice(_starters()))


def _ending(word: str) -> Fill:
    return checked({"word": word}, [ONE_SENTENCE, {"check": "last_word", "word": word}], topic=word)


@skill("end_with", "generation", exemplars=_by_row(_ending))
def _end_with(random: Random) -> Fill:
    return _ending(random.choice(plain_words()))


def _two(topic: str, word: str) -> Fill:
    checks: list[dict[str, Any]] = [{"check": "sentences", "min": 2, "max": 2}, {"check": "contains", "words": [word]}]
    return checked({"topic": topic}, checks, topic=word)


@skill("two_sentences", "generation", exemplars=_by_row(lambda topic: _two(topic, _last_word(topic))))
def _two_sentences(random: Random) -> Fill:
    return _two(*_topic(random))


def _question_about(topic: str, word: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "question"}, {"check": "contains", "words": [word]}]
    return checked({"topic": topic}, checks, topic=word)


@skill("ask_question", "generation", exemplars=_by_row(_question_about))
def _ask_question(random: Random) -> Fill:
    return _question_about(*_topic(random))


def _items(random: Random, things: str, n: int) -> Fill:
    checks = [{"check": "list", "items": n, "separator": "comma"}]
    return checked({"things": things, "n": _number(random, n)}, checks, topic=things)


def _list_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    return [
        (_items(random, things, n), ", ".join(examples.split(", ")[:n]))
        for things, examples in rows
        for n in (random.randint(2, 5),)
    ]


@skill("list_items", "generation", exemplars=_list_exemplars, rows="things")
def _list_items(random: Random) -> Fill:
    things, examples = random.choice(handwritten()["things"])
    return _items(random, things, random.randint(2, len(examples.split(", "))))


def _without(topic: str, word: str, forbidden: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [word]}, {"check": "forbids", "words": [forbidden]}]
    return checked({"topic": topic, "word": forbidden}, checks, topic=word)


@skill("avoid_word", "generation", exemplars=_by_row(lambda topic, word: _without(topic, _last_word(topic), word)))
def _avoid_word(random: Random) -> Fill:
    if random.random() < 0.1:
        topic, forbidden = random.choice(handwritten()["avoid_pairs"])
        return _without(topic, _last_word(topic), forbidden)
    return _without(*_topic(random), random.choice(plain("avoidable")))


def _message(name: str, purpose: str) -> Fill:
    checks: list[dict[str, Any]] = [
        {"check": "contains", "words": [name]},
        {"check": "words", "min": 1, "max": MESSAGE_WORDS},
    ]
    return checked({"name": name, "purpose": purpose}, checks, topic=name)


def _greeting_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    named = [(_name(random), purpose, answer) for purpose, answer in rows]
    return [(_message(name, purpose), answer.replace("{name}", name)) for name, purpose, answer in named]


@skill("greeting", "generation", exemplars=_greeting_exemplars, rows="purposes")
def _greeting(random: Random) -> Fill:
    return _message(_name(random), random.choice(handwritten()["purposes"])[0])


def _opening(start: str, n: int, topic: str) -> Fill:
    checks: list[dict[str, Any]] = [
        {"check": "continues"},
        {"check": "words", "min": 1, "max": n},
        {"check": "ends_with", "text": "."},
    ]
    return checked({"start": start, "n": str(n)}, checks, topic=topic)


def _opening_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    return [
        (_opening(start.replace("{name}", _name(random)), random.randint(5, 12), start), answer)
        for start, answer in rows
    ]


@skill("finish_sentence", "completion", exemplars=_opening_exemplars, rows="openings")
def _finish_sentence(random: Random) -> Fill:
    start, _ = random.choice(handwritten()["openings"])
    name = _name(random)
    return _opening(start.replace("{name}", name), random.randint(5, 12), name)


def _ordered(row: list[str]) -> Fill:
    checks = [ONE_SENTENCE, {"check": "order", "words": row}]
    return checked({"list": ", ".join(row)}, checks, topic=row[0])


@skill("words_in_order", "transformation", hard=True, exemplars=_by_row(lambda row: _ordered(row.split(", "))))
def _words_in_order(random: Random) -> Fill:
    return _ordered(random.sample(nouns(), random.choice((2, 2, 3))))


def _in_place(name: str, city: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [name, city]}]
    return checked({"name": name, "city": city}, checks, topic=city)


def _place_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    cities = random.sample(word_lists()["cities"], len(rows))
    names = random.sample(word_lists()["names"], len(rows))
    return [
        (_in_place(name, city), answer.format(name=name, city=city))
        for answer, name, city in zip(rows, names, cities, strict=True)
    ]


@skill("person_and_place", "generation", exemplars=_place_exemplars)
def _person_and_place(random: Random) -> Fill:
    return _in_place(_name(random), random.choice(word_lists()["cities"]))


def _between(topic: str, word: str, low: int, high: int) -> Fill:
    slots = {"topic": topic, "low": number_word(low), "high": number_word(high)}
    return checked(slots, [{"check": "words", "min": low, "max": high}], topic=word)


def _range_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    return [
        (_between(topic, _last_word(topic), random.randint(2, 4), random.randint(7, 9)), answer)
        for topic, answer in rows
    ]


@skill("word_range", "generation", exemplars=_range_exemplars)
def _word_range(random: Random) -> Fill:
    low = random.randint(2, 8)
    return _between(*_topic(random), low, low + random.randint(2, 5))


def _asking(name: str, matter: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "question"}, {"check": "contains", "words": [name]}]
    return checked({"name": name, "matter": matter}, checks, topic=name)


def _asking_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    named = [(_name(random), matter, answer) for matter, answer in rows]
    return [(_asking(name, matter), answer.replace("{name}", name)) for name, matter, answer in named]


@skill("question_to_person", "generation", exemplars=_asking_exemplars)
def _question_to_person(random: Random) -> Fill:
    matter = random.choice(handwritten()["matters"]) if random.random() < 0.5 else _topic(random)[0]
    return _asking(_name(random), matter)


def _titled(random: Random, topic: str, word: str, n: int) -> Fill:
    checks = [{"check": "words", "min": 1, "max": n}, {"check": "lines", "min": 1, "max": 1}]
    return checked({"topic": topic, "n": _number(random, n)}, checks, topic=word)


def _title_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    return [(_titled(random, topic, _last_word(topic), random.randint(5, 8)), answer) for topic, answer in rows]


@skill("title", "generation", exemplars=_title_exemplars)
def _title(random: Random) -> Fill:
    n = random.randint(3, 8)
    return _titled(random, *_topic(random), n)


def _exclaimed(topic: str, word: str) -> Fill:
    checks: list[dict[str, Any]] = [ONE_SENTENCE, {"check": "ends_with", "text": "!"}]
    return checked({"topic": topic}, [*checks, {"check": "contains", "words": [word]}], topic=word)


@skill("exclamation", "generation", exemplars=_by_row(_exclaimed))
def _exclamation(random: Random) -> Fill:
    return _exclaimed(*_topic(random))


def _ruled(random: Random, topic: str, word: str, kind: str, value: str) -> Fill:
    """One sentence about a topic under one of `RULES`, in one of the rule's wordings."""
    rule: dict[str, dict[str, Any]] = {
        "max": {"check": "words", "min": 1, "max": int(value) if kind == "max" else 0},
        "start": {"check": "first_word", "word": value},
        "avoid": {"check": "forbids", "words": [value]},
        "include": {"check": "contains", "words": [word, value]},
        "exclaim": {"check": "ends_with", "text": "!"},
        "ask": {"check": "question"},
    }
    topic_check = [] if kind == "include" else [{"check": "contains", "words": [word]}]
    slots = {"topic": topic, "rule": random.choice(RULES[kind]).format(value=value)}
    return checked(slots, [ONE_SENTENCE, *topic_check, rule[kind]], topic=word)


def _rule_value(random: Random, kind: str, topic: str) -> str:
    """What a rule is about: a number, a word, or nothing."""
    if kind == "max":
        return str(random.randint(5, 15))
    if kind == "start":
        return random.choice(_starters())
    if kind == "avoid":
        return random.choice(plain("avoidable"))
    return random.choice([noun for noun in nouns() if noun not in topic]) if kind == "include" else ""


def _rule_exemplars(random: Random, rows: list[Any]) -> list[WorkedFill]:
    return [(_ruled(random, *parts), answer) for *parts, answer in rows]


@skill("two_rules", "generation", exemplars=_rule_exemplars)
def _two_rules(random: Random) -> Fill:
    topic, word = _topic(random)
    kind = random.choice(list(RULES))
    return _ruled(random, topic, word, kind, _rule_value(random, kind, topic))
