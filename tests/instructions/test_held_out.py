"""The training pool against the shipped suite: no shared template, fact or exemplar, few shared runs of words."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

import cai_bootstrap.judging.suite as suite_room
from cai_bootstrap.files import read_jsonl
from cai_bootstrap.instructions.exemplars import draw
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.instructions.pool import Template, templates
from cai_bootstrap.instructions.sampler import sample_with_report
from cai_bootstrap.instructions.skills import lookup, wordings
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.records import EvalItem

GAP = r"\S+(?: \S+){0,11}"


@pytest.fixture(scope="module")
def held_out() -> list[EvalItem]:
    return list(read_jsonl(Path(suite_room.__file__).with_name("stage1.jsonl"), EvalItem))


@pytest.fixture(scope="module")
def index(held_out: list[EvalItem]) -> LeakageIndex:
    return LeakageIndex(held_out)


def fixed_words(template: Template) -> tuple[re.Pattern[str], Counter[str]]:
    """A pattern of the template's words with gaps for its slots, and the words themselves."""
    row = word_list(re.sub(r"\{\w+\}", " zzslot ", template.text))
    pattern = " ".join(GAP if word == "zzslot" else re.escape(word) for word in row)
    return re.compile(pattern), Counter(word for word in row if word != "zzslot")


def test_no_training_template_has_the_wording_of_a_held_out_one(held_out: list[EvalItem]) -> None:
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for item in held_out:
        groups[item.template].append(word_list(item.instruction))
    shared = []
    for group in templates().values():
        for template in group:
            pattern, fixed = fixed_words(template)
            for name, rows in groups.items():
                if len(rows) < 2 or not all(pattern.fullmatch(" ".join(row)) for row in rows):
                    continue
                common = Counter(rows[0])
                for row in rows[1:]:
                    common &= Counter(row)
                if common == fixed:
                    shared.append((template.id, name))
    assert shared == []


def test_held_out_skills_are_in_the_suite_and_not_in_the_pool(held_out: list[EvalItem]) -> None:
    taught = {skill for _, skill in templates()}
    assert len({item.skill for item in held_out} - taught) == 4


def test_no_fact_is_shared_and_few_instructions_are_dropped(index: LeakageIndex) -> None:
    _, report = sample_with_report(10_000, seed=1, leaks=lambda made: index.hit(made.instruction, made.fact_key))
    leaks = {reason: n for reason, n in report.dropped.items() if reason.startswith("leak:")}
    assert "leak:fact" not in leaks
    assert sum(leaks.values()) <= 100


def test_no_handwritten_exemplar_leaks(index: LeakageIndex) -> None:
    found = []
    for kind, skill in templates():
        for fill, answer in lookup(skill).written_exemplars(Random(0)):
            texts = [template.render(fill.slots) for template in wordings(skill, kind)]
            found += [(text, reason) for text in [*texts, answer] if (reason := index.hit(text))]
    assert found == []


def test_every_held_out_item_of_a_taught_skill_finds_eight_exemplars_that_do_not_leak_it(
    held_out: list[EvalItem], index: LeakageIndex
) -> None:
    taught = set(templates())
    asked = [item for item in held_out if (item.type, item.skill) in taught]
    assert len(asked) > 500
    for item in asked:
        for example in draw(item.skill, item.type, 8, seed=1, exclude=item.instruction):
            assert index.hit(example.instruction) is None, example
            assert word_list(example.instruction) != word_list(item.instruction)
