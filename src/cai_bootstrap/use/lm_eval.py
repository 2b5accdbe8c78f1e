"""The suite as a task for lm-evaluation-harness: a folder for `lm_eval --include_path`, which needs no network.

The harness hands a task the text alone, not whether the model ended it. An output that equals its exact gold cannot
have been cut at the token limit (the gold is shorter), so the exact-match items' numbers are ours. For other items a
text that was cut counts as finished there, and the harness's rate is an upper bound of the strict one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import write_atomic
from cai_bootstrap.judging.own.entering import entered_sources
from cai_bootstrap.judging.suite import Suite, canonical_line

SCORING_FILE = "scoring.py"
SCORING = '''"""Read the items beside this file, ask them plainly, and score with cai_bootstrap's own scorers."""

import json
from pathlib import Path

from cai_bootstrap.judging.scorers import check
from cai_bootstrap.files import jsonl_lines

ITEMS = Path(__file__).parent / "items.jsonl"


def load(exact_only=False, **_):
    """The items as one test split; each row carries an item whole, as text."""
    from datasets import Dataset

    rows = [{"id": json.loads(line)["id"], "item": line} for _, line in jsonl_lines(ITEMS)]
    kept = [row for row in rows if not exact_only or json.loads(row["item"])["scorer"] == "exact"]
    return {"test": Dataset.from_list(kept)}


def prompt(row):
    return json.loads(row["item"])["instruction"] + "\\n"


def target(row):
    gold = json.loads(row["item"])["gold"]
    return gold[0] if gold else ""


def followed(row, outputs):
    item = json.loads(row["item"])
    verdict = check(item["instruction"], item["scorer"], item["args"], item["gold"], outputs[0])
    return {"followed": float(verdict.success)}
'''
TASK = """\
task: {task}
custom_dataset: !function scoring.load
dataset_kwargs:
  exact_only: {exact_only}
output_type: generate_until
test_split: test
doc_to_text: !function scoring.prompt
doc_to_target: !function scoring.target
process_results: !function scoring.followed
num_fewshot: 0
generation_kwargs:
  until: []
  do_sample: false
  max_gen_toks: {max_new_tokens}
metric_list:
  - metric: followed
    aggregation: mean
    higher_is_better: true
metadata:
  version: {version}
  suite_sha256: {sha256}
"""


@dataclass(frozen=True)
class Task:
    """A written task folder. `exact` names the task of the exact-match items, None if the suite has none."""

    folder: Path
    task: str
    exact: str | None
    items: int
    exact_items: int


def write_task(suite: Suite, folder: Path, *, max_new_tokens: int) -> Task:
    """Write `folder`: the items, the scoring, and one YAML file per task. Raises UsageError if it is not empty."""
    must_be_new(folder)
    name = task_name(suite.name)
    exact_items = sum(item.scorer == "exact" for item in suite.items)
    version = suite.version if suite.version.isdigit() else 0
    write_own_scorers([item.model_dump() for item in suite.items], folder)
    write_atomic(folder / "items.jsonl", "".join(canonical_line(item) for item in suite.items))
    write_atomic(folder / SCORING_FILE, SCORING)
    names = {name: "false"} | ({f"{name}_exact": "true"} if exact_items else {})
    for task, exact_only in names.items():
        text = TASK.format(
            task=task, exact_only=exact_only, max_new_tokens=max_new_tokens, version=version, sha256=suite.sha256
        )
        write_atomic(folder / f"{task}.yaml", text)
    return Task(folder, name, f"{name}_exact" if exact_items else None, len(suite.items), exact_items)


def write_own_scorers(content: Any, folder: Path, *, task_file: str = SCORING_FILE) -> None:
    """Put the modules of own scorers beside the items that name them: another machine must trust them to score.

    Raises UsageError for one that is called like `task_file`, the task's own module.
    """
    sources = entered_sources(content)
    if any(source.name == task_file for source in sources):
        raise UsageError(f"{task_file}: the task has a file of that name itself; give your module another name")
    for source in sources:
        write_atomic(folder / source.name, source.text.encode("utf-8"))


def must_be_new(folder: Path) -> None:
    """Raises UsageError if a folder is there and not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already and not empty; give a new folder with --to")


def task_name(name: str) -> str:
    """The name of the task of a suite or a constitution elsewhere, which is a Python name too: `cai_stage1`."""
    return "cai_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
