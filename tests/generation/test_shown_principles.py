"""What a prompt shows: the principle's own demonstrations and no other principle's; without any, what it always did."""

import hashlib
from pathlib import Path

import pytest
from stubs import Cai, StubEngine, config_of, instructions_of, run_generator

from cai_bootstrap.constitution import Constitution, load_constitution
from cai_bootstrap.generation.prompts import choice_prompt, critique_prompt, own_cases, revise_prompt

SHOWN = """\
version: 2
principles:
  - id: brief
    category: style
    text: A good answer is short.
    demonstrations:
      - instruction: What is a kite?
        answer: A kite is a toy that flies on a string in the wind.
        critique: It is too long.
        better: A toy on a string.
      - instruction: Who bakes bread?
        answer: A baker.
        critique: It is short enough.
        better: A baker.
      - instruction: Where does a fox live?
        answer: A fox lives in a den that it digs under the roots of a tree.
        critique: Too many words.
        better: In a den.
  - id: kind
    category: harmless
    text: A good answer is kind.
    demonstrations:
      - instruction: How is my hat?
        answer: Ugly.
        critique: That hurts.
        better: It suits you.
      - instruction: How is my song?
        answer: A lovely tune.
        critique: That is kind.
        better: A lovely tune.
  - {id: alone, category: helpful, text: A good answer is plain.}
"""
OWN = {"brief": ("kite", "bakes bread", "fox live"), "kind": ("my hat", "my song"), "alone": ()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "shown.yaml").write_text(SHOWN)
    return tmp_path / "shown.yaml"


@pytest.fixture
def constitution(path: Path) -> Constitution:
    return load_constitution(path)


def test_a_critique_prompt_is_the_principle_before_each_of_its_cases(constitution: Constitution) -> None:
    kind = constitution.principle("kind")
    assert critique_prompt("How is my tie?", "Bad.", kind, kind.demonstrations) == (
        "Principle: A good answer is kind.\nInstruction: How is my hat?\nAnswer: Ugly.\nCritique: That hurts.\n\n"
        "Principle: A good answer is kind.\nInstruction: How is my song?\nAnswer: A lovely tune.\n"
        "Critique: That is kind.\n\n"
        "Principle: A good answer is kind.\nInstruction: How is my tie?\nAnswer: Bad.\nCritique:"
    )


def test_a_revision_prompt_shows_each_better_answer(constitution: Constitution) -> None:
    kind = constitution.principle("kind")
    assert revise_prompt("How is my tie?", "Bad.", "Rude.", kind, kind.demonstrations[:1]) == (
        "Principle: A good answer is kind.\nInstruction: How is my hat?\nAnswer: Ugly.\nCritique: That hurts.\n"
        "Better answer: It suits you.\n\n"
        "Principle: A good answer is kind.\nInstruction: How is my tie?\nAnswer: Bad.\nCritique: Rude.\nBetter answer:"
    )


def test_a_choice_is_shown_between_answers_that_differ(constitution: Constitution) -> None:
    brief = constitution.principle("brief")
    prompt = choice_prompt("Why?", "one", "two", brief, brief.demonstrations)
    assert "bread" not in prompt
    assert prompt.count("The better answer is") == 3
    assert "Answer A: A toy on a string.\n" in prompt
    assert "Answer B: In a den.\n" in prompt


def test_all_demonstrations_are_shown_in_an_order_of_seed_and_use(constitution: Constitution) -> None:
    brief = constitution.principle("brief")
    orders = {tuple(own_cases(brief, seed=0, use=f"critique:{n}")) for n in range(30)}
    assert len(orders) == 6
    assert all(set(order) == set(brief.demonstrations) for order in orders)
    assert own_cases(brief, seed=0, use="a") == own_cases(brief, seed=0, use="a")
    assert own_cases(constitution.principle("alone"), seed=0, use="a") == []
    assert own_cases(None, seed=0, use="a") == []


def test_a_demonstration_of_the_same_instruction_is_left_out(constitution: Constitution) -> None:
    brief = constitution.principle("brief")
    shown = own_cases(brief, seed=0, use="a", exclude="what is  a KITE?")
    assert {d.instruction for d in shown} == {"Who bakes bread?", "Where does a fox live?"}


@pytest.mark.parametrize("kind", ["critique", "revise", "respond"])
@pytest.mark.parametrize("principle", ["brief", "kind", "alone"])
def test_prompts_show_prints_the_principles_own_demonstrations_and_no_others(
    path: Path, cai: Cai, kind: str, principle: str
) -> None:
    code, out, _ = cai(
        "prompts", "show", kind, "--constitution", path, "--principle", principle, "--instruction", "Why does it rain?",
    )  # fmt: skip
    assert code == 0
    for name, signs in OWN.items():
        for sign in signs:
            assert (sign in out) is (name == principle), f"{sign} of {name}"
    assert "Why does it rain?" in out.rsplit("\n\n", 1)[-1]


def test_respond_without_a_principle_is_asked_with_exemplars(path: Path, cai: Cai) -> None:
    code, out, _ = cai("prompts", "show", "respond", "--constitution", path, "--instruction", "Why does it rain?")
    assert code == 0
    assert "kite" not in out


def test_generation_shows_each_principle_by_its_own_demonstrations(tmp_path: Path, path: Path) -> None:
    engine = StubEngine()
    compared: list[str] = []
    choose = engine.choice_logprobs
    engine.choice_logprobs = lambda prompts, choices: (compared.extend(prompts), choose(prompts, choices))[1]  # type: ignore[method-assign]
    run_generator(tmp_path / "data", engine, instructions_of(24), config_of(constitution=path))
    edits = [p for p in engine.prompts if p.endswith(("Critique:", "Better answer:"))]
    assert len(edits) == 48
    assert compared
    for prompt in edits + compared:
        own = next(p for p in load_constitution(path).principles if prompt.startswith(f"Principle: {p.text}\n"))
        for name, signs in OWN.items():
            told = [s for s in signs if not (prompt in compared and s in ("bakes bread", "my song"))]
            assert all((sign in prompt) is (name == own.id) for sign in told)


def test_prompts_of_a_version_1_constitution_are_byte_for_byte_what_they_were(tmp_path: Path) -> None:
    """The hashes are of prompts version `stage1-3` before principles had demonstrations; data are reused by them."""
    engine = StubEngine()
    compared: list[str] = []
    choose = engine.choice_logprobs
    engine.choice_logprobs = lambda prompts, choices: (compared.extend(prompts), choose(prompts, choices))[1]  # type: ignore[method-assign]
    run_generator(tmp_path / "data", engine, instructions_of(16))
    hashes = [hashlib.sha256("\x00".join(prompts).encode()).hexdigest() for prompts in (engine.prompts, compared)]
    assert hashes == [
        "1c0d14a872a0a5ef161841ae1cac8441bac7c80c499017dd99f7b1f7591e35f3",
        "d15a7f77def2633e0e8579ca6e19b0c37c9d39c3b556befcebfe2b10f453bc44",
    ]


def test_a_run_warns_once_of_principles_that_are_written_alone(tmp_path: Path, path: Path, cai: Cai) -> None:
    path.write_text(SHOWN)
    code, _, err = cai("generate", "--base-dir", tmp_path / "base", "--constitution", path, "--count", 10**9)
    assert code == 2
    assert err.count("a text alone changed nothing") == 1
    assert "no demonstrations of their own: alone;" in err
