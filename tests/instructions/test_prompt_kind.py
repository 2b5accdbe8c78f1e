"""The kind of a prompt, by rule."""

import pytest

from cai_bootstrap.instructions.prompt_kind import LONG, kind_of
from cai_bootstrap.records import PromptKind

SAID: list[tuple[str, PromptKind]] = [
    ("What is a kite?", "question"),
    ("how does a candle burn", "question"),
    ("So, why do cats purr?", "question"),
    ("In what way does a geyser erupt?", "question"),
    ("Is a tomato a fruit or a vegetable?", "question"),
    ("I planted beans. Why do they die?", "question"),
    ("What is a kite? Answer in one sentence.", "question"),
    ("Is it cold on the moon?", "yes_no"),
    ("do you like bread", "yes_no"),
    ("Can you swim?", "yes_no"),
    ("You have a dog?", "yes_no"),
    ("Tell me about bread.", "request"),
    ("please, a poem about snow", "request"),
    ("Could you tell me about bread?", "request"),
    ("Would you please explain gravity?", "request"),
    ("I'd like to know how cheese is made.", "request"),
    ("Do the sum of 3 and 4.", "request"),
    ("Have a look at this sentence.", "request"),
    ("I lost my keys this morning.", "statement"),
    ("What a day!", "statement"),
    ("The capital of Peru is", "statement"),
    ("…", "statement"),
    ("", "statement"),
]


@pytest.mark.parametrize(("text", "kind"), SAID)
def test_a_prompt_has_the_kind_that_a_reader_would_name(text: str, kind: PromptKind) -> None:
    assert kind_of(text) == kind


def test_a_prompt_of_forty_words_is_long_whatever_it_asks() -> None:
    assert kind_of("word " * LONG + "?") == "long"
    assert kind_of("What " + "word " * (LONG - 2) + "?") == "question"
