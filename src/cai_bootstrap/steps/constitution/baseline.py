"""Baseline: the raw base on the held-out prompts, and the best prompting of it, chosen on dev."""

from pathlib import Path

from cai_bootstrap.files import fingerprint
from cai_bootstrap.measuring.principles.baseline import obeys, write_baseline
from cai_bootstrap.measuring.principles.rivals import Prompting, RivalArm, best_prompting
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.constitution.inputs import read_inputs
from cai_bootstrap.steps.constitution.measurement import PrincipleMeasurement, measurement_identity
from cai_bootstrap.steps.context import StepContext


def identity(context: StepContext) -> str:
    """Everything that may change what the base is measured at, prompted or not."""
    inputs = read_inputs(context.config)
    dev = [prompt.id for prompt in inputs.dev(context.config)]
    return fingerprint([measurement_identity(context), dev, context.config.generation.critique_tokens])


def run(context: StepContext, expected: str) -> dict[str, Path]:
    """Ask the base plainly, then in the way of prompting that serves it best on dev."""
    config = context.config
    inputs = read_inputs(config)
    measurement = PrincipleMeasurement(context, "baseline", expected)
    guard = measurement.opened.inspect()
    if (notice := guard.warning(config.model) or guard.note(config.model)) and not config.allow_instruct:
        context.progress.say(notice)
    dev = inputs.dev(config)
    held_out = measurement.held_out.items
    ways = Prompting(measurement.asker, inputs.constitution.principles, config.seed, config.generation.critique_tokens)
    context.progress.begin(len(held_out) + (ways.completions(len(dev) + len(held_out)) if dev else 0))
    measurement.open_test("baseline")
    base = measurement.answers("base")
    rival: RivalArm | None = best_prompting(ways, dev, held_out, obeys=obeys) if dev else None
    path = context.workspace.baseline
    write_baseline(
        path,
        expected=expected,
        conditions=measurement.conditions,
        constitution=inputs.constitution,
        prompts=held_out,
        base=base,
        rival=rival,
        threshold=config.steering.threshold,
        opening=measurement.opening,
    )
    measurement.remove_partial()
    return {"baseline": path}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the results lie where this run would write them."""
    return before.path("baseline").parent == context.workspace.results
