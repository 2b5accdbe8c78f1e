"""The rival: what a constitution in the prompt reaches, chosen on dev and on nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from shown import asker_of, asks, follower, obeys, prompts_of, thanks
from stubs import KilledError, StubEngine, bytes_of

from cai_bootstrap.constitution import Principle
from cai_bootstrap.errors import UsageError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.measuring.principles.rivals import Prompting, RivalArm, best_prompting, direct_examples
from cai_bootstrap.records import Prompt

PLAIN = Principle("plain", "A good answer is plain.", "clear")


def prompting(folder: Path, *principles: Principle, engine: StubEngine | None = None) -> Prompting:
    return Prompting(asker_of(folder, engine or StubEngine(follower)), principles, seed=3, critique_tokens=8)


def rival(folder: Path, *principles: Principle, engine: StubEngine | None = None) -> RivalArm:
    way = prompting(folder, *principles, engine=engine)
    return best_prompting(way, prompts_of(6), prompts_of(9, "test"), obeys=obeys)


def test_the_best_way_on_dev_is_asked_of_the_held_out_prompts(tmp_path: Path) -> None:
    best = rival(tmp_path, thanks(12))
    assert best.name == "direct-16"
    assert best.examples == 12
    assert best.dev_rates == {"text": 0.0, "direct-4": 0.0, "direct-16": 1.0, "revision": 1.0}
    assert best.dev_principles["direct-16"] == {"thanks": 1.0}
    assert best.dev_prompts == 6
    assert list(best.outputs) == [prompt.id for prompt in prompts_of(9, "test")]
    assert all(output.finished for output in best.outputs.values())


def test_the_choice_is_by_the_mean_over_the_principles_that_can_be_judged(tmp_path: Path) -> None:
    best = rival(tmp_path, thanks(12), asks(2), PLAIN)
    assert best.dev_rates["direct-16"] == 0.5
    assert best.dev_principles["direct-16"] == {"thanks": 1.0, "asks": 0.0}


def test_nothing_that_can_be_judged_leaves_the_most_direct_examples(tmp_path: Path) -> None:
    best = best_prompting(prompting(tmp_path, thanks(6)), prompts_of(3), prompts_of(3, "test"), obeys=lambda *_: None)
    assert best.name == "direct-16"
    assert best.dev_rates == {}


def test_ways_that_would_not_differ_are_not_asked(tmp_path: Path) -> None:
    assert prompting(tmp_path, thanks(4)).ways() == ("text", "direct-4", "revision")
    assert prompting(tmp_path, thanks(5)).ways() == ("text", "direct-4", "direct-16", "revision")
    assert prompting(tmp_path, PLAIN).ways() == ("text", "revision")


def test_direct_examples_take_turns_and_never_answer_the_question_that_is_asked() -> None:
    shown = direct_examples([thanks(2), asks(3)], exclude="why is a KITE good")
    assert [e.instruction for e in shown] == [
        "What is a kite?", "What is a drum?", "Why is a drum good?", "Why is a sail good?",
    ]  # fmt: skip


def test_the_prompts_hold_texts_or_examples_and_leave_the_answer_open(tmp_path: Path) -> None:
    way = prompting(tmp_path, thanks(2), PLAIN)
    assert way.prompt("text", "Why?") == (
        "A good answer begins with thanks.\nA good answer is plain.\n\nQuestion: Why?\nAnswer:"
    )
    assert way.prompt("direct-4", "Why?") == (
        "Instruction: What is a kite?\nResponse: Thanks! A kite is a thing.\n\n"
        "Instruction: What is a drum?\nResponse: Thanks! A drum is a thing.\n\n"
        "Instruction: Why?\nResponse:"
    )


def test_revision_follows_the_principles_in_order_and_reads_the_answer_before(tmp_path: Path) -> None:
    engine = StubEngine(follower)
    way = prompting(tmp_path, thanks(3), asks(3), engine=engine)
    way.answers("revision", prompts_of(1), "dev")
    passes = [prompt.rsplit("\n\n", 1)[-1] for prompt in engine.prompts]
    assert len(passes) == 5 == way.completions(1)
    assert passes[0].endswith("\nResponse:")
    assert "Answer: A thing.\nCritique:" in passes[1]
    assert "Critique: It says no thanks.\nBetter answer:" in passes[2]
    assert "Answer: Thanks! Better.\nCritique:" in passes[3]


def test_revision_leaves_alone_the_kinds_of_prompts_that_a_principle_is_not_for(tmp_path: Path) -> None:
    principle = replace(thanks(3), applies_to=("question",))
    outputs = prompting(tmp_path, principle).answers("revision", prompts_of(2, kind="request"), "dev")
    assert {output.text for output in outputs.values()} == {" A thing."}


def test_an_empty_revision_leaves_the_answer_before(tmp_path: Path) -> None:
    def silent(prompt: str, _: Sampling) -> Completion:
        return Completion("" if prompt.endswith("Better answer:") else " First.", "stop", 2)

    outputs = prompting(tmp_path, thanks(3), engine=StubEngine(silent)).answers("revision", prompts_of(2), "dev")
    assert {output.text for output in outputs.values()} == {" First."}


def test_a_conditional_principle_is_shown_by_its_demonstrations_alone(tmp_path: Path) -> None:
    """Whether it applies to a prompt is in the prompt's record, which no rival may read."""
    engines = [StubEngine(follower), StubEngine(follower)]
    for label, engine in zip((True, False), engines, strict=True):
        labelled = [p.model_copy(update={"principle": "thanks", "applies": label}) for p in prompts_of(2)]
        way = prompting(tmp_path / str(label), thanks(6), engine=engine)
        for name in way.ways():
            way.answers(name, labelled, "dev")
    assert engines[0].prompts == engines[1].prompts


def test_a_search_that_was_killed_ends_in_the_same_rival(tmp_path: Path) -> None:
    whole = rival(tmp_path / "whole", thanks(8))
    with pytest.raises(KilledError):
        rival(tmp_path / "broken", thanks(8), engine=StubEngine(follower, die_after=20))
    engine = StubEngine(follower)
    assert rival(tmp_path / "broken", thanks(8), engine=engine) == whole
    assert bytes_of(tmp_path / "broken").keys() == bytes_of(tmp_path / "whole").keys()


def test_no_dev_prompt_and_an_unknown_way_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dev"):
        best_prompting(prompting(tmp_path, thanks()), [], prompts_of(1), obeys=obeys)
    with pytest.raises(UsageError, match="direct-16"):
        prompting(tmp_path, thanks()).answers(
            "shouting", [Prompt(id="a", text="A?", kind="question", split="dev")], "x"
        )
