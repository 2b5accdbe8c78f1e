"""The records that travel between steps, one JSON object a line. Field names are a fixed interface
(docs/ARCHITECTURE.md).

Records hold no times and no paths, so that the same run gives the same bytes.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TaskType = Literal["question", "completion", "generation", "transformation"]
TASK_TYPES: tuple[TaskType, ...] = ("question", "completion", "generation", "transformation")


class Record(BaseModel):
    """A frozen record that refuses unknown fields, so that a file of another kind is never half-read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Instruction(Record):
    """One instruction of the training pool.

    `scorer`, `args` and `gold` use the vocabulary of `judging.scorers`; `scorer` is None where nothing can be
    checked by rule. `gold` is empty unless a known answer exists; it is read only when `--select` names `gold`.
    `source` is `imported` for the prompts of pairs that a person brought (`cai pairs import`).
    """

    id: str
    type: TaskType
    template: str
    instruction: str
    source: Literal["template", "self", "imported"]
    skill: str = ""
    scorer: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    gold: list[str] = Field(default_factory=list)
    fact_key: str | None = None


class Response(Record):
    """One answer of the model. `prompting` is `plain` (the instruction alone) or `few_shot` (same-skill exemplars)."""

    id: str
    instruction_id: str
    prompting: Literal["plain", "few_shot"]
    candidate: int
    text: str
    finished: bool
    seed: int
    prompt_version: str
    model: str


class Critique(Record):
    """The model's criticism of one response against one principle of the constitution."""

    id: str
    response_id: str
    principle_id: str
    text: str
    prompt_version: str
    seed: int
    model: str


class Revision(Record):
    """The model's second attempt, written with its own critique before it."""

    id: str
    critique_id: str
    response_id: str
    principle_id: str
    text: str
    finished: bool
    prompt_version: str
    seed: int
    model: str


class RedrawnRevision(Revision):
    """A revision of the constitution stage, drawn until the checks that may choose were passed, or draws ended.

    `draws` counts them. `fault` says why it is not taken: a fault of its form, or the principle whose check it fails.
    `forced`: the principle does not apply, and the text is there to be rejected.
    """

    draws: int = 1
    fault: str | None = None
    forced: bool = False


def revision_id(response_id: str) -> str:
    """The id of a response's revision: `q-17.f0.r` for `q-17.f0`."""
    return f"{response_id}.r"


def is_revision(candidate_id: str) -> bool:
    """Whether `PreferencePair.chosen_id` or `rejected_id` names a revision."""
    return candidate_id.endswith(".r")


class PreferencePair(Record):
    """One row for DPO, in TRL's prompt/chosen/rejected form. Texts are without EOS; the trainer adds it once.

    `chosen_source` says whether the chosen text is a `revision` or a first `response`; `label_source` names the
    judges that preferred it (for example `critic+constraint`). Both are `imported` for pairs that a person brought.
    `rejected_finished` is False where the rejected text was cut off at the token limit, in which case no EOS may be
    taught after it.
    """

    id: str
    instruction_id: str
    type: TaskType
    template: str
    prompt: str
    chosen: str
    rejected: str
    chosen_source: Literal["revision", "response", "imported"]
    chosen_id: str
    rejected_id: str
    rejected_finished: bool
    principle_id: str
    label_source: str


class RejectedPair(Record):
    """An instruction that gave no pair, and why."""

    instruction_id: str
    type: TaskType
    template: str
    reason: str
    chosen: str | None = None
    rejected: str | None = None


PromptKind = Literal["question", "yes_no", "request", "statement", "long"]


class Prompt(Record):
    """One prompt of the constitution stage: `{"id": "q-17", "text": "What is a kite?", "kind": "question", …}`.

    `wording`, `topic` and `cluster` group prompts that stand and fall together: the sentence without its topic, the
    topic, near-duplicates. `principle`, `applies` and `pair` are set in matched prompts alone: whether that principle
    applies to this one of two, which differ in as little else as possible. `unseen` prompts are of kinds that never
    train.
    """

    id: str
    text: str
    kind: PromptKind
    split: Literal["train", "dev", "test", "unseen"]
    wording: str = ""
    topic: str = ""
    cluster: str = ""
    principle: str = ""
    applies: bool | None = None
    pair: str = ""


class EvalItem(Record):
    """One held-out item of a suite. `scorer` and `args` decide; `gold` holds accepted answers where one is needed."""

    id: str
    split: Literal["dev", "test"]
    type: TaskType
    template: str
    instruction: str
    scorer: str
    args: dict[str, Any] = Field(default_factory=dict)
    gold: list[str] = Field(default_factory=list)
    fact_key: str | None = None
    source: str
    difficulty: Literal["easy", "medium", "hard"]
    skill: str = ""


class Verdict(Record):
    """A scorer's judgement of one output; `reason` is `ok` or one of the scorers' closed list of failures."""

    success: bool
    reason: str


class Answer(Record):
    """A model's judged output on one item, as it stands in a results file."""

    response: str
    finished: bool
    success: bool
    reason: str
    first_line_success: bool
    first_line_reason: str
