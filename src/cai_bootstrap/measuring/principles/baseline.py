"""What is measured of principles before anything trains: the raw base, and the best prompting of it.

`results/constitution_baseline.json` keeps the answers under their conditions; the evaluation takes them over if its own
conditions are the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.files import fingerprint, write_json
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.judging.statistics import exact_lower
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.principles.arms import ArmAnswers
from cai_bootstrap.measuring.principles.declared import Declared
from cai_bootstrap.measuring.principles.rivals import RivalArm
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Prompt
from cai_bootstrap.run.markers import read_typed

SCHEMA_VERSION = 1


class StoredAnswer(Declared):
    """One answer as it was written: `{"response": "A kite is …", "finished": false}`."""

    response: str
    finished: bool


class StoredRival(Declared):
    """The best prompting of the base: its name, how many direct examples it shows, its dev rates, its answers."""

    name: str
    examples: int
    dev_rates: dict[str, float | None]
    dev_prompts: int
    answers: dict[str, StoredAnswer]


class PrincipleBaseline(Declared):
    """The file. `asked_sha256` is that of the prompts asked, `rates` the raw base's first-line rate by principle."""

    schema_version: int
    fingerprint: str
    conditions: Conditions
    asked_sha256: str
    base: dict[str, StoredAnswer]
    rival: StoredRival | None
    rates: dict[str, float]
    nothing_to_teach: bool
    ledger_opening: int | None = Field(None)

    def base_answers(self) -> ArmAnswers:
        """The raw base's answers by prompt id."""
        return _outputs(self.base)

    def rival_answers(self) -> ArmAnswers | None:
        """The answers of the best prompting by prompt id; None if it was not looked for."""
        return None if self.rival is None else _outputs(self.rival.answers)


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


def base_rates(constitution: Constitution, prompts: Sequence[Prompt], answers: Mapping[str, Output]) -> dict[str, float]:
    """The first-line rate of each principle that a rule decides, over the prompts that it speaks of."""
    rates: dict[str, float] = {}
    for principle in constitution.principles:
        verdicts = [obeys(principle, p, first_line(answers[p.id].text)) for p in prompts if p.split == "test"]
        judged = [verdict for verdict in verdicts if verdict is not None]
        if judged:
            rates[principle.id] = round(sum(judged) / len(judged), 6)
    return rates


def teaches_nothing(
    constitution: Constitution, prompts: Sequence[Prompt], answers: Mapping[str, Output], threshold: float
) -> bool:
    """Whether the raw base alone already holds every principle: each exact lower bound reaches the threshold."""
    for principle in constitution.principles:
        verdicts = [obeys(principle, p, first_line(answers[p.id].text)) for p in prompts if p.split == "test"]
        judged = [verdict for verdict in verdicts if verdict is not None]
        if not judged or exact_lower(sum(judged), len(judged)) < threshold:
            return False
    return True


def write_baseline(
    path: Path,
    *,
    expected: str,
    conditions: Conditions,
    constitution: Constitution,
    prompts: Sequence[Prompt],
    base: ArmAnswers,
    rival: RivalArm | None,
    threshold: float,
    opening: int | None,
) -> None:
    """Write the file atomically. `expected` is the step's fingerprint, `opening` the ledger's number."""
    baseline = PrincipleBaseline(
        schema_version=SCHEMA_VERSION,
        fingerprint=expected,
        conditions=conditions,
        asked_sha256=asked_key(prompts),
        base=_stored(base),
        rival=None if rival is None else _stored_rival(rival),
        rates=base_rates(constitution, prompts, base),
        nothing_to_teach=teaches_nothing(constitution, prompts, base, threshold),
        ledger_opening=opening,
    )
    write_json(path, baseline.model_dump(mode="json"))


def read_baseline(path: Path) -> PrincipleBaseline:
    """Read the file. Raises UntrustedResultError naming its first fault."""
    return read_typed(path, PrincipleBaseline, "measure it again: cai baseline --stage constitution")


def asked_key(prompts: Sequence[Prompt]) -> str:
    """SHA-256 (hex) of the prompts that are asked, in their order."""
    return fingerprint([prompt.model_dump() for prompt in prompts])


def _stored(answers: ArmAnswers) -> dict[str, StoredAnswer]:
    return {id: StoredAnswer(response=output.text, finished=output.finished) for id, output in answers.items()}


def _stored_rival(rival: RivalArm) -> StoredRival:
    return StoredRival(
        name=rival.name,
        examples=rival.examples,
        dev_rates=dict(rival.dev_rates),
        dev_prompts=rival.dev_prompts,
        answers=_stored(rival.outputs),
    )


def _outputs(stored: Mapping[str, StoredAnswer]) -> ArmAnswers:
    return {id: Output(answer.response, answer.finished) for id, answer in stored.items()}
