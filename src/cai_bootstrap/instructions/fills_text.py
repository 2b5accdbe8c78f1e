"""Fills of the skills that write free text under explicit conditions (generation, finishing a sentence)."""

from functools import lru_cache
from random import Random
from typing import Any

from cai_bootstrap.instructions.fill import Fill, Supply, checked, drawn
from cai_bootstrap.instructions.materials import number_word, plain
from cai_bootstrap.instructions.pool import capitalised, handwritten, is_train, nouns, plain_words, plural, with_article
from cai_bootstrap.instructions.pool import words as word_lists

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


def about(topic: str, word: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [word]}]
    return checked({"topic": topic}, checks, topic=word)


def with_words(a: str, b: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [a, b]}]
    return checked({"a": a, "b": b}, checks, topic=a)


def at_most(topic: str, word: str, n: int, shown: str) -> Fill:
    return checked({"topic": topic, "n": shown}, [{"check": "words", "min": 1, "max": n}], topic=word)


def starting(word: str) -> Fill:
    return checked({"word": word}, [ONE_SENTENCE, {"check": "first_word", "word": word}], topic=word)


def ending(word: str) -> Fill:
    return checked({"word": word}, [ONE_SENTENCE, {"check": "last_word", "word": word}], topic=word)


def two(topic: str, word: str) -> Fill:
    checks: list[dict[str, Any]] = [{"check": "sentences", "min": 2, "max": 2}, {"check": "contains", "words": [word]}]
    return checked({"topic": topic}, checks, topic=word)


def question_about(topic: str, word: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "question"}, {"check": "contains", "words": [word]}]
    return checked({"topic": topic}, checks, topic=word)


def items(things: str, n: int, shown: str) -> Fill:
    checks = [{"check": "list", "items": n, "separator": "comma"}]
    return checked({"things": things, "n": shown}, checks, topic=things)


def without(topic: str, word: str, forbidden: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "contains", "words": [word]}, {"check": "forbids", "words": [forbidden]}]
    return checked({"topic": topic, "word": forbidden}, checks, topic=word)


def message(name: str, purpose: str) -> Fill:
    checks: list[dict[str, Any]] = [
        {"check": "contains", "words": [name]},
        {"check": "words", "min": 1, "max": MESSAGE_WORDS},
    ]
    return checked({"name": name, "purpose": purpose}, checks, topic=name)


def opening(start: str, n: int, topic: str) -> Fill:
    checks: list[dict[str, Any]] = [
        {"check": "continues"},
        {"check": "words", "min": 1, "max": n},
        {"check": "ends_with", "text": "."},
    ]
    return checked({"start": start, "n": str(n)}, checks, topic=topic)


def in_place(name: str, city: str) -> Fill:
    return checked(
        {"name": name, "city": city}, [ONE_SENTENCE, {"check": "contains", "words": [name, city]}], topic=city
    )


def between(topic: str, word: str, low: int, high: int) -> Fill:
    slots = {"topic": topic, "low": number_word(low), "high": number_word(high)}
    return checked(slots, [{"check": "words", "min": low, "max": high}], topic=word)


def asking(name: str, matter: str) -> Fill:
    checks = [ONE_SENTENCE, {"check": "question"}, {"check": "contains", "words": [name]}]
    return checked({"name": name, "matter": matter}, checks, topic=name)


def titled(topic: str, word: str, n: int, shown: str) -> Fill:
    checks = [{"check": "words", "min": 1, "max": n}, {"check": "lines", "min": 1, "max": 1}]
    return checked({"topic": topic, "n": shown}, checks, topic=word)


def exclaimed(topic: str, word: str) -> Fill:
    checks: list[dict[str, Any]] = [ONE_SENTENCE, {"check": "ends_with", "text": "!"}]
    return checked({"topic": topic}, [*checks, {"check": "contains", "words": [word]}], topic=word)


