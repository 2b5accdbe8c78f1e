"""The model proposes demonstrations for principles that have too few, for a person to read and mend.

A principle that has none is asked for after the shipped ones, each before one case of its own; one that has some, after
its own cases, which a small model goes on with far better. It is given a question and its own answer, and goes on with
a critique and a better answer. Several draws, filtered; what is kept is marked `by: model`. On a small model many
proposals are poor: the filters find what is no case at all, and only a person finds the rest.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.constitution import (
    MIN_DEMONSTRATIONS,
    Constitution,
    Demonstration,
    Principle,
    load_constitution,
    located,
)
from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import write_atomic
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.generation.prompts import NEXT_EXAMPLE, one_paragraph
from cai_bootstrap.generation.trial import ANSWER_TOKENS, CRITIQUE_TOKENS, QUESTIONS, first_answers
from cai_bootstrap.inference.engine import Engine, Sampling
from cai_bootstrap.judging.own.names import names_in
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers.text import folded_words, is_echo, is_repeated
from cai_bootstrap.shipped import shipped
from cai_bootstrap.yaml_files import compose_yaml, load_yaml, read_yaml

WANTED = 6
DRAWS = 3
TEMPERATURE = 0.7
TOP_P = 0.95
MORE_QUESTIONS = (
    "Who repairs a broken shoe?",
    "Where do ducks sleep?",
    "How can I thank a neighbour?",
    "What is a good name for a dog?",
    "When do I plant beans?",
)
BETTER = "\nBetter answer:"


@dataclass
class Draft:
    """What was proposed: the kept cases of each principle, and why others were dropped (reason: count).

    `owned` counts the cases that a principle had before.
    """

    kept: dict[str, list[Demonstration]] = field(default_factory=dict)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    owned: dict[str, int] = field(default_factory=dict)

    @property
    def too_few(self) -> list[str]:
        """The principles that have fewer cases than a constitution may hold; they stay written alone."""
        return [id for id, cases in self.kept.items() if self.owned[id] + len(cases) < MIN_DEMONSTRATIONS]


def incomplete(constitution: Constitution, wanted: int = WANTED) -> list[Principle]:
    """The principles with fewer than `wanted` demonstrations."""
    return [p for p in constitution.principles if len(p.demonstrations) < wanted]


def draft(engine: Engine, constitution: Constitution, *, seed: int, wanted: int = WANTED) -> Draft:
    """Propose as many demonstrations for each principle as it lacks of `wanted`.

    Raises EngineError if the engine fails for good.
    """
    questions = (*QUESTIONS, *MORE_QUESTIONS)
    drafted = incomplete(constitution, wanted)
    made = Draft(
        {p.id: [] for p in drafted},
        {p.id: Counter() for p in drafted},
        {p.id: len(p.demonstrations) for p in drafted},
    )
    if not drafted:
        return made
    answers = first_answers(engine, questions, seed=seed)
    for draw in range(DRAWS):
        asked = [
            (p, q, a)
            for p in drafted
            for q, a in zip(questions, answers, strict=True)
            if len(p.demonstrations) + len(made.kept[p.id]) < wanted
            and all(d.instruction != q for d in (*p.demonstrations, *made.kept[p.id]))
        ]
        prompts = [_prompt(p, q, a, seed=seed + draw) for p, q, a in asked]
        sampling = Sampling(
            CRITIQUE_TOKENS + ANSWER_TOKENS, stop=NEXT_EXAMPLE, seed=seed + draw, top_p=TOP_P,
            temperature=TEMPERATURE if draw else 0.0,
        )  # fmt: skip
        for (principle, question, answer), completion in zip(asked, engine.stream(prompts, sampling), strict=True):
            critique, _, better = completion.text.partition(BETTER)
            case = Demonstration(question, answer, one_paragraph(critique), one_paragraph(better), by="model")
            fault = _fault(principle, case, ended=completion.ended_by != "length")
            if fault is not None:
                made.dropped[principle.id][fault] += 1
            elif len(principle.demonstrations) + len(made.kept[principle.id]) < wanted:
                made.kept[principle.id].append(case)
    return made


def must_stay_beside(source: Path, target: Path, constitution: Constitution) -> None:
    """Raises UsageError where checks of the user's own would not be found from the new file's folder."""
    rules = [rule for p in constitution.principles for rule in (p.check, p.judge)]
    own = next(names_in(rules), None)
    if own is not None and target.absolute().parent != located(source).absolute().parent:
        raise UsageError(
            f"{target}: its checks would look for {own.path} there, by a path relative to the file; write --out beside "
            f"{source}"
        )


def _as_read(node: yaml.Node) -> Any:
    """A constitution's values as its reader sees them: texts, even `yes` and `2026-01-02`, and rules."""
    if isinstance(node, yaml.MappingNode):
        return {
            key.value: load_yaml(yaml.serialize(value)) if key.value in ("check", "judge") else _as_read(value)
            for key, value in node.value
        }
    if isinstance(node, yaml.SequenceNode):
        return [_as_read(entry) for entry in node.value]
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def write_draft(source: Path, target: Path, made: Draft) -> Constitution:
    """Write the constitution with the drafted cases as a new version 2 file; comments of the old one are not kept.

    Raises UsageError if the new file is there already.
    """
    if target.exists():
        raise UsageError(f"{target}: is there already; name a new file with --out, so that nothing of yours is lost")
    content: dict[str, Any] = _as_read(read_yaml(located(source), what="constitution", parse=compose_yaml))
    name = content.pop("name", None) or load_constitution(source).name
    content.pop("version", None)
    for row in content["principles"]:
        cases = made.kept.get(" ".join(str(row["id"]).split()), [])
        owned = row.get("demonstrations") or []
        if cases and len(owned) + len(cases) >= MIN_DEMONSTRATIONS:
            row["demonstrations"] = [*owned, *(asdict(case) for case in cases)]
    head = "# Demonstrations marked `by: model` are proposals: read each, mend it, and write your name or `person`.\n"
    whole = {"name": name, "version": 2, "principles": content["principles"]}
    write_atomic(target, head + yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100))
    return load_checked(target)


