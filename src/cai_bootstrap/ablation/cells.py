"""The twelve cells of the study: first answers, and their revisions under each text with each set of demonstrations.

Everything is greedy, with the same prompts, tokens and batch size; only the text that stands in a prompt as the
principle and the worked cases above it differ. Each pass is kept on disk in whole chunks and read back after a kill.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from cai_bootstrap.ablation.effects import SHOWN, TEXTS, Shown, Text
from cai_bootstrap.ablation.study import StudyFile
from cai_bootstrap.batches import ChunkFile
from cai_bootstrap.constitution import Principle
from cai_bootstrap.errors import InterruptedRunError
from cai_bootstrap.generation.carrying import turn_cases
from cai_bootstrap.generation.prompts import (
    NEXT_EXAMPLE,
    Case,
    critique_prompt,
    direct_prompt,
    one_paragraph,
    own_cases,
    respond_prompt,
    revise_prompt,
    worked_examples,
)
from cai_bootstrap.generation.revising import SHOTS, open_exemplars
from cai_bootstrap.inference.engine import Engine, Sampling
from cai_bootstrap.instructions.exemplars import Exemplar
from cai_bootstrap.records import Prompt, Record
from cai_bootstrap.steps.context import StepContext

CHUNK = 512
NEUTRAL = -1  # in place of a principle's number


class StudyAnswer(Record):
    """One completion of the study, whether it ended by itself (or at a stop string), and its new tokens."""

    text: str
    finished: bool
    tokens: int


class Passes:
    """Completes prompts under names, each in a file of its own. `open_engine` is called when a pass needs a model."""

    def __init__(self, context: StepContext, folder: Path, open_engine: Callable[[], Engine]) -> None:
        self._context, self._folder, self._open = context, folder, open_engine
        self._engine: Engine | None = None

    def few_shot(self, name: str, prompts: Sequence[str], tokens: int) -> list[StudyAnswer]:
        """The first paragraph of each completion, which ends before the next worked case would begin."""
        answers = self._complete(name, prompts, Sampling(tokens, stop=NEXT_EXAMPLE, pinned=True))
        return [answer.model_copy(update={"text": one_paragraph(answer.text)}) for answer in answers]

    def plain(self, name: str, prompts: Sequence[str], tokens: int) -> list[StudyAnswer]:
        """Each completion as it is, to the model's own end."""
        return self._complete(name, prompts, Sampling(tokens, pinned=True))

    def close(self) -> None:
        """Let go of the model; a later pass opens it again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _complete(self, name: str, prompts: Sequence[str], sampling: Sampling) -> list[StudyAnswer]:
        progress = self._context.progress
        starts = range(0, len(prompts), CHUNK)
        sizes = [min(CHUNK, len(prompts) - start) for start in starts]
        remedy = f"restore it, or remove {self._folder} to make it anew"
        file = ChunkFile(self._folder / f"{name}.jsonl", StudyAnswer, sizes, progress.say, remedy=remedy)
        done = file.complete_chunks()
        progress.advance(sum(sizes[:done]))
        for number in range(done, len(sizes)):
            if self._context.stopping():
                raise InterruptedRunError(f"stopped during '{name}'; start again to go on")
            if self._engine is None:
                self._engine = self._open()
            answers: list[StudyAnswer] = []
            for completion in self._engine.stream(prompts[starts[number] : starts[number] + sizes[number]], sampling):
                finished = completion.finished or (completion.ended_by == "stop" and bool(sampling.stop))
                answers.append(StudyAnswer(text=completion.text, finished=finished, tokens=completion.tokens))
                progress.advance(tokens=completion.tokens)
            file.append(answers, number)
        return [answer for answers in file.chunks() for answer in answers]


@dataclass(frozen=True)
class Variant:
    """The text that stands as the principle in a prompt: the i-th principle's, its negation, or none (`number` -1)."""

    number: int
    negated: bool = False

    @property
    def name(self) -> str:
        if self.number < 0:
            return "no-text"
        return f"negated-{self.number + 1}" if self.negated else f"text-{self.number + 1}"


def variant_of(study: StudyFile, number: int, text: Text) -> Variant:
    """What stands in the prompts of a cell of the principle at `number`."""
    return {
        "own": Variant(number),
        "other": Variant(study.other(number)),
        "negated": Variant(number, negated=True),
        "none": Variant(-1),
    }[text]


def shown_of(study: StudyFile, number: int, shown: Shown) -> int:
    """Whose demonstrations a cell of the principle at `number` shows; `NEUTRAL` for nobody's."""
    return {"own": number, "another's": study.other(number), "neutral": NEUTRAL}[shown]


