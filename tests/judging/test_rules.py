"""Rules: their grammar, what they hold for, and that the question's own words earn nothing."""

import pytest

from cai_bootstrap.judging.rules import Rule, clash, phrases, rule_fault, rule_holds

SHORT = {"check": "words", "max": 4}
THANKS = {"check": "starts_with", "text": "Thanks"}
ASKS = {"check": "question"}


def uses(*words: str) -> Rule:
    return {"check": "contains", "words": list(words)}


@pytest.mark.parametrize(
    "rule",
    [SHORT, THANKS, {"all": [SHORT, THANKS]}, {"any": [ASKS, {"not": SHORT}]}, {"not": {"all": [ASKS, THANKS]}}],
)
def test_a_sound_rule_has_no_fault(rule: Rule) -> None:
    assert rule_fault(rule) is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, "found nothing; a rule is one check"),
        ({}, "found nothing; a rule is one check"),
        ("words", "found 'words'; a rule is one check"),
        ({"max": 4}, "it names no 'check'"),
        ({"check": "word"}, "unknown check 'word'; one of "),
        ({"check": ["words"]}, "unknown check ['words']"),
        ({"check": "words", "mx": 4}, "unknown argument 'mx' of check 'words': it takes min, max; did you mean 'max'?"),
        ({"check": "words"}, "check 'words' needs 'min' or 'max', a number"),
        ({"check": "contains", "words": "red"}, "check 'contains' needs 'words', a list of words"),
        ({"all": []}, "'all' needs a list of rules"),
        ({"any": SHORT}, "'any' needs a list of rules"),
        ({"all": [SHORT], "any": [THANKS]}, "'all' stands beside 'any'"),
        ({"check": "words", "max": 4, "not": ASKS}, "'not' stands beside 'check'"),
        ({"all": [SHORT, {"any": [{"not": {"check": "x"}}]}]}, "all[1]: any[0]: not: unknown check 'x'"),
    ],
)
def test_a_fault_says_where_it_stands_and_what_is_expected(rule: object, expected: str) -> None:
    assert expected in str(rule_fault(rule))


@pytest.mark.parametrize(
    "rule",
    [
        {"all": [{"check": "words", "max": 3}, {"check": "words", "min": 5}]},
        {"all": [ASKS, {"not": ASKS}]},
        {"all": [uses("red"), {"not": uses("red")}]},
        {"all": [SHORT, {"check": "starts_with", "text": "I may be wrong, but"}]},
        {"not": {"check": "words", "min": 1}},
    ],
)
def test_a_rule_that_no_answer_can_keep_is_a_fault(rule: Rule) -> None:
    assert str(rule_fault(rule)).startswith("no answer passes it")


@pytest.mark.parametrize(
    "rule",
    [
        {"check": "words", "min": 1},
        {"any": [ASKS, {"not": ASKS}]},
        {"any": [SHORT, {"check": "words", "min": 5}]},
        {"any": [uses("red"), {"check": "forbids", "words": ["red"]}]},
    ],
)
def test_a_rule_that_every_answer_keeps_is_a_fault(rule: Rule) -> None:
    assert str(rule_fault(rule)).startswith("every answer passes it")


def test_all_any_and_not_join_checks() -> None:
    both, either = {"all": [SHORT, THANKS]}, {"any": [SHORT, THANKS]}
    assert rule_holds(both, "Why?", "Thanks! It rains.")
    assert not rule_holds(both, "Why?", "Thanks! It rains on the hill.")
    assert rule_holds(either, "Why?", "Thanks! It rains on the hill.")
    assert not rule_holds(either, "Why?", "It rains on the green hill.")
    assert rule_holds({"not": THANKS}, "Why?", "It rains.")


@pytest.mark.parametrize("rule", [SHORT, {"not": THANKS}, {"check": "forbids", "words": ["red"]}])
@pytest.mark.parametrize("answer", ["", "  \n", "…"])
def test_an_answer_without_a_word_keeps_no_rule(rule: Rule, answer: str) -> None:
    assert not rule_holds(rule, "Why?", answer)


@pytest.mark.parametrize(
    ("rule", "question", "answer", "expected"),
    [
        (uses("careful"), "Is a knife sharp?", "Yes, be careful.", True),
        (uses("careful"), "How do I stay careful?", "Be careful.", False),
        (uses("careful"), "What is a careful dog's bed?", "A careful bed.", False),
        (uses("careful|watch out"), "How do I stay careful?", "Be careful.", False),
        (uses("careful|watch out"), "How do I stay careful?", "Watch out.", True),
        (uses("be careful"), "What is careful work?", "Be careful.", True),
        (uses("red", "dog"), "Is it red?", "A red dog.", False),
        ({"check": "order", "words": ["one", "two"]}, "Say one.", "One, two.", False),
        ({"check": "order", "words": ["one", "two"]}, "Count!", "One, two.", True),
        (THANKS, "Thanks to whom do we read?", "Thanks to Ann.", False),
        (THANKS, "Who bakes bread?", "Thanks! A baker.", True),
        ({"check": "ends_with", "text": "good luck"}, "Who says good luck?", "I say good luck.", False),
        ({"check": "first_word", "word": "yes"}, "Is it so, yes or no?", "Yes.", False),
        ({"check": "last_word", "word": "now"}, "What now?", "Sleep now.", False),
        ({"check": "forbids", "words": ["red"]}, "Is a rose red?", "A rose is red.", True),
        ({"check": "forbids", "words": ["red", "blue"]}, "Is a rose red?", "Red or blue.", False),
        ({"check": "forbids", "words": ["red"]}, "What is a rose?", "A red flower.", False),
        ({"not": uses("red")}, "Is a rose red?", "A rose is red.", True),
        ({"check": "one_of", "words": ["yes", "no"]}, "Is it so, yes or no?", "Yes.", True),
        ({"check": "ends_with", "text": "?"}, "Why?", "Do you know?", True),
        (uses("!"), "Hey!", "Hello!", True),
        (SHORT, "How many words?", "How many words?", True),
        (uses("Thé"), "Is the cafe open?", "The café is open.", False),
    ],
)
def test_words_of_the_question_do_not_count(rule: Rule, question: str, answer: str, expected: bool) -> None:
    assert rule_fault(rule) is None
    assert rule_holds(rule, question, answer) is expected


def test_rules_that_exclude_each_other_clash() -> None:
    assert "no output passes both" in str(clash(THANKS, {"check": "starts_with", "text": "Sorry"}))
    assert "no output passes both" in str(
        clash({"any": [THANKS]}, {"all": [SHORT, {"check": "first_word", "word": "no"}]})
    )
    assert clash(ASKS, {"not": ASKS}) is not None
    assert clash(uses("please"), {"check": "forbids", "words": ["please"]}) is not None
    assert clash(SHORT, {"check": "starts_with", "text": "I may be wrong, but"}) is not None


def test_rules_that_some_answer_keeps_do_not_clash() -> None:
    assert clash(THANKS, ASKS, SHORT) is None
    assert clash({"any": [THANKS, ASKS]}, {"not": THANKS}) is None
    assert clash({"not": {"all": [SHORT, THANKS]}}, THANKS) is None
    many = {"any": [uses(f"w{n}") for n in range(30)]}
    assert clash(many, many) is None


def test_phrases_are_what_a_rule_looks_for() -> None:
    rule = {"all": [THANKS, {"not": uses("red|rot", "blue")}, SHORT, {"check": "first_word", "word": "no"}]}
    assert phrases(rule) == ["Thanks", "red", "rot", "blue", "no"]
