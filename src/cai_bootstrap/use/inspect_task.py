"""The suite as a task for Inspect (`inspect eval FILE@TASK`), beside the items it asks; it needs no network.

Inspect hands a task the answer and why it ended, so its strict rate is ours. Its `hf` provider does not say why: there
an answer that is as long as the limit counts as cut, and each prompt is asked alone so that its length is its own.
"""

from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.files import write_atomic
from cai_bootstrap.judging.suite import Suite, canonical_line
from cai_bootstrap.use.lm_eval import must_be_new, task_name, write_own_scorers

TASK = '''"""Read the items beside this file, ask them plainly, and score with cai_bootstrap's own scorers."""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer, stderr
from inspect_ai.solver import solver

from cai_bootstrap.files import jsonl_lines
from cai_bootstrap.judging.scorers import SCORER_VERSION, judge
from cai_bootstrap.records import EvalItem

ITEMS = Path(__file__).parent / "items.jsonl"
MAX_NEW_TOKENS = {max_new_tokens}
SUITE_SHA256 = "{sha256}"


@task
def {task}():
    return Task(
        dataset=MemoryDataset(samples(), name="{task}"),
        solver=ask(),
        scorer=[followed(), first_line_followed()],
        config=GenerateConfig(temperature=0, max_tokens=MAX_NEW_TOKENS),
        version={version},
        metadata={{"suite_sha256": SUITE_SHA256, "scorer_version": SCORER_VERSION}},
    )


def samples():
    """A sample for each item, with the item whole in its metadata."""
    rows = [json.loads(line) for _, line in jsonl_lines(ITEMS)]
    return [
        Sample(id=row["id"], input=row["instruction"], target=row["gold"] or "", metadata={{**row, "item": row}})
        for row in rows
    ]


@solver
def ask():
    """One answer to one message. The `hf` provider is asked alone, under the task's own limit: see `ended`."""

    async def solve(state, generate):
        alone = {{"max_connections": 1, "max_tokens": MAX_NEW_TOKENS}} if state.model.api == "hf" else {{}}
        return await generate(state, **alone)

    return solve


def ended(state):
    """Whether the model ended its answer by itself. `hf` does not say; what is as long as the limit counts as cut."""
    if state.model.api == "hf":
        return state.output.usage is not None and state.output.usage.output_tokens < MAX_NEW_TOKENS
    return state.output.stop_reason == "stop"


def judged(state):
    return judge(EvalItem.model_validate(state.metadata["item"]), state.output.completion, ended(state))


@scorer(metrics=[accuracy(), stderr(cluster="template")])
def followed():
    """Strictly: the whole answer follows the instruction, and the model ended it."""

    async def score(state, target):
        answer = judged(state)
        return verdict(state, answer.success, answer.reason)

    return score


@scorer(metrics=[accuracy(), stderr(cluster="template")])
def first_line_followed():
    """The first line follows the instruction, whatever comes after it."""

    async def score(state, target):
        answer = judged(state)
        return verdict(state, answer.first_line_success, answer.first_line_reason)

    return score


def verdict(state, success, reason):
    return Score(value=CORRECT if success else INCORRECT, answer=state.output.completion, explanation=reason)
'''


@dataclass(frozen=True)
class InspectTask:
    """A written task folder of `items` items: `inspect eval FILE@TASK`; Inspect refuses an absolute FILE alone."""

    folder: Path
    file: Path
    task: str
    items: int


def write_inspect_task(suite: Suite, folder: Path, *, max_new_tokens: int) -> InspectTask:
    """Write `folder`: the items with the modules of own scorers, and the task's Python file.

    Raises UsageError if the folder is not empty, or such a module is called like the task's file.
    """
    must_be_new(folder)
    name = task_name(suite.name)
    version = suite.version if suite.version.isdigit() else 0
    file = folder / f"{name}.py"
    write_own_scorers([item.model_dump() for item in suite.items], folder, task_file=file.name)
    write_atomic(folder / "items.jsonl", "".join(canonical_line(item) for item in suite.items))
    write_atomic(file, TASK.format(task=name, max_new_tokens=max_new_tokens, version=version, sha256=suite.sha256))
    return InspectTask(folder, file, name, len(suite.items))