def ruled(topic: str, word: str, kind: str, value: str, shown: str) -> Fill:
    """One sentence about a topic under one of `RULES`; `shown` is the rule as the instruction words it."""
    rule: dict[str, dict[str, Any]] = {
        "max": {"check": "words", "min": 1, "max": int(value) if kind == "max" else 0},
        "start": {"check": "first_word", "word": value},
        "avoid": {"check": "forbids", "words": [value]},
        "include": {"check": "contains", "words": [word, value]},
        "exclaim": {"check": "ends_with", "text": "!"},
        "ask": {"check": "question"},
    }
    about_it = [] if kind == "include" else [{"check": "contains", "words": [word]}]
    return checked(
        {"topic": topic, "rule": shown.format(value=value)}, [ONE_SENTENCE, *about_it, rule[kind]], topic=word
    )


def ordered(row: list[str]) -> Fill:
    checks = [ONE_SENTENCE, {"check": "order", "words": row}]
    return checked({"list": ", ".join(row)}, checks, topic=row[0])


@lru_cache(maxsize=1)
def _starters() -> list[str]:
    return [w for w in STARTERS if is_train(w)] + word_lists()["names"] + [capitalised(plural(n)) for n in nouns()]


def _two_words(random: Random) -> Fill:
    a, b = (
        random.choice(nouns()),
        random.choice([*nouns(), *plain_words(), *plain("plain_adjectives"), *plain("plain_topics")]),
    )
    return with_words(a, b) if a != b else _two_words(random)


def _at_most(random: Random) -> Fill:
    n = random.choice((4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 10, 10, 11, 12, 14, 15, 20))
    return at_most(*_topic(random), n, _number(random, n))


def _items(random: Random) -> Fill:
    things, examples = random.choice(handwritten()["things"])
    n = random.randint(2, len(examples.split(", ")))
    return items(things, n, _number(random, n))


def _without(random: Random) -> Fill:
    if random.random() < 0.1:
        topic, forbidden = random.choice(handwritten()["avoid_pairs"])
        return without(topic, topic.split()[-1], forbidden)
    return without(*_topic(random), random.choice(plain("avoidable")))


def _message(random: Random) -> Fill:
    return message(random.choice(word_lists()["names"]), random.choice(handwritten()["purposes"])[0])


def _opening(random: Random) -> Fill:
    start, _ = random.choice(handwritten()["openings"])
    name = random.choice(word_lists()["names"])
    return opening(start.replace("{name}", name), random.randint(5, 12), name)


def _ordered(random: Random) -> Fill:
    row = random.sample(nouns(), random.choice((2, 2, 3)))
    return ordered(row)


def _in_place(random: Random) -> Fill:
    return in_place(random.choice(word_lists()["names"]), random.choice(word_lists()["cities"]))


def _between(random: Random) -> Fill:
    low = random.randint(2, 8)
    return between(*_topic(random), low, low + random.randint(2, 5))


def _asking(random: Random) -> Fill:
    matter = random.choice(handwritten()["matters"]) if random.random() < 0.5 else _topic(random)[0]
    return asking(random.choice(word_lists()["names"]), matter)


def _titled(random: Random) -> Fill:
    n = random.randint(3, 8)
    return titled(*_topic(random), n, _number(random, n))


def _rule_value(random: Random, kind: str, topic: str) -> str:
    """What a rule is about: a number, a word, or nothing."""
    if kind == "max":
        return str(random.randint(5, 15))
    if kind == "start":
        return random.choice(_starters())
    if kind == "avoid":
        return random.choice(plain("avoidable"))
    return random.choice([noun for noun in nouns() if noun not in topic]) if kind == "include" else ""


def _ruled(random: Random) -> Fill:
    topic, word = _topic(random)
    kind = random.choice(list(RULES))
    return ruled(topic, word, kind, _rule_value(random, kind, topic), random.choice(RULES[kind]))


def sentence_about() -> Supply:
    return drawn("sentence_about", lambda random: about(*_topic(random)))


def sentence_with_words() -> Supply:
    return drawn("sentence_with_words", _two_words)


def max_words() -> Supply:
    return drawn("max_words", _at_most)


def start_with() -> Supply:
    return drawn("start_with", lambda random: starting(random.choice(_starters())))


def end_with() -> Supply:
    return drawn("end_with", lambda random: ending(random.choice(plain_words())))