def passes_needed(study: StudyFile) -> set[tuple[str, int]]:
    """The different (text, demonstrations) of all cells: those that several principles share are made once."""
    return {
        (variant_of(study, n, text).name, shown_of(study, n, shown))
        for n in range(len(study.principles))
        for text in TEXTS
        for shown in SHOWN
    }


class Reviser:
    """Answers the questions, and revises the answers in any cell. `tokens`: new ones of an answer and of a critique."""

    def __init__(
        self, study: StudyFile, questions: Sequence[Prompt], passes: Passes, *, seed: int, tokens: tuple[int, int]
    ) -> None:
        self._study, self._questions, self._passes, self._seed = study, questions, passes, seed
        self._answer_tokens, self._critique_tokens = tokens
        self._made: dict[tuple[str, int], list[StudyAnswer]] = {}
        prompts = [respond_prompt(q.text, self._neutral(q, "respond", SHOTS)) for q in questions]
        self.first = passes.few_shot("first", prompts, self._answer_tokens)

    def cell(self, number: int, text: Text, shown: Shown) -> list[StudyAnswer]:
        """The revisions of one principle's cell, in the questions' order."""
        return self._revised(variant_of(self._study, number, text), shown_of(self._study, number, shown))

    def after_wrong_critique(self, number: int) -> list[StudyAnswer]:
        """Revisions under own text and own demonstrations, but after a fixed critique that is wrong of every answer."""
        critiques = [self._study.wrong_critique] * len(self._questions)
        return self._revise(f"wrong-critique-{number + 1}", Variant(number), number, critiques)

    def direct(self, number: int) -> list[StudyAnswer]:
        """Answers after the better answers of the demonstrations alone: nothing is criticised."""
        principle = self._study.principles[number].as_principle
        prompts = [
            direct_prompt(q.text, own_cases(principle, seed=self._seed, use=f"direct:{q.id}", exclude=q.text))
            for q in self._questions
        ]
        return self._passes.few_shot(f"direct-{number + 1}", prompts, self._answer_tokens)

    def with_phrase(self, number: int) -> list[StudyAnswer]:
        """The first answers, each with the fixed phrase; what was cut off or is empty stays as it is."""
        principle = self._study.principles[number]
        return [
            answer.model_copy(update={"text": principle.with_phrase(answer.text)})
            if answer.finished and answer.text
            else answer
            for answer in self.first
        ]

    def _revised(self, variant: Variant, shown: int) -> list[StudyAnswer]:
        key = (variant.name, shown)
        if key not in self._made:
            name = f"{variant.name}-shown-{'neutral' if shown == NEUTRAL else shown + 1}"
            principle = self._principle(variant)
            prompts = [
                critique_prompt(q.text, first.text, principle, self._cases(q, shown, "critique"))
                for q, first in zip(self._questions, self.first, strict=True)
            ]
            critiques = self._passes.few_shot(f"critique-{name}", prompts, self._critique_tokens)
            self._made[key] = self._revise(f"revision-{name}", variant, shown, [c.text for c in critiques])
        return self._made[key]

    def _revise(self, name: str, variant: Variant, shown: int, critiques: Sequence[str]) -> list[StudyAnswer]:
        principle = self._principle(variant)
        prompts = [
            revise_prompt(q.text, first.text, critique, principle, self._cases(q, shown, "revise"))
            for q, first, critique in zip(self._questions, self.first, critiques, strict=True)
        ]
        return self._passes.few_shot(name, prompts, self._answer_tokens)

    def _principle(self, variant: Variant) -> Principle | None:
        """The text alone, as the prompts take it: the worked cases are given apart."""
        if variant.number < 0:
            return None
        principle = self._study.principles[variant.number]
        return replace(
            principle.as_principle, text=principle.negation if variant.negated else principle.text, demonstrations=()
        )

    def _cases(self, question: Prompt, shown: int, use: str) -> Sequence[Case]:
        """A principle's own worked cases, or as many neutral ones: those that stand where a principle has none."""
        if shown != NEUTRAL:
            principle = self._study.principles[shown].as_principle
            return turn_cases(principle, (), seed=self._seed, use=f"{use}:{question.id}", exclude=question.text)
        count = max(len(principle.demonstrations) for principle in self._study.principles)
        return worked_examples(self._neutral(question, use, count), seed=self._seed)

    def _neutral(self, question: Prompt, use: str, count: int) -> list[Exemplar]:
        others = [e for e in open_exemplars() if e.instruction.casefold() != question.text.casefold()]
        return Random(f"{self._seed}:{use}:{question.id}").sample(others, min(count, len(others)))
