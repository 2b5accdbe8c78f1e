"""A principles' results file, as types: `PrincipleResults` is what everybody holds, `PrincipleFile` what a file claims.

A file holds all that its figures follow from: each principle's rules, each prompt, each answer. So it can be judged
alone. What nobody can compute again without the model (a model's own verdicts, what was measured beside) stands as it
was written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cai_bootstrap.files import JsonObject
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.declared import (
    BaseFactors,
    Count,
    DeclaredConditions,
    Factors,
    Name,
    Rate,
    RunAdapter,
    Sha256,
    TrainedFactors,
)
from cai_bootstrap.measuring.principles.beside_block import Beside
from cai_bootstrap.measuring.principles.figures import ARMS, Added, Arm, Joint, PrincipleFigures
from cai_bootstrap.records import Prompt, PromptKind
from cai_bootstrap.servers import ServedModel

Threshold = Annotated[float, Field(gt=0, lt=1)]
JudgeKind = Literal["check", "judge", "model", "server"]
Verdict = Literal["held", "not_held", "not_judged", "nothing_to_teach", "baseline"]
ModelVerdicts = Mapping[str, Mapping[Arm, Mapping[str, bool]]]  # by principle, arm and prompt id


class Declared(BaseModel):
    """A frozen part of the file that refuses unknown fields and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class JudgeRecord(Declared):
    """Who decides whether an answer keeps a principle, and how far it agrees with people (Cohen's κ, within arms).

    `check` and `judge` are the principle's rules of that name, `model` is the model's own yes or no, `server` that of
    another model at an address (`ConstitutionRun.judge`). One that is not `trusted` decides nothing; `why` says why.
    `{"kind": "judge", "kappa": 0.93, "kappa_lower": 0.86, "trusted": true}`
    """

    kind: JudgeKind
    kappa: Annotated[float, Field(ge=-1, le=1)] | None = None
    kappa_lower: Annotated[float, Field(ge=-1, le=1)] | None = None
    trusted: bool
    why: str = ""


class PromptedRival(Declared):
    """The best prompting on dev: its name, its direct examples, and the mean rate on dev of each that was tried."""

    name: Name
    examples: Count | None = None
    dev_rates: Mapping[Name, Rate | None] = Field(default_factory=dict)
    dev_prompts: Count | None = None


class Constituted(Declared):
    """A constitution by name and content."""

    name: str
    sha256: Sha256


class DescribedPrinciple(Declared):
    """One principle with all that its verdicts follow from.

    `conditional`: it has matched prompts, and only these tell where it applies. `added` is what its demonstrations
    added to their first answers.
    """

    id: Name
    text: str
    check: dict[str, Any] | None
    judge: dict[str, Any] | None
    applies_to: list[PromptKind]
    conditional: bool
    rule_selected: bool
    added: Added


class DescribedConstitution(Constituted):
    """The constitution that was measured, its principles in the file's order."""

    principles: list[DescribedPrinciple]


class PromptsBlock(Declared):
    """Which prompts were asked. `name` and `sha256` are the whole set's, `asked_sha256` covers the `n` asked here."""

    name: Name
    sha256: Sha256
    n: Count
    test: Count
    unseen: Count
    matched: Count
    asked_sha256: Sha256


class JudgedAnswer(Declared):
    """One answer, and by principle whether its first line obeys (`holds`) and whether all of it does (`strict`)."""

    response: str
    finished: bool
    holds: dict[str, bool]
    strict: dict[str, bool]


class PrincipleItem(Declared):
    """One held-out prompt (`records.Prompt`) with each arm's judged answer."""

    id: Name
    text: str
    kind: PromptKind
    split: Literal["test", "unseen"]
    wording: str = ""
    topic: str = ""
    cluster: str = ""
    principle: str = ""
    applies: bool | None = None
    pair: str = ""
    base: JudgedAnswer
    rival: JudgedAnswer | None = None
    trained: JudgedAnswer | None = None
    control: JudgedAnswer | None = None

    def prompt(self) -> Prompt:
        """The prompt as the record that was asked."""
        return Prompt(
            id=self.id, text=self.text, kind=self.kind, split=self.split, wording=self.wording, topic=self.topic,
            cluster=self.cluster, principle=self.principle, applies=self.applies, pair=self.pair,
        )  # fmt: skip

    def answers(self) -> dict[Arm, JudgedAnswer]:
        """The answers of the arms that were measured, in the order of `ARMS`."""
        arms: dict[Arm, JudgedAnswer | None] = {
            "base": self.base, "rival": self.rival, "trained": self.trained, "control": self.control,
        }  # fmt: skip
        return {arm: answer for arm, answer in arms.items() if answer is not None}


class _ArmBlock(Declared):
    answers_sha256: Sha256


class BaseArm(_ArmBlock):
    """The raw base, or the base that is prompted: it has no adapter. `answers_sha256` covers all its answers."""

    factors: BaseFactors


class AdapterArm(_ArmBlock):
    """The trained model, or the control: the base with an adapter."""

    factors: TrainedFactors


class Arms(Declared):
    """How each arm was measured; None where it was not."""

    base: BaseArm
    rival: BaseArm | None
    trained: AdapterArm | None
    control: AdapterArm | None

    def present(self) -> dict[Arm, BaseArm | AdapterArm]:
        """The arms that were measured, in the order of `ARMS`."""
        arms = {arm: getattr(self, arm) for arm in ARMS}
        return {arm: block for arm, block in arms.items() if block is not None}


