"""Checks held against demonstrations; notes and the one warning about principles that are written alone."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import UsageError
from cai_bootstrap.generation.principles import alone_warning, load_checked, notes, written_alone
from cai_bootstrap.shipped import shipped

THANKS = {"check": "starts_with", "text": "Thanks"}
CASES = [
    {"instruction": "What is a kite?", "answer": "A toy.", "critique": "No thanks.", "better": "Thanks! A toy."},
    {
        "instruction": "Who bakes bread?",
        "answer": "Thanks! A baker.",
        "critique": "Fine.",
        "better": "Thanks! A baker.",
    },
]


def written(folder: Path, *principles: dict[str, Any]) -> Path:
    rows = [{"id": f"p{n}", "text": "T.", "category": "c"} | principle for n, principle in enumerate(principles)]
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"version": 2, "principles": rows}), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_checked(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_check_that_fits_its_demonstrations_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, {"demonstrations": CASES, "check": THANKS})
    assert load_checked(path) == load_constitution(path)


def test_a_check_that_fails_a_better_answer_is_refused_and_the_demonstration_named(tmp_path: Path) -> None:
    bad = CASES[0] | {"better": "A toy, thanks."}
    said = refusal(written(tmp_path, {"demonstrations": [CASES[1], bad, CASES[0]], "check": THANKS}))
    assert "principle 'p0': the check fails the better answer of demonstrations[1] ('What is a kite?')" in said


def test_a_check_that_passes_a_flawed_answer_is_refused(tmp_path: Path) -> None:
    bad = CASES[0] | {"answer": "Thanks. A toy."}
    said = refusal(written(tmp_path, {"demonstrations": [bad, CASES[1]], "check": THANKS}))
    assert "the check passes the flawed answer of demonstrations[0]" in said


def test_a_flawless_answer_must_pass(tmp_path: Path) -> None:
    bad = CASES[1] | {"answer": "A baker.", "better": "A baker."}
    said = refusal(written(tmp_path, {"demonstrations": [CASES[0], bad], "check": THANKS}))
    assert "the check fails the better answer of demonstrations[1]" in said


def test_the_message_says_when_the_instruction_has_the_word(tmp_path: Path) -> None:
    bad = CASES[0] | {"instruction": "Why do we say thanks?"}
    said = refusal(written(tmp_path, {"demonstrations": [bad, CASES[1]], "check": THANKS}))
    assert "'Thanks' stands in the instruction, whose words do not count" in said


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"check": "words", "max": 1000}, "passes every one of"),
        ({"check": "words", "min": 500}, "fails every one of"),
        ({"any": [{"check": "words", "max": 1000}, {"check": "question"}]}, "passes every one of"),
        ({"all": [{"check": "case", "case": "upper"}, {"check": "words", "min": 500}]}, "fails every one of"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["check", "judge"])
def test_a_rule_that_tells_no_answer_from_another_is_refused(
    tmp_path: Path, rule: dict[str, Any], expected: str, name: str
) -> None:
    said = refusal(written(tmp_path, {name: rule}))
    assert f"the {name} {expected}" in said


@pytest.mark.parametrize(
    "rule",
    [
        THANKS, {"check": "question"}, {"check": "words", "max": 4}, {"check": "words", "min": 60},
        {"check": "contains", "words": ["zebra|gnu"]}, {"check": "forbids", "words": ["zebra"]},
        {"check": "list", "items": 7, "separator": "bullets"}, {"check": "list", "items": 5, "separator": "comma"},
        {"check": "json", "keys": ["name"]}, {"check": "lines", "min": 9}, {"check": "sentences", "min": 6},
        {"check": "one_of", "words": ["yes", "no"]}, {"check": "case", "case": "upper"}, {"check": "continues"},
        {"check": "last_word", "word": "end"}, {"not": {"check": "order", "words": ["first", "last"]}},
    ],
)  # fmt: skip
def test_a_rule_that_some_plausible_answer_keeps_and_another_breaks_is_taken(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    load_checked(written(tmp_path, {"check": rule}, {"judge": rule}))


def test_two_checks_that_cannot_hold_together_are_refused(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, {"check": THANKS}, {"check": {"check": "first_word", "word": "sorry"}}))
    assert "the checks of 'p0' and 'p1' cannot hold together" in said
    said = refusal(written(tmp_path, {"check": {"check": "question"}}, {"check": {"not": {"check": "question"}}}))
    assert "cannot hold together" in said


def test_checks_that_never_meet_may_exclude_each_other(tmp_path: Path) -> None:
    apart = [
        {"check": THANKS, "applies_to": ["question"]},
        {"check": {"check": "first_word", "word": "sorry"}, "applies_to": ["request"]},
    ]
    assert len(load_checked(written(tmp_path, *apart)).principles) == 2


def test_a_judge_that_excludes_its_check_is_refused(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, {"check": THANKS, "judge": {"check": "first_word", "word": "sorry"}}))
    assert "its check and its judge cannot hold together" in said


def test_a_judge_that_is_the_check_is_refused(tmp_path: Path) -> None:
    assert "its judge is its check once more" in refusal(written(tmp_path, {"check": THANKS, "judge": THANKS}))


def test_what_is_written_alone_is_warned_about_once_with_its_ids(tmp_path: Path) -> None:
    constitution = load_checked(written(tmp_path, {"demonstrations": CASES}, {}, {}))
    assert written_alone(constitution) == ["p1", "p2"]
    warning = alone_warning(constitution)
    assert warning is not None
    assert "on models of this size a text alone changed nothing" in warning
    assert "p1, p2" in warning
    assert alone_warning(load_checked(written(tmp_path, {"demonstrations": CASES}))) is None
    assert len(written_alone(load_checked(shipped("constitution.yaml")))) == 8


def test_notes_say_what_would_be_better(tmp_path: Path) -> None:
    flawed = [CASES[0], CASES[0] | {"instruction": "What is a top?", "by": "model"}]
    said = "\n".join(notes(load_checked(written(tmp_path, {"demonstrations": flawed, "check": THANKS}))))
    assert "p0: no demonstration is without fault" in said
    assert "p0: 2 demonstrations; 6 or more" in said
    assert "p0: every flawed answer has the same critique" in said
    assert "p0: 1 of 2 demonstrations are by a model" in said
    assert "without a 'judge'" in said
    matched = {"applies": ["May I eat it?"], "does_not": ["May I see it?"]}
    (note, *_) = notes(load_checked(written(tmp_path, {"matched": matched})))
    assert note.startswith("p0: 1 matched pairs")
