"""The file that says what the study of steering varies: principles, their negations, what stands for a critique.

`{"version": 1, "wrong_critique": "It is written in French.", "principles": [{"constitution":
"examples/constitutions/thanks.yaml", "negation": "Never thank …", "phrase": "Thank you for asking. {answer}"}, …]}`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from cai_bootstrap.config import Section
from cai_bootstrap.constitution import Demonstration, Principle
from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.judging.rules import Rule, rule_holds
from cai_bootstrap.shipped import shipped
from cai_bootstrap.yaml_files import read_yaml

DEFAULT_STUDY = Path(__file__).parent / "data" / "steering.yaml"
ANSWER = "{answer}"
_QUESTION, _PLAIN_ANSWER = "What is a kite?", "A kite is a light toy on a long string."


@dataclass(frozen=True)
class StudyPrinciple:
    """One principle of the study. `negation` says the opposite of its text; `phrase` holds `{answer}` once."""

    as_principle: Principle
    check: Rule
    negation: str
    phrase: str

    @property
    def id(self) -> str:
        return self.as_principle.id

    @property
    def text(self) -> str:
        return self.as_principle.text

    @property
    def demonstrations(self) -> tuple[Demonstration, ...]:
        return self.as_principle.demonstrations

    def obeyed(self, question: str, line: str) -> bool:
        """Whether a line of an answer passes the check."""
        return rule_holds(self.check, question, line)

    def with_phrase(self, answer: str) -> str:
        """An answer, ended by a full stop where it has no mark, with the fixed phrase."""
        ended = answer.rstrip()
        return self.phrase.replace(ANSWER, ended if ended.endswith((".", "!", "?")) else f"{ended}.")


@dataclass(frozen=True)
class StudyFile:
    """What is varied. `other(i)` is what stands for another principle beside the i-th: the next one, in the circle."""

    principles: tuple[StudyPrinciple, ...]
    wrong_critique: str
    sha256: str

    def other(self, number: int) -> int:
        """The place of the principle whose text and demonstrations are "another's" for the one at `number`."""
        return (number + 1) % len(self.principles)


class _Entry(Section):
    constitution: str
    principle: str | None = None
    negation: str
    phrase: str


class _File(Section):
    version: Literal[1]
    wrong_critique: str
    principles: tuple[_Entry, ...] = Field(min_length=2)


def load_study(path: Path | None = None) -> StudyFile:
    """Read a study's file, by default the shipped one, with the constitutions that it names.

    Raises UsageError naming file and field: a principle without demonstrations or check, a negation that is the text
    itself, a phrase without `{answer}` or one that its principle's check fails. A constitution whose check does not fit
    its demonstrations is refused as everywhere.
    """
    path = path or DEFAULT_STUDY
    try:
        content = _File.model_validate(read_yaml(path, what="study"))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise UsageError(f"{path}: {field}: {problem['msg']}") from error
    principles = [_principle(entry, f"{path}: principles[{n}]", path) for n, entry in enumerate(content.principles)]
    if doubled := _doubled([principle.id for principle in principles]):
        raise UsageError(f"{path}: principle '{doubled}' stands twice; the study compares different ones")
    sha256 = fingerprint([content.wrong_critique, [_content(principle) for principle in principles]])
    return StudyFile(tuple(principles), content.wrong_critique, sha256)


def _principle(entry: _Entry, where: str, path: Path) -> StudyPrinciple:
    beside = path.parent / entry.constitution
    file = beside if beside.exists() else shipped(entry.constitution)
    constitution = load_checked(file)
    principle = constitution.principle(entry.principle) if entry.principle else constitution.principles[0]
    if not principle.demonstrations or principle.check is None:
        raise UsageError(f"{where}: '{principle.id}' of {file} needs demonstrations of its own and a check")
    if " ".join(entry.negation.split()).casefold() == principle.text.casefold():
        raise UsageError(f"{where}: negation: says what the principle says; write its opposite")
    if entry.phrase.count(ANSWER) != 1:
        raise UsageError(f"{where}: phrase: must hold {ANSWER} once; the first answer is put there")
    made = StudyPrinciple(principle, principle.check, entry.negation, entry.phrase)
    if not made.obeyed(_QUESTION, made.with_phrase(_PLAIN_ANSWER)):
        raise UsageError(f"{where}: phrase: '{made.with_phrase(_PLAIN_ANSWER)}' fails the check of '{principle.id}'")
    return made


def _content(principle: StudyPrinciple) -> list[object]:
    cases = [[d.instruction, d.answer, d.critique, d.better] for d in principle.demonstrations]
    return [principle.id, principle.text, principle.negation, principle.phrase, cases, principle.check]


def _doubled(ids: Sequence[str]) -> str | None:
    return next((id for n, id in enumerate(ids) if id in ids[:n]), None)
