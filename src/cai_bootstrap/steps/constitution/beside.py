"""What is measured beside the principles: content kept, perplexity, other ways to ask, Stage 1 before and after."""

from dataclasses import asdict
from typing import Any

from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.measuring.principles.beside import (
    ask_known_answers,
    ask_opposite,
    content_kept,
    neutral_perplexity,
    openings,
)
from cai_bootstrap.measuring.principles.results import Asked
from cai_bootstrap.records import Prompt
from cai_bootstrap.steps.constitution.inputs import Inputs
from cai_bootstrap.steps.constitution.judging import obeys
from cai_bootstrap.steps.constitution.measurement import PrincipleMeasurement, partial_file

OPPOSITE_PROMPTS = 40


def measure_beside(measurement: PrincipleMeasurement, inputs: Inputs, asked: Asked) -> dict[str, Any]:
    """All blocks of the results file's `beside`, by name. The engine has the trained adapter on."""
    assert asked.trained is not None
    context, asker = measurement.context, measurement.asker()
    trained = ask_known_answers(asker, "trained")
    with measurement.untrained():
        base = ask_known_answers(asker, "base")
    general = [p for p in measurement.held_out.items if p.split == "test" and not p.principle]
    blocks: dict[str, Any] = {
        "content": asdict(content_kept(base, trained)),
        "perplexity": _perplexity(measurement),
        "openings": {arm: [asdict(o) for o in openings(m.outputs)] for arm, m in asked.present().items()},
        "without_line_break": _bare(measurement, inputs),
    }
    principles = [p for p in inputs.constitution.principles if p.matched is None and (p.judge or p.check)]
    if principles and general:
        rates = ask_opposite(asker, "trained", principles, general[:OPPOSITE_PROMPTS], obeys=obeys)
        blocks["opposite"] = {name: asdict(rate) for name, rate in rates.items()}
    context.progress.say("measured beside: content, perplexity, openings, other ways to ask")
    return blocks


def _perplexity(measurement: PrincipleMeasurement) -> dict[str, float]:
    context = measurement.context
    figures: dict[str, float] = {}
    for arm in ("trained", "base"):
        path = partial_file(measurement.folder, f"perplexity-{arm}")
        if arm == "trained":
            figures[arm] = neutral_perplexity(
                measurement.engine, path, progress=context.progress, stopping=context.stopping
            )
        else:
            with measurement.untrained():
                figures[arm] = neutral_perplexity(
                    measurement.engine, path, progress=context.progress, stopping=context.stopping
                )
    return {arm: round(value, 4) for arm, value in figures.items()}


def _bare(measurement: PrincipleMeasurement, inputs: Inputs) -> dict[str, Any]:
    """The first-line rate of each principle that a rule decides, where the prompt ends without a line break."""
    answers = measurement.answers("trained", line_break=False)
    rates: dict[str, Any] = {}
    for principle in inputs.constitution.principles:
        verdicts = [_kept(principle, p, answers[p.id].text) for p in measurement.held_out.items if p.split == "test"]
        judged = [verdict for verdict in verdicts if verdict is not None]
        if judged:
            rates[principle.id] = {"rate": round(sum(judged) / len(judged), 6), "total": len(judged)}
    return rates


def _kept(principle: Any, prompt: Prompt, text: str) -> bool | None:
    return obeys(principle, prompt, first_line(text))
