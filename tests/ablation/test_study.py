"""The study's file: the shipped one is sound, and one that would mislead is refused with the place that is wrong."""

from pathlib import Path

import pytest

from cai_bootstrap.ablation.study import load_study
from cai_bootstrap.errors import UsageError

PRINCIPLE = """
  - id: {id}
    category: c
    text: Answer with {id}.
    check: {{check: contains, words: [{id}]}}
    demonstrations:
      - {{instruction: "What is a kite?", answer: A toy., critique: It has no {id}., better: "A toy, {id}."}}
      - {{instruction: "What is a lamp?", answer: A light., critique: It has no {id}., better: "A light, {id}."}}
"""
STUDY = """
version: 1
wrong_critique: It is written in French.
principles:
  - {constitution: c.yaml, principle: red, negation: Leave red out., phrase: "{answer} Red."}
  - {constitution: c.yaml, principle: blue, negation: Leave blue out., phrase: "{answer} Blue."}
"""


def write_study(folder: Path, text: str = STUDY) -> Path:
    constitution = "version: 2\nprinciples:" + PRINCIPLE.format(id="red") + PRINCIPLE.format(id="blue")
    bare = "  - {id: bare, category: c, text: Be kind.}\n"
    (folder / "c.yaml").write_text(constitution + bare)
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_the_shipped_study_has_three_principles_each_with_its_negation_and_cases_of_its_own() -> None:
    study = load_study()
    assert [principle.id for principle in study.principles] == ["thanks", "asks-back", "careful"]
    assert [study.other(n) for n in range(3)] == [1, 2, 0]
    cases = [case.better for principle in study.principles for case in principle.demonstrations]
    assert len(set(cases)) == len(cases)
    for number, principle in enumerate(study.principles):
        other = study.principles[study.other(number)]
        obeyed = [other.obeyed(c.instruction, c.better) for c in principle.demonstrations]
        assert sum(obeyed) <= 1, f"the cases of {principle.id} show {other.id} too"


def test_a_phrase_stands_beside_an_answer_that_ends() -> None:
    asks = load_study().principles[1]
    assert asks.with_phrase("It is a toy") == "It is a toy. What else would you like to know?"
    assert asks.obeyed("What is a kite?", asks.with_phrase("It is a toy"))
    assert asks.with_phrase("A toy!").startswith("A toy! What")


def test_a_study_of_ones_own_names_files_beside_it(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path))
    assert [principle.id for principle in study.principles] == ["red", "blue"]
    assert study.sha256 != load_study(write_study(tmp_path, STUDY.replace("French", "Greek"))).sha256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: 3", "version"),
        ("Leave red out.", "Answer with red.", r"principles\[0\]: negation: .*write its opposite"),
        ("{answer} Red.", "Red.", r"principles\[0\]: phrase: must hold \{answer\} once"),
        ("{answer} Red.", "{answer} Green.", r"phrase: .* fails the check of 'red'"),
        ("principle: blue", "principle: bare", r"principles\[1\]: 'bare' of .* needs demonstrations"),
        ("principle: blue", "principle: red", "phrase"),
        ("principle: blue", "principle: green", "no principle 'green'"),
        ("c.yaml, principle: blue", "d.yaml", "d.yaml"),
        ("wrong_critique", "critique", "critique"),
    ],
)  # fmt: skip
def test_a_study_that_would_mislead_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_study(write_study(tmp_path, STUDY.replace(old, new)))


def test_a_principle_is_studied_once(tmp_path: Path) -> None:
    twice = STUDY.replace("principle: blue", "principle: red").replace("{answer} Blue.", "{answer} Red.")
    with pytest.raises(UsageError, match="'red' stands twice"):
        load_study(write_study(tmp_path, twice))
