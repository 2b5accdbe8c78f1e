"""Elicit: how far prompting alone brings the untrained base on dev, and which facts it can be brought to tell."""

from typing import Any

from cai_bootstrap.files import fingerprint, write_json
from cai_bootstrap.generation.prompts import PROMPT_VERSION
from cai_bootstrap.judging.suite import DEV_SUITE, WHOLE_SUITE, load_suite
from cai_bootstrap.measuring import assess as assessing
from cai_bootstrap.measuring import facts
from cai_bootstrap.measuring.elicit import GRID, Elicitation, elicit
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.steps.context import StepContext


def run(context: StepContext) -> dict[str, Any]:
    """Run the grid on the dev items and write `results/elicitation.json`; resumed per batch, returns its content."""
    config, settings = context.config, context.config.evaluation
    dev = load_suite(settings.dev_suite)
    items = dev.items[: settings.elicit_items or None]
    opened = context.open_for_evaluation()
    conditions = assessing.conditions_of(opened.engine.info, dev, max_new_tokens=settings.max_new_tokens)
    key = fingerprint([len(items), config.seed, PROMPT_VERSION])
    partial = assessing.partial_folder(context.workspace, "elicit", key, conditions)
    context.progress.begin(len(items) * len(GRID))
    found: Elicitation = elicit(
        opened.engine,
        items,
        partial,
        max_new_tokens=settings.max_new_tokens,
        seed=config.seed,
        progress=context.progress,
        stopping=context.stopping,
    )
    report = {
        "model": config.model,
        "suite": {"name": dev.name, "sha256": dev.sha256, "n": len(items)},
        "rates": found.rates,
        "best": found.best.name,
        "nothing_to_teach": found.nothing_to_teach,
    }
    write_json(context.workspace.elicitation, report)
    assessing.remove_partial(context.workspace, "elicit")
    return report


def make_flags(context: StepContext) -> dict[str, Any]:
    """Ask the untrained base the facts of the shipped suite, dev and test, and write `results/elicitable.json`.

    The opening of the test items is written into the ledger first.
    """
    test, dev = load_suite(WHOLE_SUITE), load_suite(DEV_SUITE)
    opened = context.open_for_evaluation()
    open_test(test, "elicitable flags", model=context.config.model, adapter=None, run=context.run)
    found = facts.make_flags(opened.engine, [*test.items, *dev.items])
    write_json(context.workspace.elicitable, found)
    return found
