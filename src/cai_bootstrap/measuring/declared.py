"""What a results file declares, as types: whoever reads one reads it through `ResultsFile`.

Each field is as the writer (`results.build_results`, the steps) fills it, no other field is allowed where the writer
defines them all, and nothing is converted: 520.0, "520" and true are no counts. Figures that follow from the responses
are not typed here; they are computed again and compared.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cai_bootstrap.config import Precision
from cai_bootstrap.measuring.conditions import StopRule
from cai_bootstrap.records import Answer

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"\S", max_length=4000)]  # a rendering may be a whole chat template
Count = Annotated[int, Field(ge=0, le=10**9)]
Size = Annotated[int, Field(ge=1, le=10**6)]  # no batch has, and no instruction is answered in, a million
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


class _Factors(_Declared):
    """The declared factors of one side (`conditions.FACTORS`), the adapter apart."""

    model: Name
    rendering: Name
    stop_rule: StopRule


class BaseFactors(_Factors):
    """Those of a side that is the base itself, prompted or not: it has no adapter."""

    adapter: None


class TrainedFactors(_Factors):
    """Those of the trained side: an adapter, named by the hash of its weights."""

    adapter: Sha256


class _Side(BaseModel):
    """One side's block. Its figures are computed again, so only the factors are read as they stand."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class BaseSide(_Side):
    """The base's block, or the best prompted base's."""

    factors: BaseFactors


class TrainedSide(_Side):
    """The trained model's block."""

    factors: TrainedFactors


class Models(_Declared):
    """The sides. The rival is the best prompted base."""

    base: BaseSide | None
    trained: TrainedSide | None
    rival: BaseSide | None = None


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


class Row(_Declared):
    """One item of the suite with each side's judged answer."""

    id: str
    type: str
    template: str
    instruction: str
    base: Answer | None
    trained: Answer | None
    rival: Answer | None = None


class SuiteBlock(_Declared):
    """Which suite was measured."""

    name: str
    sha256: str
    version: str
    n: int


class RunAdapter(_Declared):
    """The adapter that the run evaluated."""

    sha256: Sha256
    finished_at: str | None = None


class Reuse(_Declared):
    """For how many instructions data were asked for, and for how many they were there."""

    requested: Count
    found: Count


class Run(_Declared):
    """Where the file comes from, as the steps `baseline` and `evaluate` write it."""

    fingerprint: Name | None = None
    ledger_opening: Count | None = None
    adapter: RunAdapter | None = None
    labels: dict[Name, Count] | None = None
    pairs: Count | None = None
    reuse: Reuse | None = None
    base_from_baseline: bool | None = None
    base_model_check: dict[str, Any] | None = None
    gap: dict[str, Any] | None = None


class ResultsFile(BaseModel):
    """A whole results file. A block beside these (`peer`, `rescored`) tells more of where it comes from."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    schema_version: int
    conditions: DeclaredConditions
    suite: SuiteBlock
    models: Models
    rival: Rival | None
    items: list[Row]
    statistics: dict[str, Any]
    gate: dict[str, Any]
    run: Run | None = None
