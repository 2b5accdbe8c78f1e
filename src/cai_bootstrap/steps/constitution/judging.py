"""Who judges each principle in a measurement: its rules, else a model, which is measured against people first.

That model is the untrained base, or the one at an address that `--judge` names.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.inference.completions import CompletionsServer
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.measuring.principles.arms import ArmAnswers
from cai_bootstrap.measuring.principles.figures import Arm
from cai_bootstrap.measuring.principles.model_judge import (
    AnswerJudge,
    Case,
    ModelJudge,
    calibrate,
    judge_answers,
    labels_for,
)
from cai_bootstrap.measuring.principles.results import JudgeRecord, Judges
from cai_bootstrap.measuring.principles.server_judge import ServerJudge
from cai_bootstrap.records import Prompt
from cai_bootstrap.steps.constitution.measurement import PrincipleMeasurement


def obeys(principle: Principle, prompt: Prompt, text: str) -> bool | None:
    """Whether a text keeps a principle by its rule; None where it has none, or does not apply."""
    rule = principle.judge or principle.check
    if rule is None or not speaks_of(principle, prompt):
        return None
    return rule_holds(rule, prompt.text, text)


def speaks_of(principle: Principle, prompt: Prompt) -> bool:
    """Whether the principle is to be kept in an answer to this prompt."""
    if principle.matched is not None:
        return prompt.principle == principle.id and prompt.applies is True
    return not prompt.principle and (not principle.applies_to or prompt.kind in principle.applies_to)


def rule_record(principle: Principle, rule_selected: Collection[str]) -> JudgeRecord | None:
    """The rule that judges a principle; None if it has none. What chose its pairs is not trusted to judge them."""
    if principle.judge is not None:
        return JudgeRecord(kind="judge", trusted=True)
    if principle.check is None:
        return None
    if principle.id in rule_selected:
        why = "its check chose the pairs, and what chose them does not judge them; give the principle a 'judge'"
        return JudgeRecord(kind="check", trusted=False, why=why)
    return JudgeRecord(kind="check", trusted=True)


@dataclass(frozen=True)
class Jury:
    """The judges of a constitution. Without a `server` the untrained base judges, within `measurement`'s engine."""

    measurement: PrincipleMeasurement
    constitution: Constitution
    rule_selected: Collection[str] = ()
    server: CompletionsServer | None = None

    def judges(self, answers: Mapping[Arm, ArmAnswers]) -> Judges:
        """The judge of each principle, and the verdicts of the model where it is one, on all arms' first lines."""
        records: dict[str, JudgeRecord] = {}
        verdicts: dict[str, dict[Arm, dict[str, bool]]] = {}
        for number, principle in enumerate(self.constitution.principles, 1):
            record = rule_record(principle, self.rule_selected)
            if record is None:
                with self.measurement.untrained():
                    record = self._calibrated(principle)
                    if record.trusted:
                        verdicts[principle.id] = self._verdicts(principle, number, answers)
            records[principle.id] = record
        return Judges(records, verdicts, self.rule_selected)

    def _judge(self, principle: Principle) -> AnswerJudge:
        if self.server is not None:
            return ServerJudge(self.server, principle)
        return ModelJudge(self.measurement.opened.engine, principle)

    def _calibrated(self, principle: Principle) -> JudgeRecord:
        measurement = self.measurement
        return calibrate(
            self._judge(principle),
            labels_for(principle, ()),
            measurement.folder,
            progress=measurement.context.progress,
            stopping=measurement.context.stopping,
        )

    def _verdicts(
        self, principle: Principle, number: int, answers: Mapping[Arm, ArmAnswers]
    ) -> dict[Arm, dict[str, bool]]:
        measurement = self.measurement
        judge = self._judge(principle)
        own = {principle.id} if principle.matched is not None else {""}
        prompts = {prompt.id: prompt for prompt in measurement.held_out.items if prompt.principle in own}
        return {
            arm: judge_answers(
                judge,
                [Case(id, prompt.text, first_line(outputs[id].text)) for id, prompt in prompts.items()],
                measurement.folder / f"judged-{arm}-{number}.jsonl",
                progress=measurement.context.progress,
                stopping=measurement.context.stopping,
            )
            for arm, outputs in answers.items()
        }
