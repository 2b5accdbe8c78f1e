"""The constitution stage with a judge at an address, on stub engines: from calibration to the file and its page."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from completions_server import Json, Served, choices, serving
from test_constitution_stage import Workbench

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.measuring.principles.model_judge import shipped_labels
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.stage_verdicts import judge_run, results_file
from cai_bootstrap.report.build import build_report
from cai_bootstrap.shipped import shipped

JUDGE = {"data": [{"id": "judge", "root": "/models/other", "parent": None}]}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    return Workbench(tmp_path / "base", monkeypatch)


@pytest.fixture
def only_a_model_can_tell(tmp_path: Path) -> Path:
    """A constitution of one principle that has labelled answers and no rule."""
    content = yaml.safe_load(shipped("constitution_v2.yaml").read_text(encoding="utf-8"))
    content["principles"] = [p for p in content["principles"] if p["id"] == "correct"]
    path = tmp_path / "correct.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


class Person:
    """Judges labelled answers as people did (or, `contrary`, the other way), others by whether they are blue."""

    def __init__(self, *, contrary: bool = False) -> None:
        self.labels = {
            (row.question, " ".join(row.answer.split())): row.keeps != contrary
            for row in shipped_labels()
            if row.principle == "correct"
        }

    def __call__(self, body: Json) -> Json:
        return choices(*(self._verdict(prompt) for prompt in body["prompt"]))

    def _verdict(self, prompt: str) -> str:
        question, rest = prompt.rsplit("\nQuestion: ", 1)[1].split("\nAnswer: ", 1)
        answer = rest.split("\n", 1)[0]
        return " Yes" if self.labels.get((question, answer), "blue" in answer) else " No"


def run(bench: Workbench, served: Served, constitution: Path, *steps: str) -> list[bool]:
    values: dict[str, Any] = {
        "constitution": str(constitution), "control": "none", "steering__beside": False, "judge__model": "judge",
        "judge__endpoint": served.address, "judge__precision": "bf16", "steering__dev_items": 0,
    }  # fmt: skip
    return bench.run(*steps, **values)


def test_a_judge_that_agrees_with_people_decides_and_is_named_with_its_cost(
    bench: Workbench, only_a_model_can_tell: Path
) -> None:
    with serving(Person(), models=JUDGE) as served:
        run(bench, served, only_a_model_can_tell)
        asked = len(served.bodies)
        path = results_file(bench.workspace)
        results = read_principle_results(path)
        assert (results.judges["correct"].kind, results.judges["correct"].trusted) == ("server", True)
        assert (results.judges["correct"].kappa_lower or 0) >= 0.6
        figures = results.principles["correct"]
        assert (figures.judge, figures.base.rate, figures.trained and figures.trained.rate) == ("server", 0.0, 1.0)
        assert results.run is not None
        assert results.run.judge is not None
        judge = results.run.judge
        assert (judge.model, judge.precision, judge.checked) == ("judge", "bf16", "declared, not checked")
        assert 0 < judge.requests <= asked
        assert run(bench, served, only_a_model_can_tell, "evaluate") == [False]
        assert len(served.bodies) == asked

    page = build_report(bench.workspace).read_text(encoding="utf-8")
    assert "another model&#39;s yes or no, at an address" in page
    assert "judge (declared, not checked)" in page

    forged = json.loads(path.read_text())
    forged["judges"]["correct"]["kappa_lower"] = None
    path.write_text(json.dumps(forged))
    with pytest.raises(UntrustedResultError, match=r"judges\.correct"):
        judge_run(path, bench.workspace, bench.context().config, enforced=True)


def test_a_measurement_that_is_made_again_asks_the_judge_anew(bench: Workbench, only_a_model_can_tell: Path) -> None:
    with serving(Person(), models=JUDGE) as served:
        run(bench, served, only_a_model_can_tell, "prepare", "baseline")
        asked = len(served.bodies)
        bench.workspace.baseline.unlink()
        assert run(bench, served, only_a_model_can_tell, "baseline") == [True]
        assert len(served.bodies) == 2 * asked
        bench.workspace.baseline.unlink()
        bench.workspace.marker("baseline").unlink()
        assert run(bench, served, only_a_model_can_tell, "baseline") == [True]
        assert len(served.bodies) == 2 * asked, "one that was killed is gone on with"


def test_a_judge_that_disagrees_with_people_decides_nothing(bench: Workbench, only_a_model_can_tell: Path) -> None:
    with serving(Person(contrary=True), models=JUDGE) as served:
        run(bench, served, only_a_model_can_tell)
    results = read_principle_results(results_file(bench.workspace))
    assert results.judges["correct"].trusted is False
    assert results.principles["correct"].judge == "not_judged"
    judged = judge_run(results_file(bench.workspace), bench.workspace, bench.context().config, enforced=True)
    assert (judged.verdict, judged.exit_code) == ("not_judged", 0)
