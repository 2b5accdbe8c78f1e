"""Baseline: the raw base on the held-out prompts, and the best prompting of it, chosen on dev."""

from collections.abc import Sequence
from pathlib import Path

from cai_bootstrap.files import fingerprint
from cai_bootstrap.measuring.conditions import FIRST_LINE_RULE
from cai_bootstrap.measuring.declared import Factors
from cai_bootstrap.measuring.principles.declared import ConstitutionRun, PromptedRival
from cai_bootstrap.measuring.principles.results import Asked, build_principle_results, write_principle_results
from cai_bootstrap.measuring.principles.rivals import Prompting, best_prompting
from cai_bootstrap.measuring.results import Measured
from cai_bootstrap.records import Prompt
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.constitution.inputs import read_inputs
from cai_bootstrap.steps.constitution.judging import Jury, obeys
from cai_bootstrap.steps.constitution.measurement import PrincipleMeasurement, measurement_identity
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.servers import asked_of, judging_server


def identity(context: StepContext) -> str:
    """Everything that may change what the base is measured at, prompted or not."""
    inputs = read_inputs(context.config)
    dev = [prompt.id for prompt in inputs.dev(context.config)]
    return fingerprint([measurement_identity(context), dev, context.config.generation.critique_tokens])


def run(context: StepContext, expected: str) -> dict[str, Path]:
    """Ask the base plainly, then in the way of prompting that serves it best on dev; writes a results file."""
    config = context.config
    inputs = read_inputs(config)
    judge = judging_server(context)  # before anything is loaded
    measurement = PrincipleMeasurement(context, "baseline", expected)
    guard = measurement.opened.inspect()
    if (notice := guard.warning(config.model) or guard.note(config.model)) and not config.allow_instruct:
        context.progress.say(notice)
    dev, held_out = inputs.dev(config), measurement.held_out.items
    ways = Prompting(
        measurement.asker(), inputs.constitution.principles, config.seed, config.generation.critique_tokens
    )
    asked_by_way = (len(dev) * len(ways.ways()) + ways.completions(len(held_out))) if dev else 0
    context.progress.begin(len(held_out) + asked_by_way)
    measurement.open_test("baseline")
    asked = Asked(base=measurement.base())
    if dev:
        asked = _with_rival(asked, measurement, ways, dev)
    answers = {arm: dict(measured.outputs) for arm, measured in asked.present().items()}
    results = build_principle_results(
        constitution=inputs.constitution,
        prompts=held_out,
        conditions=measurement.conditions,
        asked=asked,
        judges=Jury(measurement, inputs.constitution, server=judge).judges(answers),
        run=ConstitutionRun(fingerprint=expected, ledger_opening=measurement.opening, judge=asked_of(judge)),
        threshold=config.steering.threshold,
    )
    path = context.workspace.baseline
    write_principle_results(path, results)
    measurement.remove_partial()
    return {"baseline": path}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the results lie where this run would write them."""
    return before.path("baseline").parent == context.workspace.results


def _with_rival(asked: Asked, measurement: PrincipleMeasurement, ways: Prompting, dev: Sequence[Prompt]) -> Asked:
    best = best_prompting(ways, dev, measurement.held_out.items, obeys=obeys)
    factors = Factors(model=measurement.engine.info.model, adapter=None, rendering=best.name, stop_rule=FIRST_LINE_RULE)
    rates = {name: None if rate is None else round(rate, 6) for name, rate in best.dev_rates.items()}
    return Asked(
        base=asked.base,
        rival=Measured(best.outputs, factors),
        prompting=PromptedRival(name=best.name, dev_rates=rates),
    )
