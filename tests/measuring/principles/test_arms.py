"""The arms: asked plainly, with the line break or without, and resumed where a kill left them."""

from pathlib import Path

import pytest
from shown import asker_of, prompts_of
from stubs import KilledError, StubEngine, bytes_of, progress_at

from cai_bootstrap.errors import InterruptedRunError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.measuring.principles.arms import ArmAnswers, ask


def asked(engine: StubEngine, path: Path, *, line_break: bool = True, stops: bool = False) -> ArmAnswers:
    return ask(
        engine, prompts_of(70), path, line_break=line_break, max_new_tokens=16,
        progress=progress_at(path.parent), stopping=lambda: stops,
    )  # fmt: skip


@pytest.mark.parametrize(("line_break", "first"), [(True, "What is thing 0?\n"), (False, "What is thing 0?")])
def test_a_prompt_is_asked_plainly_greedily_and_without_a_stop_rule(
    tmp_path: Path, line_break: bool, first: str
) -> None:
    seen: list[Sampling] = []

    def answer(_prompt: str, sampling: Sampling) -> Completion:
        seen.append(sampling)
        return Completion("A thing.", "eos", 3)

    engine = StubEngine(answer)
    outputs = asked(engine, tmp_path / "base.jsonl", line_break=line_break)
    assert engine.prompts[0] == first
    assert set(seen) == {Sampling(16, pinned=True)}
    assert list(outputs) == [prompt.id for prompt in prompts_of(70)]


def test_an_arm_that_was_killed_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    asked(StubEngine(), tmp_path / "whole" / "base.jsonl")
    broken = tmp_path / "broken"
    with pytest.raises(KilledError):
        asked(StubEngine(die_after=40), broken / "base.jsonl")
    engine = StubEngine()
    asked(engine, broken / "base.jsonl")
    assert 0 < len(engine.prompts) < 70
    assert bytes_of(broken)["base.jsonl"] == bytes_of(tmp_path / "whole")["base.jsonl"]


def test_an_arm_that_is_asked_to_stop_says_how_far_it_came(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError, match="stopped after 0 of 70"):
        asked(StubEngine(), tmp_path / "base.jsonl", stops=True)


def test_answers_to_other_prompts_are_never_taken_for_these(tmp_path: Path) -> None:
    asker = asker_of(tmp_path, StubEngine())
    prompts = prompts_of(5)
    first = asker.complete("text", prompts, [prompt.text for prompt in prompts])
    other = asker.complete("text", prompts, [f"Once more: {prompt.text}" for prompt in prompts])
    assert first != other
    again = asker_of(tmp_path, engine := StubEngine()).complete("text", prompts, [prompt.text for prompt in prompts])
    assert again == first
    assert engine.prompts == []
