"""Baseline: the untrained base on the held-out suite, as it is and at its best when prompted."""

from dataclasses import asdict
from pathlib import Path

from cai_bootstrap.measuring.declared import Gap, Run
from cai_bootstrap.measuring.elicit import GRID, rival_block
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.measurement import Measurement, measurement_identity

identity = measurement_identity


def run(context: StepContext, expected: str) -> dict[str, Path]:
    """Measure the untrained base: as a base model is, plainly asked; and the best that prompting gets out of it."""
    config, settings = context.config, context.config.evaluation
    measurement = Measurement(context, "baseline", expected)
    guard = measurement.opened.inspect()
    if (notice := guard.warning(config.model) or guard.note(config.model)) and not config.allow_instruct:
        context.progress.say(notice)
    dev = context.dev_items[: settings.elicit_items or None] if settings.elicit else []
    context.progress.begin(len(context.suite.items) * (2 if dev else 1) + len(dev) * len(GRID))
    measurement.open_test("baseline")
    base = measurement.base()
    elicitation, rival = measurement.elicited(dev) if dev else (None, None)
    path = context.workspace.baseline
    measurement.write(
        path,
        base=base,
        rival=rival,
        prompting=None if elicitation is None else rival_block(elicitation),
        run=Run(
            base_model_check={**asdict(guard), "looks_tuned": guard.looks_tuned},
            gap=None if elicitation is None else Gap(nothing_to_teach=elicitation.nothing_to_teach),
        ),
    )
    return {"baseline": path}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the results lie where this run would write them."""
    return before.path("baseline").parent == context.workspace.results
