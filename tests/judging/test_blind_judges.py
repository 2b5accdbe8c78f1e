"""The second checks of the example constitutions agree with a person's labels on answers that the same person wrote.

Both were written by somebody who had not seen the demonstrations, the answers before the rules. That the labels and the
rules have one author flatters the agreement: on answers written later κ was .50 to 1.00 (16 answers each).
"""

import json
from pathlib import Path

import pytest

from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.measuring.principles.agreement import kappa_within
from cai_bootstrap.shipped import shipped

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data/labelled_answers.jsonl").read_text(encoding="utf-8").splitlines()
]
FILES = ("five", "conditional-warn", "conditional-refuse", "conditional-yesno")


@pytest.mark.parametrize("name", FILES)
def test_each_second_check_agrees_with_the_labels_of_its_principle(name: str) -> None:
    constitution = load_constitution(shipped(f"examples/constitutions/{name}.yaml"))
    for principle in constitution.principles:
        rows = [row for row in ROWS if row["principle"] == principle.id]
        assert principle.judge is not None
        assert len(rows) == 30
        verdicts = [rule_holds(principle.judge, row["question"], first_line(row["answer"])) for row in rows]
        kappa = kappa_within([row["keeps"] for row in rows], verdicts, ["written"] * len(rows))
        assert kappa is not None
        assert kappa >= 0.85, principle.id
