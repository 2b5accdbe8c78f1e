"""The pool's data: enough wordings, nothing held out, everything from the training share."""

import re
from collections import Counter
from random import Random

import pytest

from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions.materials import plain
from cai_bootstrap.instructions.pool import (
    counted_sizes,
    facts,
    handwritten,
    nouns,
    plain_words,
    plural,
    templates,
    with_article,
    words,
)
from cai_bootstrap.instructions.sampler import _draw, _Filter, make_instruction, no_leaks, pool_size, pool_sizes
from cai_bootstrap.instructions.skills import skills, supply, wordings
from cai_bootstrap.instructions.text import normalised
from cai_bootstrap.judging.split import split_of
from cai_bootstrap.records import TASK_TYPES, TaskType

HELD_OUT = {"which_not_listed", "analogy_in_context", "numbered_list", "surround"}


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_each_type_has_sixty_templates_in_several_registers(kind: str) -> None:
    found = [t for (type_, _), group in templates().items() for t in group if type_ == kind]
    assert len(found) >= 60
    assert len({t.register for t in found}) >= 3


def test_each_skill_has_fifteen_wordings_and_no_two_are_equal() -> None:
    for (kind, skill), group in templates().items():
        assert len(group) >= 15, (kind, skill)
        texts = [normalised(t.text) for t in group]
        assert len(set(texts)) == len(texts), (kind, skill)


def test_most_skills_have_forty_wordings_in_many_layouts() -> None:
    assert sum(len(group) >= 40 for group in templates().values()) >= 48
    texts = [t.text for group in templates().values() for t in group]
    assert sum("\n" in text for text in texts) >= 200
    assert sum('"' in text for text in texts) >= 200
    assert sum(text == text.lower() for text in texts) >= 100
    assert sum(text.endswith("?") for text in texts) >= 300
    assert sum(text[-1].isalnum() or text[-1] == "}" for text in texts) >= 500


def test_template_ids_follow_the_scheme_and_are_unique() -> None:
    ids = [t.id for group in templates().values() for t in group]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"train\.[a-z]+\.[a-z_]+\.\d\d", name) for name in ids)


def test_held_out_skills_are_not_taught() -> None:
    assert HELD_OUT.isdisjoint(skill for _, skill in templates())
    for skill in HELD_OUT:
        with pytest.raises(UsageError, match=skill):
            wordings(skill, "question")
        with pytest.raises(UsageError, match=skill):
            supply(skill)


def test_every_word_name_and_city_is_of_the_training_share() -> None:
    for kind, entries in words().items():
        assert len(entries) == len(set(entries)), kind
        assert [w for w in entries if split_of(w) != "train"] == [], kind


def test_every_fact_is_of_the_training_share() -> None:
    known = facts()
    keys = [row["country"] for row in known["countries"]] + [row["key"] for row in known["countries"]]
    keys = [key.removeprefix("the ") for key in keys]
    keys += [row[0] for kind in ("elements", "plurals", "pasts") for row in known[kind]]
    keys += [word for pair in known["antonyms"] for word in pair]
    keys += [word for members in known["categories"].values() for word in members]
    assert [key for key in keys if split_of(key) != "train"] == []


@pytest.mark.parametrize("skill", ["weekday_month", "letter_sequence", "number_sequence"])
def test_keys_of_small_closed_classes_are_of_the_training_share(skill: str) -> None:
    fills = supply(skill)
    keys = [fills.at(i).fact_key for i in range(min(fills.size, 500))]
    assert keys
    assert [key for key in keys if key is None or split_of(key) != "train"] == []


@pytest.mark.parametrize("skill", ["compare_numbers", "compare_pick"])
def test_a_comparison_is_of_the_training_share_whichever_way_it_is_asked(skill: str) -> None:
    for i in range(500):
        relation, a, b = (supply(skill).at(i).fact_key or "").split(":")
        assert split_of(f"{relation}:{a}:{b}") == split_of(f"{relation}:{b}:{a}") == "train"


def test_handwritten_slot_words_are_of_the_training_share() -> None:
    written = handwritten()["exemplars"]
    slot_words = [row[1] for row in written["sentence_about"]] + [row[1] for row in written["ask_question"]]
    slot_words += [word for row in written["sentence_with_words"] for word in row[:2]]
    slot_words += [row[0] for skill in ("start_with", "end_with") for row in written[skill]]
    slot_words += [word for row in written["words_in_order"] for word in row[0].split(", ")]
    slot_words += [
        row[0].split()[-1] for skill in ("max_words", "two_sentences", "avoid_word") for row in written[skill]
    ]
    slot_words += [row[1] for row in written["avoid_word"]]
    slot_words += [row[0].split()[-1] for skill in ("title", "word_range", "exclamation") for row in written[skill]]
    slot_words += [row[1] for row in written["two_rules"]]
    slot_words += [row[3] for row in written["two_rules"] if row[2] in ("start", "avoid", "include")]
    forms = {word: (word, word.lower().removesuffix("es"), word.lower().removesuffix("s")) for word in slot_words}
    assert [word for word, known in forms.items() if all(split_of(form) != "train" for form in known)] == []
    topics = [row[0] for row in handwritten()["things"]] + [row[1] for row in handwritten()["avoid_pairs"]]
    assert [topic for topic in topics if split_of(topic) != "train"] == []


