"""The exact prompts, for base models: completion-style, few-shot, never a chat template.

Every prompt is a list of worked cases in one plain format, with the last one left open. A principle that has
demonstrations is shown by them and by nothing else, because a small base model is steered by what it is shown, not by
what it is told. Otherwise the cases are worked examples that share the instruction's skill, as such a model copies the
form that it sees (docs/METHOD.md has both measurements). A change of any wording must change `PROMPT_VERSION`, which is
part of the data's fingerprint.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

import yaml

from cai_bootstrap.constitution import Demonstration, Principle
from cai_bootstrap.instructions.exemplars import Exemplar

PROMPT_VERSION = "stage1-3"
NEXT_EXAMPLE = ("\n\n", "\nInstruction:")
Flaw = Literal["runs_on", "other_answer", "echo", "none"]


@dataclass(frozen=True)
class WorkedExample:
    """An exemplar with a flawed (or fine) first answer and what a critic said of it."""

    exemplar: Exemplar
    answer: str
    critique: str
    flaw: Flaw

    @property
    def instruction(self) -> str:
        return self.exemplar.instruction

    @property
    def better(self) -> str:
        return self.exemplar.answer


# A worked case: an instruction, an answer, its critique, and the better answer.
Case: TypeAlias = WorkedExample | Demonstration


def own_cases(principle: Principle | None, *, seed: int, use: str, exclude: str = "") -> list[Demonstration]:
    """All demonstrations of a principle, in an order that seed and `use` decide; empty if it has none.

    `exclude` is the instruction at hand: a demonstration of the same one is left out where others remain, or its answer
    would be copied.
    """
    if principle is None:
        return []
    shown = list(principle.demonstrations)
    random.Random(f"demonstrations:{seed}:{use}").shuffle(shown)
    asked = " ".join(exclude.casefold().split())
    return [d for d in shown if d.instruction.casefold() != asked] or shown


def direct_prompt(instruction: str, demonstrations: Sequence[Demonstration]) -> str:
    """The better answers of demonstrations as direct examples, without critique, then the instruction left open."""
    shown = [f"Instruction: {d.instruction}\nResponse: {d.better}\n\n" for d in demonstrations]
    return "".join(shown) + f"Instruction: {instruction}\nResponse:"


def respond_prompt(instruction: str, exemplars: Sequence[Exemplar]) -> str:
    """Worked examples, then the instruction, with its response left open."""
    shown = [f"Instruction: {e.instruction}\nResponse: {e.answer}\n\n" for e in exemplars]
    return "".join(shown) + f"Instruction: {instruction}\nResponse:"


def critique_prompt(instruction: str, response: str, principle: Principle | None, cases: Sequence[Case]) -> str:
    """Worked criticisms, then the response to criticise against `principle` (None: against none).

    `cases` are the principle's own (`own_cases`), else worked examples.
    """
    shown = [f"{_case(c.instruction, c.answer, principle)} {c.critique}\n\n" for c in cases]
    return "".join(shown) + _case(instruction, response, principle)


def revise_prompt(
    instruction: str, response: str, critique: str, principle: Principle | None, cases: Sequence[Case]
) -> str:
    """Worked revisions, then the response with its critique, with the better answer left open."""
    shown = [f"{_case(c.instruction, c.answer, principle)} {c.critique}\nBetter answer: {c.better}\n\n" for c in cases]
    return "".join(shown) + f"{_case(instruction, response, principle)} {critique}\nBetter answer:"


def choice_prompt(instruction: str, first: str, second: str, principle: Principle, cases: Sequence[Case]) -> str:
    """Worked comparisons (the better answer stands under A and B in turn), then two answers to choose from.

    A demonstration without fault has nothing to compare, and is left out.
    """
    shown: list[str] = []
    compared = [case for case in cases if not (isinstance(case, Demonstration) and case.flawless)]
    for number, case in enumerate(compared):
        good, flawed = case.better, case.answer
        pair, better = ((good, flawed), "A") if number % 2 == 0 else ((flawed, good), "B")
        shown.append(f"{_comparison(case.instruction, *pair, principle)} {better}\n\n")
    return "".join(shown) + _comparison(instruction, first, second, principle)


def worked_examples(exemplars: Sequence[Exemplar], *, seed: int, with_flawless: bool = True) -> list[WorkedExample]:
    """Give each exemplar a seeded flaw and a matching critique. About one in four has none, unless excluded."""
    draw = random.Random(f"flaws:{seed}")
    kinds: list[Flaw] = ["runs_on", "other_answer", "echo"]
    if with_flawless:
        kinds.append("none")
    offset = draw.randrange(len(kinds))
    worked: list[WorkedExample] = []
    for number, exemplar in enumerate(exemplars):
        flaw = kinds[(number + offset) % len(kinds)]
        others = [e.answer for e in exemplars if e.answer != exemplar.answer]
        if flaw == "other_answer" and not others:
            flaw = "runs_on"
        critique = draw.choice(_critiques()[flaw]).format(answer=exemplar.answer.replace("{", "(").replace("}", ")"))
        worked.append(WorkedExample(exemplar, _flawed(exemplar, flaw, others, draw), critique, flaw))
    return worked


def one_paragraph(text: str) -> str:
    """A completion reduced to its first paragraph, on one line, stripped."""
    return " ".join(text.strip().split("\n\n")[0].split())


def _case(instruction: str, answer: str, principle: Principle | None) -> str:
    rule = f"Principle: {principle.text}\n" if principle else ""
    return f"{rule}Instruction: {instruction}\nAnswer: {answer}\nCritique:"


def _comparison(instruction: str, first: str, second: str, principle: Principle) -> str:
    case = f"Principle: {principle.text}\nInstruction: {instruction}\n"
    return f"{case}Answer A: {first}\nAnswer B: {second}\nThe better answer is"


def _flawed(exemplar: Exemplar, flaw: Flaw, others: Sequence[str], draw: random.Random) -> str:
    if flaw == "runs_on":
        return f"{exemplar.answer} {exemplar.answer} {exemplar.answer}"
    if flaw == "other_answer":
        return draw.choice(others)
    return exemplar.instruction if flaw == "echo" else exemplar.answer


@cache
def _critiques() -> dict[Flaw, list[str]]:
    text = files("cai_bootstrap.generation").joinpath("data/critiques.yaml").read_text(encoding="utf-8")
    return {flaw["kind"]: flaw["critiques"] for flaw in yaml.safe_load(text)["flaws"]}
