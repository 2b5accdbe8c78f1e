"""The exact prompts, for base models: completion-style, few-shot, never a chat template.

Every prompt is a list of worked examples in one plain format, with the last one left open. The examples share the
instruction's skill, because a small base model copies the form it is shown (docs/METHOD.md has the measurement). A
change of any wording must change `PROMPT_VERSION`, which is part of the data's fingerprint.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from cai_bootstrap.constitution import Principle
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


def respond_prompt(instruction: str, exemplars: Sequence[Exemplar]) -> str:
    """Worked examples, then the instruction, with its response left open."""
    shown = [f"Instruction: {e.instruction}\nResponse: {e.answer}\n\n" for e in exemplars]
    return "".join(shown) + f"Instruction: {instruction}\nResponse:"


def critique_prompt(
    instruction: str, response: str, principle: Principle | None, examples: Sequence[WorkedExample]
) -> str:
    """Worked criticisms, then the response to criticise against `principle` (None: against none)."""
    shown = [f"{_case(e.exemplar.instruction, e.answer, principle)} {e.critique}\n\n" for e in examples]
    return "".join(shown) + _case(instruction, response, principle)


def revise_prompt(
    instruction: str, response: str, critique: str, principle: Principle | None, examples: Sequence[WorkedExample]
) -> str:
    """Worked revisions, then the response with its critique, with the better answer left open."""
    shown = [
        f"{_case(e.exemplar.instruction, e.answer, principle)} {e.critique}\nBetter answer: {e.exemplar.answer}\n\n"
        for e in examples
    ]
    return "".join(shown) + f"{_case(instruction, response, principle)} {critique}\nBetter answer:"


def choice_prompt(
    instruction: str, first: str, second: str, principle: Principle, examples: Sequence[WorkedExample]
) -> str:
    """Worked comparisons (the better answer stands under A and B in turn), then two answers to choose from."""
    shown: list[str] = []
    for number, example in enumerate(examples):
        good, flawed = example.exemplar.answer, example.answer
        pair, better = ((good, flawed), "A") if number % 2 == 0 else ((flawed, good), "B")
        shown.append(f"{_comparison(example.exemplar.instruction, *pair, principle)} {better}\n\n")
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
