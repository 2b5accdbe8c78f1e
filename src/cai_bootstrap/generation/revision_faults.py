"""Why a revision may not be chosen: faults of its form, a critique that leaked into it, and checks that it fails."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cai_bootstrap.constitution import Principle
from cai_bootstrap.generation.candidates import normalise
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.records import Prompt

LEAST_LEAKED = 12  # characters: a shorter sentence may well stand in an answer of its own right
LEAST_ECHOED = 20


@dataclass(frozen=True)
class Checks:
    """Whose checks a revision must pass: those of `earlier` principles, and its `own` if that is asked for."""

    earlier: tuple[Principle, ...] = ()
    own: Principle | None = None

    def fault(self, question: str, text: str) -> str | None:
        """`loses:ID` for an earlier principle whose check the text fails, `misses:ID` for its own; None if none."""
        for principle in self.earlier:
            if principle.check is not None and not rule_holds(principle.check, question, text):
                return f"loses:{principle.id}"
        own = self.own
        if own is not None and own.check is not None and not rule_holds(own.check, question, text):
            return f"misses:{own.id}"
        return None


def answer_fault(prompt: Prompt, text: str, *, finished: bool) -> str | None:
    """The fault of an answer's form, or None: empty, cut off, run on, or the question again."""
    if not text.strip():
        return "empty"
    if not finished:
        return "unfinished"
    if "\n\n" in text or any(mark in text for mark in ("Instruction:", "Principle:", "Critique:", "Better answer:")):
        return "run_on"
    question = normalise(prompt.text)
    if len(question) >= LEAST_ECHOED and question in normalise(text):
        return "echo"
    return None


def revision_fault(
    prompt: Prompt, text: str, *, finished: bool, critique: str, principle: Principle, checks: Checks
) -> str | None:
    """Why a revision is not taken, or None: its form, a sentence of a critique in it, a check that it fails."""
    return (
        answer_fault(prompt, text, finished=finished)
        or ("critique_leaked" if leaked(text, [critique, *(d.critique for d in principle.demonstrations)]) else None)
        or checks.fault(prompt.text, text)
    )


def leaked(text: str, critiques: Iterable[str]) -> bool:
    """Whether a sentence of a critique stands in the text as it is."""
    answer = normalise(text)
    return any(
        len(sentence) >= LEAST_LEAKED and sentence in answer
        for critique in critiques
        for sentence in map(normalise, sentences(critique))
    )


def sentences(text: str) -> Sequence[str]:
    """A text's sentences, roughly: what stands between full stops, semicolons, and marks."""
    for mark in "!?;":
        text = text.replace(mark, ".")
    return [part for part in (sentence.strip() for sentence in text.split(".")) if part]
