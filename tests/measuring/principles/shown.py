"""Principles with demonstrations, prompts, and engines that follow what they are shown."""

from collections.abc import Sequence
from pathlib import Path

from stubs import StubEngine, progress_at

from cai_bootstrap.constitution import Demonstration, Principle
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.measuring.principles.arms import Asker
from cai_bootstrap.records import Prompt, PromptKind

TOPICS = ("kite", "drum", "sail", "lamp", "boat", "road", "wall", "seed", "coat", "well", "gate", "hill")


def thanks(cases: int = 6, **fields: object) -> Principle:
    """A principle that answers begin with thanks, shown by `cases` demonstrations."""
    shown = tuple(
        Demonstration(f"What is a {t}?", f"A {t} is a thing.", "No thanks.", f"Thanks! A {t} is a thing.")
        for t in TOPICS[:cases]
    )
    return Principle("thanks", "A good answer begins with thanks.", "polite", shown, **fields)  # type: ignore[arg-type]


def asks(cases: int = 6) -> Principle:
    """A principle that answers end with a question."""
    shown = tuple(
        Demonstration(f"Why is a {t} good?", f"A {t} helps.", "It asks nothing.", f"A {t} helps. Do you agree?")
        for t in TOPICS[:cases]
    )
    return Principle("asks", "A good answer ends with a question.", "curious", shown)


def prompts_of(count: int, split: str = "dev", kind: PromptKind = "question") -> list[Prompt]:
    """Questions about numbered things."""
    return [
        Prompt(id=f"{split}-{n}", text=f"What is thing {n}?", kind=kind, split=split)  # type: ignore[arg-type]
        for n in range(count)
    ]


def obeys(principle: Principle, _prompt: Prompt, text: str) -> bool | None:
    """Thanks and questions by rule; no judge for anything else."""
    rules = {"thanks": text.startswith("Thanks"), "asks": text.endswith("?")}
    return rules.get(principle.id)


def follower(prompt: str, sampling: Sampling) -> Completion:
    """Says thanks where at least five answers in its prompt do, or where a revision is asked that shows thanks."""
    asked = prompt.rsplit("\n\n", 1)[-1]
    if asked.endswith("Critique:"):
        text = " It says no thanks."
    elif asked.endswith("Better answer:"):
        text = " Thanks! Better." if "Better answer: Thanks!" in prompt else " Better."
    else:
        text = " Thanks! A thing." if prompt.count("Response: Thanks!") >= 5 else " A thing."
    return Completion(text, "stop" if sampling.stop else "eos", 4)


def asker_of(folder: Path, engine: StubEngine, stops: Sequence[bool] = ()) -> Asker:
    """An asker with few tokens; `stops` are the answers to `stopping()`, then False."""
    answers = iter(stops)
    return Asker(engine, folder, 16, progress_at(folder), lambda: next(answers, False))
