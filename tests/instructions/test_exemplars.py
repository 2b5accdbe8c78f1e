"""Exemplars: right, of the same skill, varied, and never about the instruction that they are shown before."""

from collections import Counter
from random import Random

import pytest

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.exemplars import draw, draw_mixed
from cai_bootstrap.instructions.fill import Fill
from cai_bootstrap.instructions.pool import templates
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.instructions.skills import lookup, wordings
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.records import TASK_TYPES, TaskType

SKILLS = sorted(templates())
UNASKED = "Which planet is it?"


def worked(skill: str) -> list[tuple[Fill, str]]:
    """Fills with answers: all of the hand-written ones, and the first of those whose answer follows."""
    written = [pair for seed in range(3) for pair in lookup(skill).written_exemplars(Random(seed))]
    if written:
        return written
    fills = lookup(skill).supply
    return [(fill, fill.answer or "") for fill in map(fills.at, range(min(fills.size, 400)))]


@pytest.mark.parametrize(("kind", "skill"), SKILLS)
def test_every_exemplar_answer_passes_its_own_checks(kind: TaskType, skill: str) -> None:
    failed = []
    for place, (fill, answer) in enumerate(worked(skill)):
        group = wordings(skill, kind)
        text = group[place % len(group)].render(fill.slots)
        verdict = check(text, fill.scorer, fill.args, fill.gold, answer)
        if not verdict.success:
            failed.append((text, answer, verdict.reason))
    assert failed == []


@pytest.mark.parametrize(("kind", "skill"), SKILLS)
def test_eight_exemplars_come_on_one_line_each_with_varied_wordings_and_answers(kind: TaskType, skill: str) -> None:
    drawn = draw(skill, kind, 8, seed=1, exclude=UNASKED)
    assert len(drawn) == 8
    assert all(e.skill == skill and e.type == kind for e in drawn)
    assert all(e.answer and e.answer == e.answer.strip() and "\n" not in e.answer for e in drawn)
    assert len({e.instruction for e in drawn}) == 8
    assert len({e.template for e in drawn}) >= 8
    assert len({e.answer for e in drawn}) >= (2 if lookup(skill).two_answers else 5)


@pytest.mark.parametrize(("kind", "skill"), SKILLS)
def test_the_same_arguments_give_the_same_exemplars_and_another_seed_gives_others(kind: TaskType, skill: str) -> None:
    first, again, other = (draw(skill, kind, 6, seed=seed, exclude=UNASKED) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_exemplar_is_about_the_instruction_being_answered() -> None:
    for made in sample(400, seed=11):
        for example in draw(made.skill, made.type, 6, seed=3, exclude=made.instruction):
            assert example.instruction != made.instruction
            if made.fact_key and made.skill not in ("compare_numbers", "compare_pick", "letter_sequence", "count_on"):
                subject = " ".join(made.fact_key.split(":")[1].split(",")[-2:])
                shown = f" {' '.join(word_list(example.instruction))} "
                assert f" {subject} " not in shown, (made.instruction, example.instruction)


@pytest.mark.parametrize("skill", ["compare_numbers", "true_false", "yes_no_told"])
def test_of_two_possible_answers_each_is_equally_frequent(skill: str) -> None:
    counts = Counter(e.answer for e in draw(skill, "question", 8, seed=4, exclude=UNASKED))
    assert sorted(counts.values()) == [4, 4]


@pytest.mark.parametrize("skill", ["numbered_list", "surround", "which_not_listed", "analogy_in_context", "nonsense"])
def test_held_out_skills_have_no_exemplars(skill: str) -> None:
    with pytest.raises(UsageError, match=skill):
        draw(skill, "generation", 4, seed=0, exclude="")


def test_more_exemplars_than_a_skill_has_are_refused() -> None:
    with pytest.raises(UsageError, match="weekday_month"):
        draw("weekday_month", "question", 500, seed=0, exclude="")


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_mixed_exemplars_show_different_skills_of_the_type(kind: TaskType) -> None:
    drawn = draw_mixed(kind, 8, seed=1, exclude=UNASKED)
    assert len({e.skill for e in drawn}) == 8
    assert {e.type for e in drawn} == {kind}
    assert drawn == draw_mixed(kind, 8, seed=1, exclude=UNASKED)


def test_a_wrong_answer_fails_the_checks_of_its_instruction() -> None:
    passed = []
    for made in sample(4000, seed=12):
        wrong = list(made.args.get("rivals", []))
        if made.scorer == "yes_no":
            wrong.append({"yes": "no", "no": "yes"}[made.gold[0]])
        wrong.append(made.instruction)
        passed += [
            (made.instruction, answer)
            for answer in wrong
            if check(made.instruction, made.scorer or "", made.args, made.gold, answer).success
        ]
    assert passed == []
