"""The sampler: exact counts, balance, determinism, no duplicates, refilling."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import jsonl_line
from cai_bootstrap.instructions.pool import templates
from cai_bootstrap.instructions.sampler import (
    _draw,
    _Filter,
    no_leaks,
    pool_size,
    pool_sizes,
    sample,
    sample_with_report,
    type_counts,
)
from cai_bootstrap.instructions.skills import HARD_SKILLS, lookup
from cai_bootstrap.instructions.text import normalised, word_list, words_similarity
from cai_bootstrap.judging.split import split_of
from cai_bootstrap.records import TASK_TYPES, Instruction, TaskType

# Closed classes of which each fact, not each entity, has its share.
BY_KEY = {"after", "before", "greater", "less", "max", "min", "sequence"}


def by_type(drawn: list[Instruction]) -> list[int]:
    return [sum(made.type == kind for made in drawn) for kind in TASK_TYPES]


@pytest.mark.parametrize("count", [*range(1, 51), 399, 1000, 4003])
def test_exactly_the_asked_count_comes_with_earlier_types_getting_the_remainder(count: int) -> None:
    drawn = sample(count, seed=count)
    share, extra = divmod(count, 4)
    assert by_type(drawn) == [share + (place < extra) for place in range(4)]
    assert len({made.id for made in drawn}) == len({normalised(made.instruction) for made in drawn}) == count


@given(st.integers(min_value=1, max_value=10**9))
def test_type_counts_add_up_and_differ_by_at_most_one(count: int) -> None:
    counts = list(type_counts(count).values())
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)


@settings(max_examples=10, deadline=None)
@given(st.integers(min_value=1, max_value=300), st.integers())
def test_the_same_seed_gives_the_same_bytes(count: int, seed: int) -> None:
    first, second = (list(map(jsonl_line, sample(count, seed=seed))) for _ in range(2))
    assert first == second


def test_another_seed_gives_other_instructions() -> None:
    a, b = ({made.id for made in sample(400, seed=seed)} for seed in (1, 2))
    assert len(a & b) < 100


def shares(drawn: list[Instruction], kind: TaskType) -> list[float]:
    """How often each skill of a type is asked, in rounds: skills that seldom give pairs take two turns in each."""
    counts = Counter(made.skill for made in drawn if made.type == kind)
    return [n / (2 if lookup(skill).rare else 1) for skill, n in counts.items()]


def test_skills_are_balanced_within_a_type() -> None:
    drawn = sample(2000, seed=3)
    for kind in TASK_TYPES:
        rounds = shares(drawn, kind)
        assert max(rounds) - min(rounds) <= 1


def test_skills_that_seldom_give_pairs_are_asked_twice_as_often() -> None:
    counts = Counter(made.skill for made in sample(4000, seed=3) if made.type == "transformation")
    assert counts["sort_words"] == pytest.approx(2 * counts["repeat"], abs=2)
    taught = {skill for _, skill in templates()}
    assert taught > HARD_SKILLS > {skill for skill in taught if lookup(skill).rare}


def test_templates_take_turns_within_a_skill() -> None:
    drawn = [made for made in sample(4000, seed=3) if made.skill == "who_has" and made.type == "question"]
    counts = Counter(made.template for made in drawn)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_facts_are_all_asked_before_one_is_asked_again() -> None:
    keys = [made.fact_key for made in sample(2000, seed=4) if made.type == "question" and made.skill == "plural"]
    assert len(set(keys)) == len(keys) > 20


def test_no_instruction_is_doubled_among_ten_thousand_and_every_fact_is_of_the_training_share() -> None:
    drawn, report = sample_with_report(10_000, seed=0)
    assert len({normalised(made.instruction) for made in drawn}) == 10_000
    keys = {made.fact_key for made in drawn if made.fact_key}
    by_key = [key for key in keys if key.split(":")[0] in BY_KEY]
    assert len(by_key) > 100
    assert [key for key in by_key if split_of(key) != "train"] == []
    assert report.by_type == dict.fromkeys(TASK_TYPES, 2500)
    assert sum(report.by_skill.values()) == 10_000


def test_one_fact_is_never_asked_twice_in_nearly_the_same_words() -> None:
    asked: dict[tuple[str, str], list[str]] = {}
    for made in sample(4000, seed=5):
        if made.fact_key and made.skill in ("capital", "weekday_month", "element_symbol"):
            asked.setdefault((made.type, made.fact_key), []).append(made.instruction)
    pairs = [(a, b) for texts in asked.values() for i, a in enumerate(texts) for b in texts[:i]]
    assert pairs
    assert [pair for pair in pairs if words_similarity(*map(word_list, pair)) >= 0.85] == []


def test_leaks_are_dropped_counted_and_refilled() -> None:
    def leaks(made: Instruction) -> str | None:
        return "fact" if made.skill == "capital" else "ngram" if made.instruction.endswith("?") else None

    drawn, report = sample_with_report(401, seed=6, leaks=leaks)
    assert by_type(drawn) == [101, 100, 100, 100]
    assert [made for made in drawn if leaks(made)] == []
    assert report.dropped["leak:fact"] > 0
    assert report.dropped["leak:ngram"] > 0


def test_filtering_leaves_the_other_skills_balanced() -> None:
    drawn = sample(800, seed=7, leaks=lambda made: "fact" if made.skill == "repeat" else None)
    rounds = shares(drawn, "transformation")
    assert "repeat" not in {made.skill for made in drawn}
    assert max(rounds) - min(rounds) <= 1


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match="at least one"):
        sample(count, seed=0)


@pytest.mark.slow
def test_more_than_the_pool_holds_is_refused_naming_its_size() -> None:
    with pytest.raises(UsageError, match=f"holds {pool_size()} instructions"):
        sample(pool_size() + 1, seed=0)


def smallest_type() -> TaskType:
    return min(TASK_TYPES, key=lambda kind: pool_sizes()[kind])


@pytest.mark.slow
def test_a_whole_type_can_be_drawn_and_is_the_same_for_every_seed() -> None:
    kind = smallest_type()
    first, second = (_draw(kind, 10**9, Random(seed), _Filter(no_leaks)) for seed in (8, 9))
    assert {made.id for made in first} == {made.id for made in second}
    assert len(first) == pool_sizes()[kind]


@pytest.mark.long
@pytest.mark.slow
def test_the_whole_pool_can_be_drawn_and_is_the_same_for_every_seed() -> None:
    drawn = sample(pool_size(), seed=8)
    assert len(drawn) == pool_size()
    smallest = smallest_type()
    again = _draw(smallest, 10**9, Random(9), _Filter(no_leaks))
    assert {made.id for made in again} >= {made.id for made in drawn if made.type == smallest}
    assert len(again) >= pool_sizes()[smallest]


def test_every_template_is_used() -> None:
    used = {made.template for made in sample(8000, seed=13)}
    assert [t.id for group in templates().values() for t in group if t.id not in used] == []
