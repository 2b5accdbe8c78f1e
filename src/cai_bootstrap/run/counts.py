"""What the steps count about a run's data and model: the types of its files, for whoever reads them.

Every field may be absent, since an older version may not have counted it; a field of another type makes the file
unreadable. What a newer version adds is kept.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import JsonObject, read_json
from cai_bootstrap.servers import ServedModel

CountsT = TypeVar("CountsT", bound="Counts")
IMPORTED_LABEL = "imported"  # the label source of pairs that a person brought
Number = int | float  # a count stays a count in the file: 60, not 60.0


class Counts(BaseModel):
    """A frozen block of counts."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    def as_json(self) -> JsonObject:
        """The block as its file holds it, without what was not counted."""
        return self.model_dump(mode="json", exclude_unset=True)


class SelfInstruct(Counts):
    """Instructions that the model was asked to write, those it wrote, and why others were dropped."""

    asked: int = 0
    written: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)


class Diversity(Counts):
    """`diversity.json`: how varied the instructions are (`instructions.diversity.measure`), and what was not drawn."""

    dropped_by_sampler: dict[str, int] = Field(default_factory=dict)
    self_instruct: SelfInstruct | None = None
    instructions: int | None = None
    exact_unique: int | None = None
    effective_unique: int | None = None
    near_duplicate_share: Number | None = None
    distinct_1: Number | None = None
    distinct_2: Number | None = None
    distinct_3: Number | None = None
    compression_ratio: Number | None = None
    opener_entropy: Number | None = None
    templates_used: int | None = None
    template_share: Number | None = None
    topics: int | None = None
    template_topic_pairs: int | None = None


class PrincipleCounts(Counts):
    """How often a principle was assigned, led to a pair, and gave a revision that was chosen."""

    assigned: int = 0
    pairs: int = 0
    revisions_chosen: int = 0


class SkillCounts(Counts):
    """Instructions of a skill; those of which some answer was right, and those of which all were."""

    asked: int = 0
    answered: int = 0
    settled: int = 0


class ImportedPairs(Counts):
    """Where pairs that a person brought came from: `{"source": "pairs.jsonl", "sha256": "4c…", "rows": 500, …}`.

    `source` is a file's path or a dataset's id; of a dataset `revision` (a commit), `split` and, where only the first
    rows were read, `limit` say which. `sha256` is the file's, or covers a dataset's rows as they were read. `columns`
    maps `prompt`, `chosen` and `rejected` to the source's names; `forms` counts the forms of the pairs that were read.
    """

    source: str
    sha256: str
    rows: int
    columns: dict[str, str] = Field(default_factory=dict)
    forms: dict[str, int] = Field(default_factory=dict)
    revision: str | None = None
    split: str | None = None
    limit: int | None = None

    def described(self) -> str:
        """The source in a few words: `pairs.jsonl (sha256 4c1d…)`, `owner/name, train, commit 9f…`."""
        where = [self.source, *([self.split] if self.split else [])]
        where += [f"commit {self.revision[:12]}"] if self.revision else []
        return f"{', '.join(where)} (sha256 {self.sha256[:12]}…)"


def own_labels(labels: Mapping[str, int]) -> dict[str, int]:
    """The counts of label sources without those of pairs that a person brought."""
    return {source: count for source, count in labels.items() if source != IMPORTED_LABEL}


def judges_of(labels: Iterable[str]) -> list[str]:
    """The judges that label sources name: `gold+agreement` names two."""
    return sorted({judge for source in labels for judge in source.split("+")})


class GenerationSummary(Counts):
    """`generation_summary.json`: `{"requested": 1600, "produced": 1600, "pairs": 980, "dropped": {…}}`.

    Of imported pairs, `requested` and `produced` count the rows that were read. `served_by`: who answered, where the
    first round's texts came from a server.
    """

    requested: int | None = None
    produced: int | None = None
    by_type: dict[str, int] = Field(default_factory=dict)
    constitution_sha256: str | None = None
    pairs: int | None = None
    pairs_by_type: dict[str, int] = Field(default_factory=dict)
    pairs_by_skill: dict[str, int] = Field(default_factory=dict)
    by_principle: dict[str, PrincipleCounts] = Field(default_factory=dict)
    by_chosen_source: dict[str, int] = Field(default_factory=dict)
    by_label_source: dict[str, int] = Field(default_factory=dict)
    by_skill: dict[str, SkillCounts] = Field(default_factory=dict)
    dropped: dict[str, int] = Field(default_factory=dict)
    effective: dict[str, int] = Field(default_factory=dict)
    rejected_finished: int | None = None
    critic: dict[str, int] = Field(default_factory=dict)
    diversity: Diversity | None = None
    imported: ImportedPairs | None = None
    served_by: ServedModel | None = None

    def with_round(self, later: "GenerationSummary") -> "GenerationSummary":
        """The counts of both together. Diversity is the first round's; how often a text repeats cannot be added up."""
        added = _added(self.as_json(), later.as_json())
        added.pop("effective", None)
        return GenerationSummary.model_validate(added)


class TurnCounts(Counts):
    """One principle's turn: answers that it was asked about, and what came of them.

    `applies` counts prompts by whether it applies (`yes`, `no`, `undecided`). `auc` is how well the model's own choice
    ranks prompts whose label is known; the labels decide nothing.
    """

    asked: int = 0
    forced: int = 0
    changed: int = 0
    redrawn: int = 0
    faults: dict[str, int] = Field(default_factory=dict)
    pairs: int = 0
    applies: dict[str, int] = Field(default_factory=dict)
    auc: Number | None = None


class SteeringSummary(Counts):
    """`generation_summary.json` of the constitution stage: `{"requested": 600, "produced": 600, "pairs": 512, …}`.

    `rule_selected` names the principles whose checks decided which revisions were kept.
    """

    requested: int | None = None
    produced: int | None = None
    constitution_sha256: str | None = None
    prompts_sha256: str | None = None
    pairs: int | None = None
    kept_answers: int = 0
    by_principle: dict[str, TurnCounts] = Field(default_factory=dict)
    rule_selected: list[str] = Field(default_factory=list)
    dropped: dict[str, int] = Field(default_factory=dict)
    effective: dict[str, int] = Field(default_factory=dict)
    replayed: int = 0
    served_by: ServedModel | None = None


class PairFigures(Counts):
    """The pairs that may train: their number, how many differ, their lengths, and some of them.

    `tokens` holds mean, 5%, median, 95% and most of the texts' lengths, by text.
    """

    pairs: int = 0
    unique_prompts: int = 0
    unique_chosen: int = 0
    rejected_unfinished: int = 0
    tokens: dict[str, dict[str, Number]] = Field(default_factory=dict)
    sample: list[dict[str, str]] = Field(default_factory=list)


class PreflightReport(PairFigures):
    """`pair_preflight.json`: how many pairs are sound, and the faults of the others."""

    sound: int = 0
    faults: dict[str, int] = Field(default_factory=dict)


class ModelRecord(Counts):
    """`model.json`: the model that was prepared, and the hashes of its files."""

    name: str
    path: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None
    tokenizer_sha256: str | None = None
    source_sha256: str | None = None
    chat_template: bool = False


def read_counts(path: Path, kind: type[CountsT]) -> CountsT:
    """A file of counts. Raises DataError naming the file and its first fault."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds no JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def _added(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(one, dict) and isinstance(other, dict) and key != "diversity":
        names = [*one, *(name for name in other if name not in one)]
        return {name: _added(one.get(name), other.get(name), name) for name in names}
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return other if one is None else one
