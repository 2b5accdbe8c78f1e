"""The held-out prompts of a constitution's results file as a task for lm-evaluation-harness, a metric a principle.

A principle is judged on the first line of an answer, whether or not the answer ended, so the harness's rates equal ours
on the same model, plainly asked. A principle whose judge is the model has no rule, and no metric.
"""

import json
from pathlib import Path
from typing import TypedDict

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import write_atomic
from cai_bootstrap.judging.rules import Rule
from cai_bootstrap.measuring.principles.declared import Judging, PrincipleItem, PrincipleResults
from cai_bootstrap.use.lm_eval import SCORING_FILE, Task, must_be_new, task_name, write_own_scorers

SCORING = '''"""Read the prompts beside this file, ask them plainly, and judge first lines by cai_bootstrap's rules."""

import json
from pathlib import Path

from cai_bootstrap.files import jsonl_lines
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers import first_line

ITEMS = Path(__file__).parent / "items.jsonl"


def load(**_):
    """The prompts as one test split; each row carries a prompt whole, as text."""
    from datasets import Dataset

    return {"test": Dataset.from_list([{"id": json.loads(line)["id"], "item": line} for _, line in jsonl_lines(ITEMS)])}


def prompt(row):
    return json.loads(row["item"])["text"] + "\\n"


def target(row):
    return ""


def kept(row, outputs):
    item = json.loads(row["item"])
    line = first_line(outputs[0])
    return {metric: float(rule_holds(rule, item["text"], line)) for metric, rule in item["rules"].items()}
'''
TASK = """\
task: {task}
custom_dataset: !function scoring.load
output_type: generate_until
test_split: test
doc_to_text: !function scoring.prompt
doc_to_target: !function scoring.target
process_results: !function scoring.kept
num_fewshot: 0
generation_kwargs:
  until: []
  do_sample: false
  max_gen_toks: {max_new_tokens}
metric_list:
{metrics}
metadata:
  version: 0
  constitution_sha256: {constitution}
  prompts_sha256: {prompts}
"""
METRIC = """\
  - metric: {metric}
    aggregation: mean
    higher_is_better: {better}"""


class Row(TypedDict):
    """A prompt as the task holds it: `{"id": "q-1", "text": "What is a kite?", "rules": {"keeps_thanks": {…}}}`."""

    id: str
    text: str
    rules: dict[str, Rule]


def write_principle_task(results: PrincipleResults, folder: Path) -> Task:
    """Write `folder`: the prompts with their rules, the scoring, and the task's YAML file.

    `keeps_ID` is measured on the test prompts to which a principle applies; where it does not apply, `elsewhere_ID`,
    of which less is better. Prompts of unseen kinds are left out. Raises UsageError if the folder is not empty, or no
    rule judges a principle.
    """
    must_be_new(folder)
    judging = Judging({p.id: p for p in results.constitution.principles}, results.judges)
    rows = [_row(judging, item) for item in results.items if item.split == "test"]
    kept = [row for row in rows if row["rules"]]
    metrics = list(dict.fromkeys(metric for row in kept for metric in row["rules"]))
    if not metrics:
        raise UsageError(f"no rule judges a principle of {results.constitution.name}: there is nothing to measure")
    task = task_name(results.constitution.name)
    write_own_scorers(kept, folder)
    write_atomic(folder / "items.jsonl", "".join(f"{json.dumps(row, ensure_ascii=True)}\n" for row in kept))
    write_atomic(folder / SCORING_FILE, SCORING)
    lines = [METRIC.format(metric=m, better="false" if m.startswith("elsewhere_") else "true") for m in metrics]
    text = TASK.format(
        task=task,
        max_new_tokens=results.conditions.max_new_tokens,
        metrics="\n".join(lines),
        constitution=results.constitution.sha256,
        prompts=results.prompts.asked_sha256,
    )
    write_atomic(folder / f"{task}.yaml", text)
    return Task(folder, task, None, len(kept), 0)


def _row(judging: Judging, item: PrincipleItem) -> Row:
    """A prompt with the rules of the principles that its answers are judged by, under their metrics' names."""
    prompt = item.prompt()
    rules: dict[str, Rule] = {}
    for id in judging.of(prompt):
        kinds = judging.principles[id].applies_to
        applies = prompt.applies if prompt.principle else not kinds or prompt.kind in kinds
        if (rule := judging.rule(id)) is not None:
            rules[f"{'keeps' if applies else 'elsewhere'}_{_word(id)}"] = rule
    return {"id": item.id, "text": item.text, "rules": rules}


def _word(id: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in id)
