"""What steers: the text of a principle, or what it is shown by? And what is critique worth?

The first answers to everyday questions are revised under a principle's own text, another's, its negation and none, with
its own demonstrations, another's and the shared neutral ones: twelve cells for each of three principles, the same
questions and settings in all. A revision obeys if its first line passes the principle's check; no revision is chosen by
a check, so it may judge them. Adapters are then trained on the revisions of four cells, and on texts that came about
without a critique, after a wrong one, or by a fixed phrase; they are asked dev questions that share no wording with
those that trained. The test questions stay closed, as for every variation.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from cai_bootstrap.ablation.adapters import (
    ARMS,
    DIRECT,
    OWN,
    PHRASE,
    REVISED_SFT,
    SOURCES,
    WRONG,
    Arm,
    Trained,
    Trainer,
)
from cai_bootstrap.ablation.cells import Passes, Reviser, StudyAnswer, passes_needed
from cai_bootstrap.ablation.effects import (
    SHOWN,
    TEXTS,
    Shown,
    SteeredBy,
    Text,
    Verdicts,
    effects_of,
    steered_by,
    steering_of,
)
from cai_bootstrap.ablation.outcome import Outcome, RateRow, rate_row
from cai_bootstrap.ablation.steering_report import STEERING, ArmRate, CellRate, SteeringReport
from cai_bootstrap.ablation.study import StudyFile, StudyPrinciple, load_study
from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.inference.memory import release_memory
from cai_bootstrap.instructions.prompt_set import load_prompt_set
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.records import Prompt
from cai_bootstrap.steps.context import StepContext

INSTRUCTIONS, HELD_OUT = 240, 200
_ANOTHERS: Shown = "another's"
_Cells = Mapping[tuple[int, Text, Shown], Sequence[StudyAnswer]]
OPTIONS = frozenset(["instructions", "held_out", "adapters", "study"])


def steering(context: StepContext, outcome: Outcome, options: Mapping[str, Any], folder: Path) -> None:
    """Measure the cells, train the adapters, and say what steers; see the module.

    Options: `instructions` (questions, 240), `held_out` (200), `adapters` (true), `study` (a file of one's own). Raises
    UsageError for another option, or for fewer than 2 questions.
    """
    if unknown := sorted(set(options) - OPTIONS):
        raise UsageError(f"options: '{unknown[0]}' is not known; known: {', '.join(sorted(OPTIONS))}")
    study = load_study(Path(options["study"]) if "study" in options else None)
    count, asked = int(options.get("instructions", INSTRUCTIONS)), int(options.get("held_out", HELD_OUT))
    questions, held_out = study_questions(study, count, asked, seed=context.config.seed)
    part = folder / fingerprint([study.sha256, [q.text for q in (*questions, *held_out)]])[:12]
    measured = _Study(context, study, questions, held_out if options.get("adapters", True) else [], part)
    report = measured.report(outcome)
    outcome.figures[STEERING] = report.model_dump(mode="json")


def study_questions(study: StudyFile, count: int, held_out: int, *, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """`count` training questions of the shipped pool, and at most `held_out` dev ones; no wording stands in both.

    What a demonstration of the study asks is in neither.
    Raises UsageError if the pool holds fewer training questions, or for a count below 2.
    """
    pool = load_prompt_set(None, seed=seed).without(
        [case.instruction for p in study.principles for case in p.demonstrations]
    )
    able = [prompt for prompt in pool.train if prompt.kind == "question"]
    if not 2 <= count <= len(able):
        raise UsageError(f"options: instructions: {count} of {len(able)} training questions; at least 2, at most all")
    questions = Random(f"steering:{seed}").sample(able, count)
    wordings = {question.wording for question in questions if question.wording}
    others = [prompt for prompt in pool.dev if prompt.kind == "question" and prompt.wording not in wordings]
    return questions, Random(f"steering:{seed}").sample(others, min(held_out, len(others)))


class _Study:
    """One measurement of the study. Verdicts of all principles together have ids like `thanks/train.0012`."""

    def __init__(
        self,
        context: StepContext,
        study: StudyFile,
        questions: Sequence[Prompt],
        held_out: Sequence[Prompt],
        folder: Path,
    ) -> None:
        self.context, self.study, self.folder = context, study, folder
        self._judged: dict[tuple[str, str, str], bool] = {}  # many cells hold the same texts
        self.questions, self.held_out, self.numbers = questions, held_out, range(len(study.principles))
        self.wordings = {
            f"{principle.id}/{prompt.id}": prompt.wording or prompt.cluster or prompt.id
            for principle in study.principles
            for prompt in (*questions, *held_out)
        }

    @property
    def asked(self) -> int:
        """How many prompts the untrained model completes."""
        without_critique = sum(arm.source != "phrase" for arm in SOURCES) * len(self.numbers)
        passes = 1 + 2 * len(passes_needed(self.study)) + without_critique
        return passes * len(self.questions) + len(self.held_out)

    def report(self, outcome: Outcome) -> SteeringReport:
        """Do everything, add the rows over all principles to the outcome, and return the figures."""
        outcome.templates = self.wordings
        passes = Passes(self.context, self.folder, lambda: self.context.open_for_evaluation(asked=self.asked).engine)
        reviser = self._reviser(passes)
        cells = {(n, t, s): reviser.cell(n, t, s) for n in self.numbers for t in TEXTS for s in SHOWN}
        texts = {(n, arm.name): arm.texts(reviser, n) for n in self.numbers for arm in SOURCES}
        base = self._base(passes)
        passes.close()
        release_memory()
        arms = list(self._arms(reviser)) if self.held_out else []
        together = {(t, s): self._together({n: cells[n, t, s] for n in self.numbers}) for t in TEXTS for s in SHOWN}
        self._cell_rows(outcome, cells, together)
        sources = [
            self._rows(outcome, f"texts: {a.name}", {n: texts[n, a.name] for n in self.numbers}) for a in SOURCES
        ]
        for arm in ARMS if arms else ():
            answers = {n: t.answers for n, a, t in arms if a is arm and t.answers}
            self._rows(outcome, f"adapter: {arm.name}", answers, self.held_out)
        return SteeringReport(
            study_sha256=self.study.sha256,
            principles=[principle.id for principle in self.study.principles],
            questions=len(self.questions),
            held_out=len(self.held_out),
            steering=steering_of(together, self.wordings, seed=self.context.config.seed),
            by_principle={p.id: self._steered_by(n, cells) for n, p in enumerate(self.study.principles)},
            first=self._rows(outcome, "first answer", dict.fromkeys(self.numbers, reviser.first)),
            cells=[self._cell_rate(n, t, s, answers) for (n, t, s), answers in cells.items()],
            texts=[row for rows in sources for row in rows],
            base=self._rows(outcome, "base, asked plainly", dict.fromkeys(self.numbers, base), self.held_out),
            arms=[self._arm_rate(n, arm, trained) for n, arm, trained in arms],
            critique=_critique_sentence(outcome),
        )

    def _reviser(self, passes: Passes) -> Reviser:
        """The first answers; the progress counts them, all further passes of the untrained model, and nothing else."""
        config = self.context.config
        self.context.progress.begin(self.asked)
        tokens = (config.generation.max_new_tokens, config.generation.critique_tokens)
        return Reviser(self.study, self.questions, passes, seed=config.seed, tokens=tokens)

    def _cell_rows(self, outcome: Outcome, cells: _Cells, together: Mapping[tuple[Text, Shown], Verdicts]) -> None:
        """Each cell's row, and those of the principle that was shown where it was another."""
        for (text, shown), verdicts in together.items():
            outcome.add(_cell_name(text, shown), verdicts)
        for text in TEXTS:
            answers = {n: cells[n, text, "another's"] for n in self.numbers}
            name = f"the shown principle obeyed: {_cell_name(text, _ANOTHERS)}"
            outcome.add(name, self._together(answers, other=True))

    def _base(self, passes: Passes) -> list[StudyAnswer]:
        prompts = [plain_prompt(question.text) for question in self.held_out]
        return passes.plain("base", prompts, self.context.config.evaluation.max_new_tokens) if prompts else []

    def _arms(self, reviser: Reviser) -> Iterator[tuple[int, Arm, Trained]]:
        trainer = Trainer(self.context, self.questions, self.held_out, self.folder)
        for number, principle in enumerate(self.study.principles):
            for arm in ARMS:
                self.context.progress.say(f"{principle.id}: {arm.name}")
                yield number, arm, trainer.train(arm, principle.id, reviser.first, arm.texts(reviser, number))

    def _verdicts(
        self, judge: StudyPrinciple, answers: Sequence[StudyAnswer], prompts: Sequence[Prompt] | None = None
    ) -> dict[str, bool]:
        prompts = self.questions if prompts is None else prompts
        return {p.id: self._obeyed(judge, p.text, first_line(a.text)) for p, a in zip(prompts, answers, strict=True)}

    def _obeyed(self, judge: StudyPrinciple, question: str, line: str) -> bool:
        key = (judge.id, question, line)
        if key not in self._judged:
            self._judged[key] = judge.obeyed(question, line)
        return self._judged[key]

    def _together(
        self,
        answers: Mapping[int, Sequence[StudyAnswer]],
        prompts: Sequence[Prompt] | None = None,
        *,
        other: bool = False,
    ) -> dict[str, bool]:
        """Verdicts of several principles, each by its own check or (`other`) by the next one's."""
        principles = self.study.principles
        return {
            f"{principles[n].id}/{id}": obeyed
            for n, texts in answers.items()
            for id, obeyed in self._verdicts(principles[self.study.other(n) if other else n], texts, prompts).items()
        }

    def _rows(
        self,
        outcome: Outcome,
        name: str,
        answers: Mapping[int, Sequence[StudyAnswer]],
        prompts: Sequence[Prompt] | None = None,
    ) -> list[RateRow]:
        """Add the row over all principles; return one for each of them."""
        outcome.add(name, self._together(answers, prompts))
        principles = self.study.principles
        verdicts = {n: list(self._verdicts(principles[n], texts, prompts).values()) for n, texts in answers.items()}
        return [rate_row(f"{principles[n].id}: {name}", values) for n, values in verdicts.items() if values]

    def _cell_rate(self, number: int, text: Text, shown: Shown, answers: Sequence[StudyAnswer]) -> CellRate:
        principles = self.study.principles
        other = principles[self.study.other(number)]
        obeys = list(self._verdicts(principles[number], answers).values())
        by_shown = list(self._verdicts(other, answers).values())
        return CellRate(
            principle=principles[number].id,
            text=text,
            demonstrations=shown,
            obeys=rate_row(_cell_name(text, shown), obeys),
            obeys_shown=rate_row(f"{other.id} obeyed", by_shown) if shown == "another's" else None,
        )

    def _arm_rate(self, number: int, arm: Arm, trained: Trained) -> ArmRate:
        principles, answers = self.study.principles, trained.answers
        other = principles[self.study.other(number)]

        def rate(name: str, verdicts: Sequence[bool]) -> RateRow | None:
            return rate_row(name, verdicts) if verdicts else None

        own = self._verdicts(principles[number], answers, self.held_out) if answers else {}
        by_other = self._verdicts(other, answers, self.held_out) if answers else {}
        return ArmRate(
            principle=principles[number].id,
            arm=arm.name,
            method=arm.method or self.context.config.training.method,
            pairs=trained.pairs,
            dropped=trained.dropped,
            final_loss=trained.final_loss,
            obeys=rate(arm.name, list(own.values())),
            obeys_other=rate(f"{other.id} obeyed", list(by_other.values())),
            ended=rate("ended by itself", [answer.finished for answer in answers]),
            left_out=trained.left_out,
        )

    def _steered_by(self, number: int, cells: _Cells) -> SteeredBy:
        own = {(t, s): self._together({number: cells[number, t, s]}) for t in TEXTS for s in SHOWN}
        return steered_by([*effects_of("text", own, self.wordings), *effects_of("demonstrations", own, self.wordings)])


def _cell_name(text: Text, shown: Shown) -> str:
    return f"{'no' if text == 'none' else text} text, {shown} demonstrations"


def _critique_sentence(outcome: Outcome) -> str | None:
    """What the ways without a critique of its own teach, beside the whole way; None where nothing was trained."""

    def rate(arm: str) -> str:
        verdicts = outcome.verdicts.get(f"adapter: {arm}")
        return f"{sum(verdicts.values()) / len(verdicts):.1%}" if verdicts else "(not trained)"

    if not any(row.startswith("adapter: ") for row in outcome.verdicts):
        return None
    return (
        f"Of the held-out answers {rate(OWN)} obey after training on revisions, {rate(WRONG)} on revisions after a "
        f"fixed wrong critique, {rate(PHRASE)} on first answers with a fixed phrase; by SFT alone {rate(REVISED_SFT)} "
        f"on revisions, {rate(DIRECT)} on answers to direct examples, which nobody criticised."
    )
