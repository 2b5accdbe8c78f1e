"""What the measurements that train nothing give, on a stub engine whose answers are known."""

from pathlib import Path
from typing import Any

import pytest
from stubs import Stage, StubEngine, config_of

from cai_bootstrap.ablation import measures
from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.run.folder import RunFolder


def five_words(prompt: str, sampling: Sampling) -> Completion:
    """Right only when shown examples: then a short answer that stops; else a line that runs on."""
    shown = prompt.count("Response:") > 1 or prompt.count("\nA:") > 1
    text = f" sun {len(prompt) % 7} bird" if shown else "one two three four five six\nseven"
    return Completion(text, "stop" if shown and sampling.stop else "length", 8)


def stage_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any) -> Stage:
    return Stage(RunFolder.at(tmp_path), lambda: StubEngine(answer)).install(monkeypatch)


def test_prompting_rates_every_rendering_and_votes_over_the_best_few_shot_one(
    tmp_path: Path, tiny_suites: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_of(tmp_path, monkeypatch, five_words)
    context = stage.context(config_of(evaluation__suite=str(tiny_suites[1]), evaluation__dev_suite=str(tiny_suites[1])))
    outcome = Outcome("p", "done")
    measures.prompting(context, outcome, {"draws": 3}, tmp_path / "partial")
    rates = {row.row: row.rate for row in outcome.rows()}
    assert rates["plain"] == 0.0
    assert rates["same-skill-6-shot"] == rates["vote of 3"] == rates["any of 3 (oracle)"] == rates["best"] == 1.0
    assert outcome.figures["voted"] in {"mixed-6-shot", "same-skill-4-shot", "same-skill-6-shot"}
