"""What the measurements that train nothing give, on a stub engine whose answers are known."""

from pathlib import Path
from typing import Any

import pytest
from stubs import Stage, StubEngine, config_of

from cai_bootstrap.ablation import measures
from cai_bootstrap.ablation import revision as study
from cai_bootstrap.ablation.outcome import Outcome
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.inference.open import OpenedModel
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


def test_revision_pairs_fixes_and_breaks_and_keeps_to_the_tokens_of_the_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def answer(prompt: str, _: Sampling) -> Completion:
        seen.append(prompt)
        if prompt.endswith("Critique:"):
            return Completion(" It is wrong.", "stop", 20)
        return Completion(" right" if prompt.endswith("Better answer:") else " wrong", "stop", 10)

    stage = stage_of(tmp_path, monkeypatch, answer)
    monkeypatch.setattr(study, "open_model", lambda *_, **__: OpenedModel(StubEngine(answer), False))
    monkeypatch.setattr(study, "passes", lambda _, text: text == "right")
    context = stage.context(config_of())
    outcome = Outcome("c", "done")
    study.revision(context, outcome, {"instructions": 10, "resamples": 5}, tmp_path / "partial")
    rates = {row.row: (row.successes, row.total) for row in outcome.rows()}
    assert rates["first answer"] == (0, 10)
    assert rates["revised, assigned principle"] == rates["fixed: revised, no principle"] == (10, 10)
    assert rates["fixed: resampled, equal tokens"] == (0, 10)
    assert not any(name.startswith("broken") for name in rates)
    assert outcome.figures["tokens"] == {"assigned": 300, "shuffled": 300, "none": 300, "resampled": 300}
    assert outcome.figures["resamples_used"] == 3
    assert outcome.figures["same_text_as_assigned"] == {"shuffled": 1.0, "none": 1.0}
    edits = [prompt for prompt in seen if prompt.endswith(("Critique:", "Better answer:"))]
    assert sum("Principle:" not in prompt for prompt in edits) == 20
    count = len(seen)
    study.revision(context, Outcome("c", "done"), {"instructions": 10, "resamples": 5}, tmp_path / "partial")
    assert len(seen) == count  # everything was read back


def test_a_shuffled_principle_is_never_the_assigned_one() -> None:
    constitution = load_constitution(config_of().constitution)
    assigned = constitution.assign(50, seed=3)
    other = study.shuffled(assigned, constitution.principles, 3)
    assert all(a.id != b.id for a, b in zip(assigned, other, strict=True))
    assert other == study.shuffled(assigned, constitution.principles, 3)
