"""A constitution tried before anything trains: everyday questions, the model's answers, its critiques and revisions.

The prompts are those of the constitution stage (`generation.revising`), but each principle revises the first answer,
and its `applies_to` and `matched` decide nothing here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.generation.carrying import turn_cases
from cai_bootstrap.generation.prompts import (
    NEXT_EXAMPLE,
    Case,
    critique_prompt,
    one_paragraph,
    respond_prompt,
    revise_prompt,
    worked_examples,
)
from cai_bootstrap.generation.revising import CRITIC_EXAMPLES, SHOTS, open_exemplars
from cai_bootstrap.generation.revision_faults import Checks, revision_fault
from cai_bootstrap.inference.engine import Completion, Engine, Sampling
from cai_bootstrap.instructions.exemplars import Exemplar
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.records import Prompt

QUESTIONS = (
    "What is a kite?",
    "How do I boil an egg?",
    "Why do leaves fall from trees?",
    "What should I take to a picnic?",
    "Can I keep milk on the window sill?",
)
ANSWER_TOKENS = 32
CRITIQUE_TOKENS = 24


@dataclass(frozen=True)
class Attempt:
    """One question, answered, criticised by one principle, and answered anew. Each text is one line.

    `{"principle_id": "brief", "question": "What is a kite?", "answer": "A kite is a toy that flies on a string.",
    "critique": "It is too long.", "revision": "A toy on a string.", "fault": null, "before": false, "after": true}`.
    `fault`: why the stage would drop the revision for its form. `before` and `after`: whether answer and revision keep
    the principle's check, null where it has none.
    """

    principle_id: str
    question: str
    answer: str
    critique: str
    revision: str
    fault: str | None
    before: bool | None
    after: bool | None

    @property
    def changed(self) -> bool:
        """The revision says something else than the answer."""
        return self.revision != self.answer


@dataclass(frozen=True)
class _Asked:
    """What a critique is asked of: one answer, by one principle, after its cases."""

    principle: Principle
    question: str
    answer: str
    cases: Sequence[Case]


def first_answers(engine: Engine, questions: Sequence[str], *, seed: int) -> list[str]:
    """The model's greedy answer to each question, after everyday examples that keep to no principle."""
    prompts = [respond_prompt(question, _exemplars(question, SHOTS, seed)) for question in questions]
    return [one_paragraph(c.text) for c in _complete(engine, prompts, ANSWER_TOKENS)]


def attempts(
    engine: Engine, constitution: Constitution, questions: Sequence[str], answers: Sequence[str], *, seed: int
) -> Iterator[list[Attempt]]:
    """For each principle in the file's order: its critique and revision of every answer, greedy.

    Yields a principle's attempts together. As many principles are asked at once as fill a batch of the engine. Raises
    EngineError if the engine fails for good.
    """
    principles = constitution.principles
    size = max(1, engine.batch_size // len(questions))
    for start in range(0, len(principles), size):
        asked = [
            _Asked(p, q, a, _cases(p, q, seed=seed))
            for p in principles[start : start + size]
            for q, a in zip(questions, answers, strict=True)
        ]
        criticised = [critique_prompt(a.question, a.answer, a.principle, a.cases) for a in asked]
        critiques = [one_paragraph(c.text) for c in _complete(engine, criticised, CRITIQUE_TOKENS)]
        revised = [
            revise_prompt(a.question, a.answer, critique, a.principle, a.cases)
            for a, critique in zip(asked, critiques, strict=True)
        ]
        revisions = _complete(engine, revised, ANSWER_TOKENS)
        made = [_attempt(*parts) for parts in zip(asked, critiques, revisions, strict=True)]
        for place in range(0, len(made), len(questions)):
            yield made[place : place + len(questions)]


def _attempt(asked: _Asked, critique: str, completion: Completion) -> Attempt:
    principle, question, revision = asked.principle, asked.question, one_paragraph(completion.text)
    before, after = (_keeps(principle, question, text) for text in (asked.answer, revision))
    prompt = Prompt(id="tried", text=question, kind="question", split="train")
    finished = completion.ended_by != "length"
    fault = revision_fault(prompt, revision, finished=finished, critique=critique, principle=principle, checks=Checks())
    return Attempt(principle.id, question, asked.answer, critique, revision, fault, before, after)


def _cases(principle: Principle, question: str, *, seed: int) -> Sequence[Case]:
    own = turn_cases(
        principle, (), seed=seed, use=f"try:{question}", exclude=question, show_flawless=principle.matched is None
    )
    return own or worked_examples(_exemplars(question, CRITIC_EXAMPLES, seed), seed=seed)


def _exemplars(question: str, count: int, seed: int) -> list[Exemplar]:
    others = [e for e in open_exemplars() if e.instruction.casefold() != question.casefold()]
    return Random(f"{seed}:{question}").sample(others, count)


def _complete(engine: Engine, prompts: Sequence[str], tokens: int) -> list[Completion]:
    return list(engine.stream(prompts, Sampling(tokens, stop=NEXT_EXAMPLE)))


def _keeps(principle: Principle, question: str, text: str) -> bool | None:
    return None if principle.check is None else rule_holds(principle.check, question, text)