def _prompt(principle: Principle, question: str, answer: str, *, seed: int) -> str:
    """Worked cases in seeded order, then the principle at hand, left open.

    The cases are the principle's own flawed ones; where it has none, one of each shipped principle.
    """
    order = random.Random(f"draft:{seed}:{principle.id}:{question}")
    own = [(principle, case) for case in principle.demonstrations if not case.flawless]
    cases = own or [
        (other, order.choice([d for d in other.demonstrations if not d.flawless]))
        for other in _shipped()
        if other.text != principle.text
    ]
    shown = [
        f"{_open(other.text, case.instruction, case.answer)} {case.critique}{BETTER} {case.better}\n\n"
        for other, case in order.sample(cases, len(cases))
    ]
    return "".join(shown) + _open(principle.text, question, answer)


def _open(text: str, instruction: str, answer: str) -> str:
    return f"Principle: {text}\nInstruction: {instruction}\nAnswer: {answer}\nCritique:"


def _shipped() -> Sequence[Principle]:
    return load_constitution(shipped("constitution_v2.yaml")).principles


def _fault(principle: Principle, case: Demonstration, *, ended: bool) -> str | None:
    """Why a proposal is no demonstration, or None."""
    if not ended:
        return "cut off"
    if not case.answer or not folded_words(case.critique) or not folded_words(case.better):
        return "empty"
    if folded_words(case.better) == folded_words(case.answer):
        return "unchanged"
    if is_echo(case.instruction, case.better, free_text=True) or is_repeated(case.better):
        return "echo"
    if folded_words(case.critique) in (folded_words(case.better), folded_words(case.answer)):
        return "critique repeats the answer"
    if principle.check is None:
        return None
    if not rule_holds(principle.check, case.instruction, case.better):
        return "fails the check"
    return "answer passes" if rule_holds(principle.check, case.instruction, case.answer) else None


def reasons(made: Draft) -> Iterator[str]:
    """One line for each principle: how many were kept, and what was dropped."""
    for id, cases in made.kept.items():
        dropped = ", ".join(f"{reason} {count}" for reason, count in made.dropped[id].most_common())
        yield f"{id}: {len(cases)} kept" + (f"; dropped: {dropped}" if dropped else "")
