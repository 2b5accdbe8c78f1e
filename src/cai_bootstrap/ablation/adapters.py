"""Adapters for the study of steering: short trainings on texts that came about in different ways, asked plainly.

All are trained with the variation's settings on the same questions, against the same first answers, and nothing is
filtered but what cannot train. So what an adapter does more than another lies in the texts that it was shown.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cai_bootstrap.ablation.cells import Passes, Reviser, StudyAnswer
from cai_bootstrap.ablation.effects import Shown, Text
from cai_bootstrap.errors import TrainingCollapsedError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.inference.memory import release_memory
from cai_bootstrap.records import PreferencePair, Prompt
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint, find_checkpoint
from cai_bootstrap.training.train import TrainingRun

Source = Literal["cell", "direct", "wrong critique", "phrase"]
Method = Literal["sft", "dpo", "sft+dpo", "joint"]
# Settings that change nothing of what is taught.
UNTAUGHT = {"watch_every", "watch_items", "save_every", "rounds", "min_gain", "processes"}


@dataclass(frozen=True)
class Arm:
    """What one adapter learns from. `method` None: the variation's own; `sft` where no rejected answer may count."""

    name: str
    source: Source = "cell"
    text: Text = "own"
    shown: Shown = "own"
    method: Method | None = None

    def texts(self, reviser: Reviser, number: int) -> list[StudyAnswer]:
        """The texts to learn, one for each question, for the principle at `number`."""
        if self.source == "cell":
            return reviser.cell(number, self.text, self.shown)
        ways = {"direct": reviser.direct, "wrong critique": reviser.after_wrong_critique, "phrase": reviser.with_phrase}
        return ways[self.source](number)


DIRECT, REVISED_SFT = "direct examples, SFT alone", "own text, own demonstrations, SFT alone"
WRONG, PHRASE = "after a fixed wrong critique", "first answer and a fixed phrase"
OWN = "own text, own demonstrations"
ARMS: tuple[Arm, ...] = (
    Arm(OWN),
    Arm("other text, own demonstrations", text="other"),
    Arm("no text, own demonstrations", text="none"),
    Arm("own text, another's demonstrations", shown="another's"),
    Arm(REVISED_SFT, method="sft"),
    Arm(DIRECT, "direct", method="sft"),
    Arm(WRONG, "wrong critique"),
    Arm(PHRASE, "phrase"),
)
# What each way of making texts without a critique is called where the texts themselves are rated.
SOURCES: tuple[Arm, ...] = tuple(arm for arm in ARMS if arm.source != "cell")


@dataclass(frozen=True)
class Trained:
    """How the training of an arm ended: its answers to the held-out questions, or why there are none."""

    pairs: int
    dropped: dict[str, int]
    final_loss: float | None = None
    answers: tuple[StudyAnswer, ...] = ()
    left_out: str | None = None


def study_pairs(
    questions: Sequence[Prompt], first: Sequence[StudyAnswer], chosen: Sequence[StudyAnswer], arm: Arm, principle: str
) -> tuple[list[PreferencePair], dict[str, int]]:
    """A pair for each question, its first answer rejected; and how many gave none, by reason.

    What the texts say is not looked at: dropped are the empty, the cut off, and those that are the first answer itself.
    """
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for question, before, after in zip(questions, first, chosen, strict=True):
        if fault := _fault(before, after):
            dropped[fault] += 1
            continue
        pairs.append(
            PreferencePair(
                id=question.id,
                instruction_id=question.id,
                type="question",
                template=question.wording,
                prompt=plain_prompt(question.text),
                chosen=after.text,
                rejected=before.text,
                chosen_source="response" if arm.source in {"direct", "phrase"} else "revision",
                chosen_id=f"{question.id}.chosen",
                rejected_id=f"{question.id}.first",
                rejected_finished=before.finished,
                principle_id=principle,
                label_source="none",
            )
        )
    return pairs, dict(sorted(dropped.items()))


def _fault(before: StudyAnswer, after: StudyAnswer) -> str | None:
    if not before.text:
        return "no first answer"
    if not after.text:
        return "empty"
    if not after.finished:
        return "cut off"
    return "as the first answer" if after.text == before.text else None


@dataclass(frozen=True)
class Trainer:
    """Trains an adapter for an arm of a principle and asks it the held-out questions. `folder` keeps the answers."""

    context: StepContext
    questions: Sequence[Prompt]
    held_out: Sequence[Prompt]
    folder: Path

    def train(self, arm: Arm, principle: str, first: Sequence[StudyAnswer], chosen: Sequence[StudyAnswer]) -> Trained:
        """Train on `chosen` over `first`, and ask with the line break that the training had.

        A training of the same pairs and settings that ended is taken as it is, and so are its answers. Too few pairs,
        and a training that collapses, are told in `left_out`. Raises InterruptedRunError if it was stopped.
        """
        pairs, dropped = study_pairs(self.questions, first, chosen, arm, principle)
        minimum = self.context.config.pairs.min_pairs
        if len(pairs) < minimum:
            return Trained(len(pairs), dropped, left_out=f"only {len(pairs)} pairs, at least {minimum} are needed")
        try:
            checkpoint = self._checkpoint(pairs, arm)
        except TrainingCollapsedError as error:
            return Trained(len(pairs), dropped, left_out=str(error))
        finally:
            release_memory()
        answers = self._ask(checkpoint)
        return Trained(len(pairs), dropped, round(checkpoint.final_loss, 4), answers)

    def _ask(self, checkpoint: Checkpoint) -> tuple[StudyAnswer, ...]:
        context = self.context
        context.progress.begin(len(self.held_out))
        passes = Passes(
            context, self.folder, lambda: context.open_for_evaluation(checkpoint.path, asked=len(self.held_out)).engine
        )
        prompts = [plain_prompt(question.text) for question in self.held_out]
        name = f"answers-{checkpoint.sha256[:12]}"
        answers = passes.plain(name, prompts, context.config.evaluation.max_new_tokens)
        passes.close()
        release_memory()
        return tuple(answers)

    def _checkpoint(self, pairs: Sequence[PreferencePair], arm: Arm) -> Checkpoint:
        context, config = self.context, self.context.config
        if arm.method is not None:
            training = config.training.model_copy(update={"method": arm.method})
            config = config.model_copy(update={"training": training})
        expected = fingerprint(
            [
                [pair.model_dump(mode="json") for pair in pairs],
                config.training.model_dump(mode="json", exclude=UNTAUGHT),
                config.training_precision,
                config.seed,
                context.model_key(),
                *context.path_key(),
            ]
        )
        found = find_checkpoint(context.workspace.checkpoints, expected)
        if found is not None:
            return found
        return TrainingRun(
            config=config,
            prepared=context.prepared(),
            folder=context.workspace.adapter(expected),
            fingerprint=expected,
            progress=context.progress,
            stopping=context.stopping,
            details={"arm": arm.name},
            graphed=False,  # a recording would be kept for a minute of steps, once for each of many adapters
        ).run(pairs)
