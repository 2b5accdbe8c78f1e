"""Where a principle applies: by rule, or by the model's own yes or no; balanced, seeded, blind to the labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from stubs import StubEngine, progress_at

from cai_bootstrap.constitution import Matched, Principle
from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.generation.applicability import (
    PROMPT_VERSION,
    Applicability,
    applicability_prompts,
    applies_by_rule,
    auc,
    decide,
    framings,
)
from cai_bootstrap.generation.principles import WORKED_PAIRS
from cai_bootstrap.records import Prompt

TOOLS = ("saw", "axe", "drill", "razor", "chisel", "torch", "acid", "bleach", "blade", "needle", "rifle", "furnace")
TOYS = ("cup", "sock", "pillow", "spoon", "hat", "book", "pencil", "ribbon", "towel", "plate", "carpet", "bell")


@dataclass
class ChoosingEngine(StubEngine):
    """Prefers the first answer by each of `words` that the case holds, and by `lean` more where it may say yes."""

    words: Sequence[str] = TOOLS
    lean: float = 0.0
    asked: list[str] = field(default_factory=list)
    answers: list[tuple[str, ...]] = field(default_factory=list)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> list[list[float]]:
        self.answers.append(tuple(choices))
        self.asked += prompts
        lasts = [prompt.rsplit("\n\n", 1)[-1] for prompt in prompts]
        lean = self.lean * (" Yes" in choices)
        return [[-1.0 + sum(word in last for word in self.words) + lean, -1.0] for last in lasts]


def principle(pairs: int = 10, **changes: Any) -> Principle:
    matched = Matched(TOOLS[:pairs], TOYS[:pairs]) if pairs else None
    values = {"id": "warn", "text": "A good answer warns.", "category": "harmless", "matched": matched}
    return Principle(**{**values, **changes})


def prompts_of(count: int, *, labels: bool = True) -> list[Prompt]:
    """Dangerous and harmless prompts in turn."""
    return [
        Prompt(
            id=f"p{number:02}", text=f"How do I hold a {(TOYS, TOOLS)[number % 2][number % 12]}?", kind="question",
            split="train", principle="warn" if labels else "", applies=number % 2 == 1 if labels else None,
        )
        for number in range(count)
    ]  # fmt: skip


def sides(decisions: Sequence[Applicability]) -> dict[str, bool | None]:
    return {decision.prompt_id: decision.applies for decision in decisions}


def test_decisions_follow_the_models_yes_and_no_and_are_balanced() -> None:
    prompts = prompts_of(30)
    decisions = decide(ChoosingEngine(), principle(), prompts, seed=1)
    assert [d.prompt_id for d in decisions] == [p.id for p in prompts]
    assert [d.applies for d in decisions].count(True) == [d.applies for d in decisions].count(False) == 10
    assert all(d.applies is None or d.applies == p.applies for d, p in zip(decisions, prompts, strict=True))
    assert {(d.principle_id, d.prompt_version) for d in decisions} == {("warn", PROMPT_VERSION)}
    assert auc(decisions, prompts) == 1.0


def test_a_framing_in_which_the_model_leans_to_yes_changes_no_decision() -> None:
    prompts = prompts_of(30)
    plain = decide(ChoosingEngine(), principle(), prompts, seed=1)
    assert sides(decide(ChoosingEngine(lean=50.0), principle(), prompts, seed=1)) == sides(plain)


def test_by_twins_the_wording_that_two_prompts_share_is_taken_off() -> None:
    """Half of the pairs hold a word that the model always takes for dangerous: it hides what sets the twins apart."""
    engine, prompts = ChoosingEngine(words=(*TOOLS, "hold")), []
    for number, prompt in enumerate(prompts_of(24)):
        text = prompt.text if number < 12 else prompt.text.replace("hold", "keep")
        prompts.append(prompt.model_copy(update={"text": text, "pair": f"warn.{number // 2}"}))
    apart = decide(engine, principle(), prompts, seed=1, share=0.5)
    assert auc(apart, prompts) == 0.875
    by_twins = decide(engine, principle(), prompts, seed=1, share=0.5, by_twins=True)
    assert auc(by_twins, prompts) == 1.0
    assert all(d.applies == p.applies for d, p in zip(by_twins, prompts, strict=True))


def test_labels_decide_nothing() -> None:
    labelled, bare = prompts_of(30), prompts_of(30, labels=False)
    wrong = [prompt.model_copy(update={"applies": not prompt.applies}) for prompt in labelled]
    decisions = decide(ChoosingEngine(), principle(), labelled, seed=1)
    assert decide(ChoosingEngine(), principle(), bare, seed=1) == decisions
    assert decide(ChoosingEngine(), principle(), wrong, seed=1) == decisions
    assert auc(decisions, wrong) == 0.0
    assert auc(decisions, bare) is None


def test_the_same_seed_asks_the_same_and_another_orders_the_worked_cases_anew() -> None:
    first, second = ChoosingEngine(), ChoosingEngine()
    assert decide(first, principle(), prompts_of(9), seed=1) == decide(second, principle(), prompts_of(9), seed=1)
    assert first.asked == second.asked
    one, other = (applicability_prompts(principle(), ["x"], seed) for seed in (1, 2))
    assert one != other
    shuffled = [[sorted(prompt.split("\n\n")) for (prompt,) in framings] for framings in (one, other)]
    assert shuffled[0] == shuffled[1]


@pytest.mark.parametrize(("pairs", "shown"), [(10, WORKED_PAIRS), (3, 3), (1, 1)])
def test_the_first_eight_pairs_are_worked_cases_and_fewer_are_all_shown(pairs: int, shown: int) -> None:
    own = principle(pairs)
    ways, asked = framings(own), applicability_prompts(own, ["How do I hold a kite?", "What {is} this?"], 1)
    assert len(asked) == len(ways)
    for framing, prompts in zip(ways, asked, strict=True):
        assert [
            prompt.endswith(framing.case(text))
            for prompt, text in zip(prompts, ("How do I hold a kite?", "What {is} this?"), strict=True)
        ] == [True, True]
        cases = prompts[0].split("\n\n")[:-1]
        sides = [case.endswith(framing.choices[0]) for case in cases]
        assert sides.count(True) == sides.count(False) == shown
        assert all(one != following for one, following in pairwise(sides))
        for words, side in ((TOOLS, True), (TOYS, False)):
            told = {w for case, s in zip(cases, sides, strict=True) if s is side for w in words if f": {w}\n" in case}
            assert told == set(words[:shown])


def test_the_constitutions_own_words_and_question_are_asked_where_it_has_some() -> None:
    engine = ChoosingEngine()
    own = principle(matched=Matched(TOOLS, TOYS, "Can this hurt somebody?", (("bad", "good"), ("wild", "tame"))))
    decide(engine, own, prompts_of(6), seed=1)
    assert engine.answers == [(" bad", " good"), (" wild", " tame"), (" A", " B"), (" Yes", " No")]
    assert [prompt.rsplit("\n", 1)[1] for prompt in engine.asked[::6]] == ["Kind:"] * 3 + ["Can this hurt somebody?"]
    bare = ChoosingEngine()
    decide(bare, principle(), prompts_of(6), seed=1)
    assert bare.answers == [(" A", " B"), (" Yes", " No")]
    assert bare.asked[-1].endswith("Does this principle apply to it? A good answer warns.")


def test_a_model_that_sees_no_difference_decides_nothing() -> None:
    decisions = decide(ChoosingEngine(words=()), principle(), prompts_of(30), seed=1)
    assert {(d.margin, d.applies) for d in decisions} == {(0.0, None)}
    assert auc(decisions, prompts_of(30)) == 0.5


def test_equal_margins_are_ranked_by_id_and_never_stand_on_both_sides() -> None:
    prompts = prompts_of(30)
    rare = decide(ChoosingEngine(words=("furnace",)), principle(), prompts, seed=1)
    dangerous = [p.id for p in prompts if "furnace" in p.text]
    assert [d.prompt_id for d in rare if d.applies] == dangerous
    quiet = [p.id for p in prompts if p.id not in dangerous][-len(dangerous) :]
    assert [d.prompt_id for d in rare if d.applies is False] == quiet
    backwards = decide(ChoosingEngine(words=("furnace",)), principle(), prompts[::-1], seed=1)
    assert sides(backwards) == sides(rare)


@pytest.mark.parametrize(("count", "share", "each"), [(0, 1 / 3, 0), (2, 1 / 3, 0), (6, 1 / 3, 2), (10, 0.5, 5)])
def test_a_share_of_the_prompts_stands_on_each_side(count: int, share: float, each: int) -> None:
    applies = [d.applies for d in decide(ChoosingEngine(), principle(), prompts_of(count), seed=1, share=share)]
    assert (applies.count(True), applies.count(False)) == (each, each)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.51, float("nan")])
def test_a_share_that_is_no_part_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"above 0 and at most 0\.5"):
        decide(ChoosingEngine(), principle(), prompts_of(6), seed=1, share=share)


def test_kinds_are_decided_by_rule_and_without_asking_the_model() -> None:
    engine, prompts = ChoosingEngine(), prompts_of(3)
    prompts[1] = prompts[1].model_copy(update={"kind": "request"})
    by_kind = principle(0, applies_to=("request", "long"))
    assert [applies_by_rule(by_kind, prompt) for prompt in prompts] == [False, True, False]
    decisions = decide(engine, by_kind, prompts, seed=1)
    assert [(d.applies, d.margin) for d in decisions] == [(False, None), (True, None), (False, None)]
    assert [d.applies for d in decide(engine, principle(0), prompts, seed=1)] == [True, True, True]
    assert engine.asked == []
    assert auc(decisions, prompts) is None


def test_with_kinds_and_matched_examples_the_model_is_asked_about_those_kinds_alone() -> None:
    prompts = [p.model_copy(update={"kind": "request"}) if p.id < "p12" else p for p in prompts_of(30)]
    decisions = decide(ChoosingEngine(), principle(applies_to=("request",)), prompts, seed=1)
    assert [d.margin is None for d in decisions] == [False] * 12 + [True] * 18
    assert [d.applies for d in decisions[12:]] == [False] * 18
    assert [d.applies for d in decisions[:12]].count(True) == 4


def test_matched_prompts_cannot_be_made_without_matched_examples() -> None:
    with pytest.raises(UsageError, match="'warn' has no matched examples"):
        applicability_prompts(principle(0), ["x"], 1)


def test_a_margin_that_is_no_number_is_an_error() -> None:
    class Broken(ChoosingEngine):
        def choice_logprobs(self, prompts: Sequence[str], _choices: Sequence[str]) -> list[list[float]]:
            return [[float("nan"), -1.0] for _ in prompts]

    with pytest.raises(EngineError, match="not finite"):
        decide(Broken(), principle(), prompts_of(6), seed=1)


def test_progress_counts_every_prompt_once(tmp_path: Path) -> None:
    progress = progress_at(tmp_path)
    progress.begin(40)
    decide(ChoosingEngine(), principle(), prompts_of(30), seed=1, progress=progress)
    decide(ChoosingEngine(), principle(0), prompts_of(10), seed=1, progress=progress)
    assert progress.mark == 40
