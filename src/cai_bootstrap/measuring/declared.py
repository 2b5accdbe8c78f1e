"""A results file, as types: `Results` is what everybody holds, `ResultsFile` what a file claims unchecked.

Each field is as the writer (`results.build_results`, the steps) fills it, no other field is allowed where the writer
defines them all, and nothing is converted: 520.0, "520" and true are no counts. In a `ResultsFile` the figures that
follow from the responses are not read; they are computed again, and `Results` holds those.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cai_bootstrap.files import JsonObject
from cai_bootstrap.measuring.conditions import Conditions, StopRule
from cai_bootstrap.measuring.figures import SideFigures, Statistics
from cai_bootstrap.processor import Precision
from cai_bootstrap.records import Answer
from cai_bootstrap.servers import ServedModel

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"\S", max_length=4000)]  # a rendering may be a whole chat template
Count = Annotated[int, Field(ge=0, le=10**9)]
Size = Annotated[int, Field(ge=1, le=10**6)]  # no batch has, and no instruction is answered in, a million
SIDES = ("base", "trained", "rival", "trained_bare")
Rate = Annotated[float, Field(ge=0, le=1)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Greedy(_Declared):
    """Greedy decoding: the most probable token, always. What only sampling reads stands at its neutral value."""

    temperature: Annotated[float, Field(ge=0, le=0)]
    top_p: Annotated[float, Field(ge=1, le=1)] = 1.0
    do_sample: Literal[False] = False
    seed: int = 0


class DeclaredConditions(_Declared):
    """`conditions.Conditions` as an evaluation fills them, field by field."""

    precision: Precision
    quantization: Literal["int8", "fp8"] | None
    base_model: Name
    revision: Name
    base_weights_sha256: Sha256
    tokenizer_sha256: Sha256
    decoding: Greedy
    max_new_tokens: Size
    batch_size: Size
    padding_side: Literal["left", "right", "none"]
    attention: Name
    engine: Name
    device: Name
    versions: Annotated[dict[Name, Name], Field(min_length=1)]
    suite_name: Name
    suite_sha256: Sha256
    scorer_version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}$")]
    item_order: Sha256
    own_scorers: dict[Name, Sha256] = Field(default_factory=dict, exclude_if=lambda sources: not sources)


class Factors(_Declared):
    """The declared factors of one side (`conditions.FACTORS`); `adapter` is the hash of the adapter's weights."""

    model: Name
    adapter: str | None
    rendering: Name
    stop_rule: StopRule


class BaseFactors(Factors):
    """Those of a side that is the base itself, prompted or not: it has no adapter."""

    adapter: None


class TrainedFactors(Factors):
    """Those of the trained side: an adapter, named by the hash of its weights."""

    adapter: Sha256


class BareFactors(TrainedFactors):
    """Those of the trained model where it is asked without the line break: it too must stop by itself."""

    rendering: Literal["bare"]
    stop_rule: Literal["eos"]


class _ClaimedSide(BaseModel):
    """One side's block. Its figures are computed again, so only the factors are read as they stand."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class BaseSide(_ClaimedSide):
    """The base's block, or the best prompted base's."""

    factors: BaseFactors


class TrainedSide(_ClaimedSide):
    """The trained model's block."""

    factors: TrainedFactors


class BareSide(_ClaimedSide):
    """The trained model's block, asked without the line break."""

    factors: BareFactors


class ClaimedModels(_Declared):
    """The sides as a file claims them."""

    base: BaseSide | None
    trained: TrainedSide | None
    rival: BaseSide | None = None
    trained_bare: BareSide | None = None

    def factors(self) -> dict[str, Factors]:
        """The declared factors by side, of the sides that are there."""
        sides: dict[str, BaseSide | TrainedSide | BareSide | None] = {name: getattr(self, name) for name in SIDES}
        return {name: side.factors for name, side in sides.items() if side is not None}


class Side(SideFigures):
    """One side's figures, and the factors that it was measured with."""

    factors: Factors


class Models(_Declared):
    """The sides that were measured. The rival is the best prompted base.

    `trained_bare` is the trained model, asked without the line break after the instruction. It decides nothing.
    """

    base: Side | None
    trained: Side | None
    rival: Side | None = None
    trained_bare: Side | None = None

    def present(self) -> dict[str, Side]:
        """The sides that were measured, by name, in the order of `SIDES`."""
        sides: dict[str, Side | None] = {name: getattr(self, name) for name in SIDES}
        return {name: side for name, side in sides.items() if side is not None}


class Rival(_Declared):
    """How the best prompted base was found (`elicit.rival_block`), and its rate by first line."""

    rendering: Name
    template: Name | None = None
    shots: Count | None = None
    stop_rule: StopRule | None = None
    chosen_on_dev_items: Count | None = None
    dev_rates: dict[Name, Rate] | None = None
    success_rate: Rate | None = None
    successes: Count | None = None
    total: Count | None = None