def two_sentences() -> Supply:
    return drawn("two_sentences", lambda random: two(*_topic(random)))


def ask_question() -> Supply:
    return drawn("ask_question", lambda random: question_about(*_topic(random)))


def list_items() -> Supply:
    return drawn("list_items", _items)


def avoid_word() -> Supply:
    return drawn("avoid_word", _without)


def greeting() -> Supply:
    return drawn("greeting", _message)


def finish_sentence() -> Supply:
    return drawn("finish_sentence", _opening)


def words_in_order() -> Supply:
    return drawn("words_in_order", _ordered)


def two_rules() -> Supply:
    return drawn("two_rules", _ruled)


def person_and_place() -> Supply:
    return drawn("person_and_place", _in_place)


def word_range() -> Supply:
    return drawn("word_range", _between)


def question_to_person() -> Supply:
    return drawn("question_to_person", _asking)


def title() -> Supply:
    return drawn("title", _titled)


def exclamation() -> Supply:
    return drawn("exclamation", lambda random: exclaimed(*_topic(random)))


def written_exemplars(skill: str, random: Random) -> list[tuple[Fill, str]]:
    """Every hand-written exemplar of a free-text skill, with its answer; names and numbers are drawn."""
    written = handwritten()
    names = word_lists()["names"]
    rows = written["exemplars"].get(skill, [])
    if skill == "sentence_about":
        return [(about(topic, word), answer) for topic, word, answer in rows]
    if skill == "sentence_with_words":
        return [(with_words(a, b), answer) for a, b, answer in rows]
    if skill == "max_words":
        drawn_numbers = [random.randint(5, 10) for _ in rows]
        return [
            (at_most(topic, topic.split()[-1], n, _number(random, n)), answer)
            for (topic, answer), n in zip(rows, drawn_numbers, strict=True)
        ]
    if skill == "start_with":
        return [(starting(word), answer) for word, answer in rows]
    if skill == "end_with":
        return [(ending(word), answer) for word, answer in rows]
    if skill == "two_sentences":
        return [(two(topic, topic.split()[-1]), answer) for topic, answer in rows]
    if skill == "ask_question":
        return [(question_about(topic, word), answer) for topic, word, answer in rows]
    if skill == "avoid_word":
        return [(without(topic, topic.split()[-1], word), answer) for topic, word, answer in rows]
    if skill == "words_in_order":
        return [(ordered(row.split(", ")), answer) for row, answer in rows]
    if skill == "person_and_place":
        places = random.sample(word_lists()["cities"], len(rows))
        return [
            (in_place(name, city), answer.format(name=name, city=city))
            for answer, name, city in zip(rows, random.sample(names, len(rows)), places, strict=True)
        ]
    if skill == "word_range":
        return [(between(topic, topic.split()[-1], random.randint(2, 4), random.randint(7, 9)), answer)
                for topic, answer in rows]  # fmt: skip
    if skill == "question_to_person":
        return [(asking(name, matter), answer.replace("{name}", name))
                for matter, answer in rows for name in (random.choice(names),)]  # fmt: skip
    if skill == "title":
        return [(titled(topic, topic.split()[-1], n, _number(random, n)), answer)
                for topic, answer in rows for n in (random.randint(5, 8),)]  # fmt: skip
    if skill == "two_rules":
        return [(ruled(topic, word, kind, value, random.choice(RULES[kind])), answer)
                for topic, word, kind, value, answer in rows]  # fmt: skip
    if skill == "exclamation":
        return [(exclaimed(topic, word), answer) for topic, word, answer in rows]
    if skill == "list_items":
        return [
            (items(things, n, _number(random, n)), ", ".join(examples.split(", ")[:n]))
            for things, examples in written["things"]
            for n in (random.randint(2, 5),)
        ]
    if skill == "greeting":
        return [
            (message(name, purpose), answer.replace("{name}", name))
            for purpose, answer in written["purposes"]
            for name in (random.choice(names),)
        ]
    if skill == "finish_sentence":
        return [
            (opening(start.replace("{name}", name), random.randint(5, 12), start), answer)
            for start, answer in written["openings"]
            for name in (random.choice(names),)
        ]
    return []
