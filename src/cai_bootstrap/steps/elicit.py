"""Elicit: how far prompting alone brings the untrained base on dev, and which facts it can be brought to tell."""

from pydantic import BaseModel

from cai_bootstrap.files import fingerprint, write_json
from cai_bootstrap.generation.prompts import PROMPT_VERSION
from cai_bootstrap.judging.suite import DEV_SUITE, WHOLE_SUITE, load_suite
from cai_bootstrap.measuring import assess as assessing
from cai_bootstrap.measuring import facts
from cai_bootstrap.measuring.elicit import GRID, Elicitation, elicit
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.steps.context import StepContext


class ElicitedSuite(BaseModel):
    """The dev suite, and how many of its items were asked."""

    name: str
    sha256: str
    n: int


class Elicited(BaseModel):
    """`results/elicitation.json`: the first-line rate of each rendering on the dev items, and the best one."""

    model: str
    suite: ElicitedSuite
    rates: dict[str, float]
    best: str
    nothing_to_teach: bool


def run(context: StepContext) -> Elicited:
    """Run the grid on the dev items and write `results/elicitation.json`; resumed per batch, returns its content."""
    config, settings = context.config, context.config.evaluation
    dev = load_suite(settings.dev_suite)
    items = dev.items[: settings.elicit_items or None]
    opened = context.open_for_evaluation()
    conditions = assessing.conditions_of(opened.engine.info, dev, max_new_tokens=settings.max_new_tokens)
    key = fingerprint([len(items), config.seed, PROMPT_VERSION])
    partial = assessing.partial_folder(context.workspace, "elicit", key, conditions)
    context.progress.begin(len(items) * len(GRID))
    elicitation: Elicitation = elicit(
        opened.engine,
        items,
        partial,
        max_new_tokens=settings.max_new_tokens,
        seed=config.seed,
        progress=context.progress,
        stopping=context.stopping,
    )
    report = Elicited(
        model=config.model,
        suite=ElicitedSuite(name=dev.name, sha256=dev.sha256, n=len(items)),
        rates=elicitation.rates,
        best=elicitation.best.name,
        nothing_to_teach=elicitation.nothing_to_teach,
    )
    write_json(context.workspace.elicitation, report.model_dump())
    assessing.remove_partial(context.workspace, "elicit")
    return report


def make_flags(context: StepContext) -> facts.Flags:
    """Ask the untrained base the facts of the shipped suite, dev and test, and write `results/elicitable.json`.

    The opening of the test items is written into the ledger first.
    """
    test, dev = load_suite(WHOLE_SUITE), load_suite(DEV_SUITE)
    opened = context.open_for_evaluation()
    open_test(test, "elicitable flags", model=context.config.model, adapter=None, run=context.run)
    flags = facts.make_flags(opened.engine, [*test.items, *dev.items])
    write_json(context.workspace.elicitable, flags.model_dump())
    return flags