class ItemRow(_Declared):
    """One item of the suite with each side's judged answer."""

    id: str
    type: str
    template: str
    instruction: str
    base: Answer | None
    trained: Answer | None
    rival: Answer | None = None
    trained_bare: Answer | None = None

    def answers(self) -> dict[str, Answer]:
        """The answers by side, of the sides that were measured."""
        sides: dict[str, Answer | None] = {name: getattr(self, name) for name in SIDES}
        return {side: answer for side, answer in sides.items() if answer is not None}


class SuiteBlock(_Declared):
    """Which suite was measured. `asked_sha256` is the suite's, where own scorers make it another than `sha256`."""

    name: str
    sha256: str
    version: str
    n: int
    asked_sha256: Sha256 | None = Field(default=None, exclude_if=lambda sha256: sha256 is None)


class RunAdapter(_Declared):
    """The adapter that the run evaluated."""

    sha256: Sha256
    finished_at: str | None = None


class Reuse(_Declared):
    """For how many instructions data were asked for, and for how many they were there."""

    requested: Count
    found: Count


class Gap(_Declared):
    """What the baseline saw: nothing is left to teach where the best prompted base reaches the threshold on dev."""

    nothing_to_teach: bool


class Run(_Declared):
    """Where the file comes from, as the steps `baseline` and `evaluate` write it.

    `generated_by`: the server that wrote the training data's texts, where one did.
    """

    fingerprint: Name | None = None
    ledger_opening: Count | None = None
    adapter: RunAdapter | None = None
    labels: dict[Name, Count] | None = None
    pairs: Count | None = None
    reuse: Reuse | None = None
    base_from_baseline: bool | None = None
    base_model_check: dict[str, Any] | None = None
    gap: Gap | None = None
    generated_by: ServedModel | None = None


class Gate(_Declared):
    """The gate's verdict as it stands in a file; `passed` is None where no trained model was measured.

    Whoever judges a file computes it again and looks at none of this but `enforced`.
    """

    threshold: float
    passed: bool | None
    enforced: bool
    reasons: list[str]


class ResultsFile(BaseModel):
    """A whole results file as it claims to be. Blocks beside these (`peer`, `rescored`) tell where it comes from."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    schema_version: int
    conditions: DeclaredConditions
    suite: SuiteBlock
    models: ClaimedModels
    rival: Rival | None
    items: list[ItemRow]
    statistics: dict[str, Any]
    gate: dict[str, Any]
    run: Run | None = None


class Results(BaseModel):
    """A whole results file whose figures follow from its responses: one that was built here, or read and checked.

    Blocks of other tools (`peer`, `rescored`) are kept as they are: `block` gives them.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    schema_version: int
    conditions: Conditions
    suite: SuiteBlock
    models: Models
    rival: Rival | None
    items: list[ItemRow]
    statistics: Statistics
    gate: Gate
    run: Run | None = None

    def block(self, name: str) -> Any:
        """A block of another tool, or None."""
        return (self.model_extra or {}).get(name)

    def answers(self, side: str) -> dict[str, Answer]:
        """The judged answers of one side that was measured, by item id."""
        return {row.id: row.answers()[side] for row in self.items}

    def with_blocks(self, blocks: Mapping[str, Any]) -> "Results":
        """The same results with these blocks of other tools and no others."""
        return self.model_copy(update=dict(blocks))

    def as_dict(self) -> JsonObject:
        """The file's JSON object, its keys in the file's order; what an older file lacks is not added."""
        return self.model_dump(mode="json", exclude_unset=True)


class StoredPart(BaseModel):
    """A part of a file taken as it stands: what is not asked for here is not looked at."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class StoredSuite(StoredPart):
    """The suite that a file says was measured."""

    name: str
    sha256: str
    asked_sha256: str | None = None


class StoredConditions(StoredPart):
    """The base model that a file says was measured."""

    base_model: str | None = None


class StoredFactors(StoredPart):
    """The adapter that a file says was measured."""

    adapter: str | None = None


class StoredSide(StoredPart):
    """A side that a file says was measured."""

    factors: StoredFactors


class StoredModels(StoredPart):
    """The trained side, if the file has one."""

    trained: StoredSide | None = None


class Rescored(StoredPart):
    """The file from whose responses this one was scored again."""

    source_sha256: str


class StoredResults(StoredPart):
    """What a results file says of where it comes from, before anything in it is believed or derived again."""

    suite: StoredSuite
    conditions: StoredConditions
    models: StoredModels
    run: Run | None = None
    rescored: Rescored | None = None

    @property
    def adapter(self) -> str | None:
        """The hash of the weights of the adapter that was measured."""
        return None if self.models.trained is None else self.models.trained.factors.adapter

    @property
    def rescored_from(self) -> str | None:
        """The hash of the file from whose responses this one was scored again."""
        return None if self.rescored is None else self.rescored.source_sha256


class StoredRate(StoredPart):
    """The rate of success that a file states for a side."""

    success_rate: float | None


class StoredStatistics(StoredPart):
    """The rates that a file states, by side."""

    rates: dict[str, StoredRate]


class StoredRates(StoredPart):
    """The rates of a results file as it states them, for a curve beside others: nothing is derived again."""

    statistics: StoredStatistics
