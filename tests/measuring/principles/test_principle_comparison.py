"""Two results files of principles are compared under equal conditions, on the same prompts, by the same rules."""

from pathlib import Path

import pytest
from principled import Write, asked_of, conditions, constitution, judges, obedient, plain, prompts

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.measuring.principles.comparison import (
    PrincipleComparison,
    PrincipleRefusal,
    compare_principle_files,
)
from cai_bootstrap.measuring.principles.declared import JudgeRecord
from cai_bootstrap.measuring.principles.results import Judges, build_principle_results, write_principle_results


def file(path: Path, trained: Write | None, *, tokens: int = 32, test: int = 60, by: Judges | None = None) -> Path:
    over = prompts(test=test)
    written = build_principle_results(
        constitution=constitution(),
        prompts=over,
        conditions=conditions(over, max_new_tokens=tokens),
        asked=asked_of(over, trained=trained, control=None, rival=None),
        judges=by or judges(),
    )
    write_principle_results(path, written)
    return path


def test_what_another_adapter_gained_is_told_principle_by_principle(tmp_path: Path) -> None:
    a, b = file(tmp_path / "a.json", plain), file(tmp_path / "b.json", obedient)
    comparison = compare_principle_files(a, b)
    assert isinstance(comparison, PrincipleComparison)
    assert [change.id for change in comparison.changes] == ["thanks", "asks", "warn"]
    assert all(change.lift.estimate == 1.0 for change in comparison.changes)
    assert comparison.changes[0].in_words().endswith("; better")
    assert comparison.as_dict()["principles"]["warn"]["lift"]["gained"] == 64
    back = compare_principle_files(b, a)
    assert isinstance(back, PrincipleComparison)
    assert "not shown to be better" in back.changes[0].in_words()


def test_other_conditions_or_prompts_are_not_compared(tmp_path: Path) -> None:
    a, b, c = (
        file(tmp_path / "a.json", plain),
        file(tmp_path / "b.json", plain, tokens=48),
        file(tmp_path / "c.json", plain, test=59),
    )
    refusal = compare_principle_files(a, b)
    assert isinstance(refusal, PrincipleRefusal)
    assert [difference.field for difference in refusal.differences] == ["max_new_tokens"]
    refusal = compare_principle_files(a, c)
    assert isinstance(refusal, PrincipleRefusal)
    assert "prompts.asked_sha256" in [difference.field for difference in refusal.differences]


def test_a_principle_that_is_judged_in_one_file_alone_is_left_out_and_named(tmp_path: Path) -> None:
    untrusted = judges(asks=JudgeRecord(kind="check", trusted=False), thanks=JudgeRecord(kind="check", trusted=True))
    comparison = compare_principle_files(
        file(tmp_path / "a.json", plain), file(tmp_path / "b.json", obedient, by=untrusted)
    )
    assert isinstance(comparison, PrincipleComparison)
    assert comparison.left_out == {"thanks": "judged by another rule", "asks": "not judged in both"}
    assert [change.id for change in comparison.changes] == ["warn"]


def test_an_arm_that_is_not_there_is_refused(tmp_path: Path) -> None:
    a = file(tmp_path / "a.json", None)
    with pytest.raises(UntrustedResultError, match="holds no arm trained; it holds base"):
        compare_principle_files(a, a, arm="trained")
    comparison = compare_principle_files(a, a)
    assert isinstance(comparison, PrincipleComparison)
    assert comparison.arm_a == "base"