class ConstitutionRun(Declared):
    """Where the file comes from. Training began from `start_adapter`; `control_adapter` is the control's.

    `generated_by`: the server that wrote the training data's texts, where one did; `judge`: the one that judged.
    """

    fingerprint: Name | None = None
    ledger_opening: Count | None = None
    adapter: RunAdapter | None = None
    control_adapter: RunAdapter | None = None
    start_adapter: Sha256 | None = None
    pairs: Count | None = None
    pairs_by_principle: dict[Name, Count] | None = None
    generated_by: ServedModel | None = None
    judge: ServedModel | None = None


class PrincipleGate(Declared):
    """The verdict over all trusted principles. `passed` is None where nothing was decided; `enforced` is as asked."""

    threshold: Threshold
    verdict: Verdict
    passed: bool | None
    enforced: bool
    reasons: list[str]


class VerdictChange(Declared):
    """One verdict that changed: `{"prompt": "q-9", "principle": "thanks", "scored": "first line", "before": true}`."""

    prompt: Name
    principle: Name
    scored: Literal["first line", "whole output"]
    before: bool


class RescoredPrinciples(Declared):
    """How a file was judged again by newer scorers: the file that it was made from, and by arm what changed.

    `not_rescored` names figures of which the file holds no answers. `before` is the block of the source.
    """

    from_scorer_version: str
    source_sha256: Sha256
    changed: dict[Arm, list[VerdictChange]]
    not_rescored: list[str]
    before: "RescoredPrinciples | None" = None


class PrincipleFile(BaseModel):
    """A whole file as it claims to be. `principles`, `joint` and `gate` are not read; they are computed again."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_version: int
    conditions: DeclaredConditions
    constitution: DescribedConstitution
    control: Constituted | None
    prompts: PromptsBlock
    judges: dict[str, JudgeRecord]
    arms: Arms
    rival: PromptedRival | None
    principles: dict[str, Any]
    joint: dict[str, Any]
    beside: Beside
    gate: dict[str, Any]
    run: ConstitutionRun | None
    items: list[PrincipleItem]
    rescored: RescoredPrinciples | None = None


class PrincipleResults(BaseModel):
    """A whole file whose figures follow from its answers: one that was built here, or read and checked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_version: int
    conditions: Conditions
    constitution: DescribedConstitution
    control: Constituted | None
    prompts: PromptsBlock
    judges: dict[str, JudgeRecord]
    arms: Arms
    rival: PromptedRival | None
    principles: dict[str, PrincipleFigures]
    joint: Joint
    beside: Beside
    gate: PrincipleGate
    run: ConstitutionRun | None
    items: list[PrincipleItem]
    rescored: RescoredPrinciples | None = None

    @property
    def trusted(self) -> dict[str, PrincipleFigures]:
        """The principles whose judge is trusted, in the constitution's order."""
        return {id: figures for id, figures in self.principles.items() if figures.judge != "not_judged"}

    def as_dict(self) -> JsonObject:
        """The file's JSON object, its keys in the file's order; `rescored` only where it was judged again."""
        whole = self.model_dump(mode="json")
        return whole if self.rescored is not None else {key: value for key, value in whole.items() if key != "rescored"}


class _StoredRate(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    rate: float | None


class StoredArmRates(BaseModel):
    """A principle's rates by first line as a file states them, with what else stands there left out."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    base: _StoredRate
    rival: _StoredRate | None = None
    trained: _StoredRate | None = None
    control: _StoredRate | None = None

    def rates(self) -> dict[Arm, float | None]:
        """The rate of each arm that was measured."""
        blocks: dict[Arm, _StoredRate | None] = {arm: getattr(self, arm) for arm in ARMS}
        return {arm: block.rate for arm, block in blocks.items() if block is not None}


class StoredPrincipleRates(BaseModel):
    """The rates of a results file as it states them, for a curve beside others: nothing is derived again."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    principles: dict[str, StoredArmRates]


@dataclass(frozen=True)
class Judging:
    """How answers are judged: each principle's judge, and the verdicts of a model where that is the judge."""

    principles: Mapping[str, DescribedPrinciple]
    judges: Mapping[str, JudgeRecord]
    model_verdicts: ModelVerdicts = field(default_factory=dict)

    def rule(self, principle_id: str) -> Mapping[str, Any] | None:
        """The rule that judges a principle, or None where its judge is a model."""
        principle, kind = self.principles[principle_id], self.judges[principle_id].kind
        return {"check": principle.check, "judge": principle.judge, "model": None, "server": None}[kind]

    def of(self, prompt: Prompt) -> Iterator[str]:
        """The principles that an answer to this prompt is judged by: a matched prompt by its own alone."""
        for id, principle in self.principles.items():
            if prompt.principle == id if prompt.principle else not principle.conditional:
                yield id


def arm_factors(arm: Arm, factors: Factors) -> BaseFactors | TrainedFactors:
    """An arm's declared factors in its own type. Raises pydantic's ValidationError if they are not such an arm's."""
    kind = TrainedFactors if arm in ("trained", "control") else BaseFactors
    return kind.model_validate(factors.model_dump())