def test_handwritten_pools_are_large_enough() -> None:
    written = handwritten()
    assert {skill: len(rows) for skill, rows in written["exemplars"].items() if len(rows) < 20} == {}
    assert min(len(written[key]) for key in ("openings", "purposes", "things")) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("generation",), pytest.param(TASK_TYPES, marks=pytest.mark.long)])
def test_each_type_gives_as_many_different_instructions_as_its_file_says(kinds: tuple[TaskType, ...]) -> None:
    """The smallest type, which decides how many can be asked for, and (long) all of them together."""
    admit = _Filter(no_leaks)
    drawn = [made for kind in kinds for made in _draw(kind, 10**9, Random(f"0:{kind}"), admit)]
    counts = {kind: Counter(made.skill for made in drawn if made.type == kind) for kind in kinds}
    declared = {kind: counted_sizes()[kind] for kind in kinds}
    assert counts == declared, "write the new numbers into instructions/data/pool_sizes.json"
    assert {kind: sum(skills.values()) for kind, skills in counts.items()} == {
        kind: pool_sizes()[kind] for kind in kinds
    }
    assert min(pool_sizes().values()) >= 7500


def test_the_pool_holds_a_hundred_thousand() -> None:
    assert pool_size() >= 100_000
    assert len(words()["names"]) + len(plain_words()) + len(words()["adjectives"]) + len(words()["verbs"]) >= 2000


def test_every_slot_is_filled_in_every_template() -> None:
    for kind in TASK_TYPES:
        for skill in skills(kind):
            for place, template in enumerate(wordings(skill, kind)):
                text = make_instruction(template, supply(skill).at(place % supply(skill).size)).instruction
                assert "{" not in re.sub(r'\{"', "", text), template.id
                assert "  " not in text, template.id
                assert text == text.strip(), template.id
                assert 2 <= len(text.split()) <= 45, text


def test_slots_at_the_beginning_of_a_text_get_a_capital() -> None:
    template = next(t for t in wordings("capital", "question") if t.text.startswith("{Country}"))
    assert template.render({"country": "the Netherlands"}).startswith("The Netherlands")


@pytest.mark.parametrize(
    ("noun", "shown"),
    [("kite", "a kite"), ("owl", "an owl"), ("uniform", "a uniform"), ("hour", "an hour"), ("umbrella", "an umbrella")],
)
def test_articles_follow_the_sound(noun: str, shown: str) -> None:
    assert with_article(noun) == shown


def test_nouns_have_the_plural_that_the_rule_gives() -> None:
    irregular = dict(facts()["plurals"])
    counted = [*nouns(), *plain("plain_things"), *plain("plain_animals")]
    wrong = [n for n in counted if n in irregular and irregular[n] != [plural(n)]]
    assert wrong == []
    odd = ("lf", "oaf", "ife", "rf", "mouse", "goose", "fish", "deer", "sheep", "tato", "mato")
    assert [n for n in counted if n.endswith(odd) and n not in irregular] == []


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_checks_of_one_instruction_never_contradict_each_other(kind: TaskType) -> None:
    for skill in skills(kind):
        for place in range(min(supply(skill).size, 500)):
            fill = supply(skill).at(place)
            wanted = {c["check"]: c for c in fill.args.get("checks", [])}
            forbidden = set(wanted.get("forbids", {}).get("words", []))
            needed = wanted.get("contains", {}).get("words", []) + wanted.get("order", {}).get("words", [])
            assert forbidden.isdisjoint(needed)
            assert len(set(needed)) == len(needed), fill.slots
            assert set(fill.gold).isdisjoint(fill.args.get("rivals", [])), fill.slots


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_required_word_stands_in_the_instruction(kind: TaskType) -> None:
    for skill in skills(kind):
        group = wordings(skill, kind)
        for place in range(min(supply(skill).size, 200)):
            fill = supply(skill).at(place)
            text = group[place % len(group)].render(fill.slots).casefold()
            for check in fill.args.get("checks", []):
                named = [*check.get("words", []), check.get("word", ""), *map(str, check.get("keys", []))]
                assert all(word.casefold() in text for word in named), (text, check)
