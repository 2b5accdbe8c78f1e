"""Instructions that the model writes for itself: new against everything so far, in place of templated ones."""

from collections import Counter
from pathlib import Path

from stubs import StubEngine, config_of, progress_at

from cai_bootstrap.generation.make_instructions import make_instructions
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.records import Instruction
from cai_bootstrap.run.counts import Diversity
from cai_bootstrap.run.folder import DataFolder

KINDS = {"questions": "Who of the {n} sailors saw the whale near island {w}?",
         "unfinished": "Behind the {n}th door of tower {w} the guard found",
         "writing": "{w}: write a line of {n} words for a birthday card.",
         "change": "Turn this {w} text around: {n} green bottles"}  # fmt: skip


def write_list(prompt: str, _: Sampling) -> Completion:
    """Two tasks of the type that the head of the prompt names; the second repeats the last seed."""
    head, *lines = prompt.split("\n")
    kind = next(word for word in KINDS if word in head)
    number = sum(map(ord, prompt))
    made = KINDS[kind].format(n=number, w=f"{'abcdefghij'[number % 10]}{number % 97}{'klmnopqrst'[number % 7]}")
    seed = lines[-2].partition(". ")[2]
    return Completion(f" {made}\n9. {seed}\n10. cut off he", "length", 20)


def made(folder: Path, share: float, asked_before: tuple[str, ...] = ()) -> tuple[list[Instruction], Diversity]:
    config = config_of(generation__count=80, generation__self_instruct_share=share)
    folder.mkdir()
    engine = StubEngine(write_list)
    return make_instructions(
        config,
        DataFolder(folder),
        engine,
        LeakageIndex([]),
        progress_at(folder),
        lambda: False,
        asked_before=asked_before,
    )


def test_the_asked_share_is_written_by_the_model_and_the_count_and_types_stay(tmp_path: Path) -> None:
    instructions, figures = made(tmp_path / "a", 0.1)
    assert Counter(i.type for i in instructions) == dict.fromkeys(
        ("question", "completion", "generation", "transformation"), 20
    )
    written = [i for i in instructions if i.source == "self"]
    assert len(written) == 8
    assert all(i.scorer is None and not i.skill and i.template == "self" for i in written)
    assert len({i.instruction for i in instructions}) == 80
    assert figures.self_instruct is not None
    assert figures.self_instruct.dropped["duplicate"] > 0


def test_what_an_earlier_round_asked_is_not_written_again(tmp_path: Path) -> None:
    first, _ = made(tmp_path / "a", 0.1)
    before = tuple(i.instruction for i in first)
    second, _ = made(tmp_path / "b", 0.1, asked_before=before)
    assert {i.instruction for i in second}.isdisjoint(before)


def test_the_same_seed_writes_the_same_instructions(tmp_path: Path) -> None:
    assert made(tmp_path / "a", 0.1)[0] == made(tmp_path / "b", 0.1)[0]
