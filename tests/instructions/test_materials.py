"""What instructions are about: varied, of the training share, and answered by what the instruction says."""

import re
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from cai_bootstrap.instructions.materials import material, number_word, phrase, plain, row, some_things, statement_slots
from cai_bootstrap.instructions.pool import capitalised, facts, handwritten, words
from cai_bootstrap.instructions.skills import supply
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.judging.split import split_of


def fills(skill: str, count: int = 300) -> list[tuple[dict[str, str], list[str]]]:
    return [(fill.slots, fill.gold) for fill in map(supply(skill).at, range(count))]


def test_texts_are_short_and_of_many_forms() -> None:
    texts = [phrase(Random(i)) for i in range(500)]
    assert {len(text.split()) for text in texts} >= set(range(2, 9))
    assert max(len(text.split()) for text in texts) <= 10
    assert not any("{" in text or text.endswith((".", ",", "?")) for text in texts)
    assert len({tuple(text.split()[:2]) for text in texts}) > 200


@pytest.mark.parametrize("kind", ["colors", "places", "plain_adjectives", "plain_topics", "plain_things"])
def test_everyday_words_are_of_the_training_share_and_many(kind: str) -> None:
    kept = plain(kind)
    assert len(kept) >= 10
    assert [word for word in kept if split_of(word) != "train"] == []
    assert len(set(handwritten()[kind])) == len(handwritten()[kind])


def test_every_slot_value_is_of_the_training_share() -> None:
    for i in range(200):
        given = material(Random(i))
        for slot in ("name", "other", "city", "thing", "noun", "animal", "food", "adj", "color"):
            assert split_of(given[slot]) == "train", (slot, given[slot])
        assert given["name"] != given["other"]
        assert given["thing"] != given["other_thing"]


def test_rows_of_words_have_every_length_and_several_kinds() -> None:
    rows = [row(Random(i), 2, 6) for i in range(300)]
    assert {len(found) for found in rows} == set(range(2, 7))
    assert all(len(set(found)) == len(found) for found in rows)
    assert any(set(found) <= set(words()["names"]) for found in rows)
    assert any(set(found) <= set(plain("colors")) for found in rows)


def test_facts_are_told_as_one_clause_and_as_whole_sentences() -> None:
    shown = [statement_slots(Random(i), ["the cup is red", "the hat is blue", "the box is green"]) for i in range(60)]
    assert {slots["facts"] for slots in shown} == {"the cup is red, the hat is blue and the box is green"}
    assert "The cup is red. The hat is blue. The box is green" in {slots["told"] for slots in shown}
    assert len(some_things(Random(0), 8)) == 8


@pytest.mark.parametrize(
    ("n", "shown"), [(1, "one"), (13, "thirteen"), (20, "twenty"), (42, "forty-two"), (100, "one hundred")]
)
def test_numbers_in_words(n: int, shown: str) -> None:
    assert number_word(n) == shown


def test_owners_stand_among_two_to_four_people() -> None:
    sizes: Counter[int] = Counter()
    for slots, gold in fills("who_has"):
        sizes[len(re.findall(rf"\b{slots['verb']}\b", slots["facts"]))] += 1
        thing = slots["the"].removeprefix("the ")
        assert re.search(rf"\b{gold[0]} {slots['verb']} an? {re.escape(thing)}\b", slots["facts"])
        assert gold[0] in (slots["x"], slots["y"])
    assert set(sizes) == {2, 3, 4}


def test_the_asked_property_is_the_told_one() -> None:
    for slots, gold in fills("property_of"):
        assert re.search(rf"\b{slots['asked']} is {gold[0]}\b", slots["facts"])
        assert gold[0] == slots["p" if slots["asked"] == slots["one"] else "q"]


@pytest.mark.parametrize(("skill", "yes"), [("true_false", "True"), ("yes_no_told", "yes")])
def test_a_claim_is_true_where_the_facts_say_it(skill: str, yes: str) -> None:
    found = fills(skill)
    for slots, gold in found:
        assert (gold[0] == yes) == bool(re.search(rf"\b{slots['claim']}(?!\w)", slots["facts"])), slots
    assert 0.4 < sum(gold[0] == yes for _, gold in found) / len(found) < 0.6


def test_a_place_is_where_the_facts_put_it() -> None:
    for slots, gold in fills("where_is"):
        assert f"{slots['who']} is {gold[0][0].lower()}{gold[0][1:]}" in slots["facts"]


def test_the_comparison_turns_round_with_its_word() -> None:
    for slots, gold in fills("who_is_taller"):
        assert gold == [slots["x"] if slots["asked"] == slots["more"] else slots["y"]]


