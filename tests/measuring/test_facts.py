"""The elicitable flags: five typed prompts a fact, frozen beside the suite, shown in results, never the gate's."""

from collections.abc import Iterator, Sequence

import pytest
from measured import ADAPTER, conditions_for, measured, outputs_with

from cai_bootstrap.inference.engine import Completion, EngineInfo, Sampling
from cai_bootstrap.judging.suite import Suite, entities, load_suite
from cai_bootstrap.measuring import facts
from cai_bootstrap.measuring.results import build_results
from cai_bootstrap.records import EvalItem

ITEMS = (*load_suite("stage1").items, *load_suite("stage1-dev").items)
FACTS = [item for item in ITEMS if facts.is_fact(item)]


class Knowing:
    """Answers the first `rightly` of each item's five prompts from the gold, and the others wrongly."""

    info = EngineInfo("stub", "stub", "r", "w" * 64, "t" * 64, None, "fp32", "cpu", "none", 1, "left")

    def __init__(self, rightly: int) -> None:
        self.gold = {
            prompt: item.gold[0] if at < rightly else "nothing"
            for item in FACTS
            for at, prompt in enumerate(facts.typed_prompts(item))
        }

    def stream(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[Completion]:
        assert sampling.max_new_tokens <= 12
        for prompt in prompts:
            yield Completion(f" {self.gold[prompt]}, and so on", "length", 4)


def test_every_fact_has_five_different_prompts_about_its_subject() -> None:
    for item in FACTS:
        prompts = facts.typed_prompts(item)
        assert len(set(prompts)) == 5
        name = entities()[item.id][0].rpartition(":")[2].lower()
        assert all(name in prompt.lower() for prompt in prompts)


def test_no_prompt_tells_the_answer_but_where_the_item_offers_options() -> None:
    for item in FACTS:
        if item.skill != "category_pick":
            for prompt in facts.typed_prompts(item):
                assert not any(f" {gold.lower()} " in f" {prompt.lower()} " for gold in item.gold), item.id


def test_the_examples_in_prompts_are_no_facts_of_the_suite() -> None:
    keys = {item.fact_key for item in FACTS}
    shown = ["capital:france", "capital:italy", "currency:japan", "currency:sweden", "element_symbol:oxygen"]
    shown += ["element_symbol:calcium", "antonym:rich", "antonym:poor", "antonym:early", "antonym:late", "plural:cat"]
    shown += ["plural:man", "past_tense:make", "past_tense:walk", "kind:carrot", "kind:milk"]
    shown += ["after:tuesday", "before:tuesday", "two_after:tuesday", "two_before:friday"]
    shown += ["after:march", "before:march", "two_after:march", "two_before:june"]
    assert not keys & set(shown)


@pytest.mark.parametrize(("rightly", "told"), [(5, True), (3, True), (2, False), (0, False)])
def test_three_right_answers_of_five_make_a_fact_elicitable(rightly: int, told: bool) -> None:
    found = facts.make_flags(Knowing(rightly), ITEMS)
    assert found.right.keys() == {item.id for item in FACTS}
    assert {right >= found.needed for right in found.right.values()} == {told}


@pytest.mark.parametrize(
    ("text", "right"),
    [(" Berlin, the largest city", True), ("\n**Paris**", False), ("Berlin\nBonn", True), (' "Berlin".', True),
     ("Berliner", False), ("the Berlin", True), ("not Berlin", False), ("", False)],
)  # fmt: skip
def test_a_continuation_tells_a_fact_if_it_begins_with_it(text: str, right: bool) -> None:
    item = next(item for item in FACTS if item.fact_key == "capital:germany")
    assert facts.told(item, text) is right


def test_a_symbol_must_have_its_case() -> None:
    item = next(item for item in FACTS if item.fact_key == "element_symbol:cobalt")
    assert facts.told(item, " Co.")
    assert not facts.told(item, " CO")


def test_the_frozen_flags_cover_every_fact_and_belong_to_these_prompts() -> None:
    frozen = facts.flags()
    assert frozen.right.keys() == {item.id for item in FACTS}
    again = facts.make_flags(Knowing(0), ITEMS)
    assert frozen.prompts_sha256 == again.prompts_sha256
    assert (frozen.precision, frozen.model) == ("fp32", "gemma-3-270m")
    parts = facts.elicitable_facts(ITEMS, frozen.base_weights_sha256)
    assert parts is not None
    assert all(parts.values())
    assert {item.id for part in parts.values() for item in part} == {item.id for item in FACTS}


def _flagged_suite() -> Suite:
    suite = load_suite("quick")
    assert any(facts.is_fact(item) for item in suite.items)
    return suite


def _wrote(suite: Suite, weights: str) -> dict[str, object] | None:
    from cai_bootstrap.measuring.results import Output

    outputs = {item.id: Output("Nothing.", True) for item in suite.items}
    results = build_results(
        suite=suite, conditions=conditions_for(suite, base_weights_sha256=weights), base=measured(outputs),
        trained=measured(outputs, ADAPTER), enforced=True,
    )  # fmt: skip
    assert results.models.trained is not None
    rates = results.models.trained.facts
    return None if rates is None else rates.as_dict()


def test_results_show_the_rate_among_elicitable_facts_of_the_same_base_only() -> None:
    suite = _flagged_suite()
    found = _wrote(suite, facts.flags().base_weights_sha256)
    assert found is not None
    assert set(found) == {"elicitable", "others"}
    assert _wrote(suite, "0" * 64) is None


def test_flags_do_not_touch_the_gate(small_suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    def gate(told: int) -> object:
        item: EvalItem = small_suite.items[0]
        frozen = facts.flags().model_copy(
            update={"base_weights_sha256": "a" * 64, "needed": 3, "right": {item.id: told}}
        )
        monkeypatch.setattr(facts, "flags", lambda: frozen)
        outputs = outputs_with(small_suite, 1)
        results = build_results(
            suite=small_suite, conditions=conditions_for(small_suite), base=None,
            trained=measured(outputs, ADAPTER), enforced=True,
        )  # fmt: skip
        trained = results.models.trained
        assert trained is not None
        assert trained.facts is not None
        assert trained.facts.elicitable.total == (told >= 3)
        return results.gate

    assert gate(0) == gate(5)
