"""Leakage: held-out facts, texts and near copies are found; a shared frame alone is not."""

import pytest

from cai_bootstrap.instructions.leakage import REASONS, LeakageIndex
from cai_bootstrap.records import EvalItem


def item(number: int, text: str, *, template: str = "t", fact_key: str | None = None, gold: str = "") -> EvalItem:
    return EvalItem(
        id=str(number), split="test", type="question", template=template, instruction=text, scorer="answer",
        gold=[gold] if gold else [], fact_key=fact_key, source="test", difficulty="easy",
    )  # fmt: skip


ITEMS = [
    item(1, "What is the capital of France?", template="a", fact_key="capital:france", gold="Paris"),
    item(2, "What is the capital of Peru?", template="a", fact_key="capital:peru", gold="Lima"),
    item(3, "Write one short sentence that ends with the word lantern.", template="b"),
    item(4, "Write one short sentence that ends with the word harbour.", template="b"),
    item(5, "The opposite of generous is", template="c", fact_key="antonym:generous", gold="stingy"),
    item(7, "The past tense of give is", template="e", fact_key="past_tense:give", gold="gave"),
    item(6, "Is 17 greater than 12?", template="d", fact_key="greater:17:12"),
]


@pytest.fixture(scope="module")
def index() -> LeakageIndex:
    return LeakageIndex(ITEMS)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("Name the capital of the French.", "capital:france", "fact"),
        ("what is the capital of france", None, "text"),
        ("Please tell me which city is the capital of France.", None, "entity"),
        ("Paris lies in France, and many people visit it.", None, "entity"),
        ("Give an antonym of generous.", None, "entity"),
        ("Name France's capital.", None, "entity"),
        ("Please do this: write one short sentence that ends with the word lantern now", None, "ngram"),
        ("Write one nice sentence that ends with the words old lantern.", None, "similar"),
        ("What is the capital of Spain?", "capital:spain", None),
        ("What is the currency of France?", "currency:france", None),
        ("Write one short sentence that ends with the word kite.", None, None),
        ("Write one short sentence that begins with the word kite.", None, None),
        ("Is 18 greater than 12?", "greater:18:12", None),
        ("The opposite of wide is", "antonym:wide", None),
        ("What is the past of give?", None, "entity"),
        ("Give the past tense of run.", None, None),
        ("Could you give the past tense of run?", None, None),
        ("The verb is run. Give me its past tense.", None, None),
        ("The verb is give. Which form has it in the past?", None, "entity"),
        ("", None, None),
    ],
)
def test_a_leak_is_named_and_a_shared_frame_is_none(
    index: LeakageIndex, text: str, key: str | None, reason: str | None
) -> None:
    assert index.hit(text, key) == reason
    assert reason is None or reason in REASONS


def test_every_held_out_item_leaks_itself(index: LeakageIndex) -> None:
    assert [index.hit(held.instruction) for held in ITEMS] == ["text"] * len(ITEMS)


def test_the_batch_form_gives_what_single_calls_give(index: LeakageIndex) -> None:
    texts = [held.instruction + " Please." for held in ITEMS]
    keys = [held.fact_key for held in ITEMS]
    assert index.hits(texts) == [index.hit(text) for text in texts]
    assert index.hits(texts, keys) == [index.hit(text, key) for text, key in zip(texts, keys, strict=True)]


def test_an_empty_suite_holds_nothing_back() -> None:
    assert LeakageIndex([]).hit("What is the capital of France?", "capital:france") is None