def test_listed_things_are_counted_right() -> None:
    for slots, gold in fills("how_many"):
        assert int(gold[0]) == slots["list"].count(",") + 2
        assert number_word(int(gold[0])) == gold[1]


def test_the_alphabet_decides_which_word_is_first_or_last() -> None:
    for slots, gold in fills("which_first"):
        ranked = sorted(slots["list"].split(", "), key=str.lower)
        assert gold == [ranked[0 if slots["end"] == "first" else -1]]


def test_letters_are_those_at_the_ends() -> None:
    for slots, gold in fills("letter_position"):
        assert gold == [slots["word"][0 if slots["end"] == "first" else -1].lower()]


def test_the_odd_one_is_alone_in_its_kind() -> None:
    known = facts()["categories"]
    for slots, gold in fills("odd_one_out"):
        others = [word for word in slots["list"].split(", ") if word != gold[0]]
        kinds = [kind for kind, members in known.items() if set(others) <= set(members)]
        assert kinds
        assert all(gold[0] not in known[kind] for kind in kinds)


def test_counting_goes_on_by_the_same_step() -> None:
    numbers = {number_word(n): n for n in range(1, 101)}
    for slots, gold in fills("count_on"):
        shown = [numbers[word] for word in slots["list"].replace(",", "").split()]
        assert int(gold[1]) - shown[-1] == shown[1] - shown[0]


def test_number_sequences_follow_several_rules_that_their_beginning_shows() -> None:
    rules: Counter[str] = Counter()
    for slots, gold in fills("number_sequence", 600):
        shown = [int(n) for n in re.findall(r"\d+", slots["list"])] + [int(gold[0])]
        steps = [b - a for a, b in pairwise(shown)]
        if len(set(steps)) == 1:
            rules["up" if steps[0] > 0 else "down"] += 1
        elif all(b - a == steps[1] - steps[0] for a, b in pairwise(steps)) and len(steps) > 2:
            rules["growing"] += 1
        else:
            factor = shown[1] // shown[0]
            assert all(b == a * factor for a, b in pairwise(shown)), shown
            rules[f"times {factor}"] += 1
    assert {"up", "down", "growing", "times 2", "times 3"} <= set(rules)


def test_the_word_that_is_to_be_found_is_the_only_one_of_its_kind() -> None:
    for slots, gold in fills("find_in_text"):
        assert len(re.findall(rf"\b{gold[0]}\b", slots["text"])) == 1, slots
        if slots["what"] == "number":
            assert re.findall(r"\d+", slots["text"]) == gold
        if slots["what"] == "name":
            assert [word for word in slots["text"].split() if word in words()["names"]] == gold


@pytest.mark.parametrize(
    ("skill", "made"),
    [
        ("swap_ends", lambda s: " ".join([(w := s["text"].split())[-1], *w[1:-1], w[0]])),
        ("two_words", lambda s: " ".join(s["text"].split()[slice(2) if s["end"] == "first" else slice(-2, None)])),
        ("add_word", lambda s: f"{s['word']} {s['text']}" if s["end"] == "beginning" else f"{s['text']} {s['word']}"),
        ("title_case", lambda s: " ".join(map(capitalised, s["text"].split()))),
        ("remove_punctuation", lambda s: re.sub(r"[^\w\s'-]", "", s["text"])),
        ("first_letters", lambda s: " ".join(word[0].lower() for word in s["list"].split())),
    ],
)
def test_a_transformation_gives_what_its_name_says(skill: str, made) -> None:  # type: ignore[no-untyped-def]
    for slots, gold in fills(skill):
        assert gold[0] == made(slots), slots


def test_joined_words_take_each_spelling_of_the_separator() -> None:
    for slots, gold in fills("join_with"):
        for spelling in gold:
            assert check("Join these words.", "exact", {}, gold, spelling).success
            assert re.sub(r"[-+/;_=]| and ", " ", spelling).split() == slots["list"].split()
        assert not check("Join these words.", "exact", {}, gold, slots["list"]).success


def test_a_told_fact_finishes_the_unfinished_sentence() -> None:
    for slots, gold in fills("fill_blank"):
        assert gold[0] in slots["told"] or gold[-1] in slots["told"]
        assert not slots["rest"].endswith((".", gold[-1]))


def test_a_second_rule_is_checked_beside_the_topic() -> None:
    kinds: Counter[str] = Counter()
    for place in range(300):
        fill = supply("two_rules").at(place)
        checks = {entry["check"]: entry for entry in fill.args["checks"]}
        assert checks["sentences"] == {"check": "sentences", "min": 1, "max": 1}
        assert fill.topic in checks["contains"]["words"]
        kinds[fill.args["checks"][-1]["check"]] += 1
    assert set(kinds) == {"words", "first_word", "forbids", "contains", "ends_with", "question"}
