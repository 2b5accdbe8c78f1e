"""Elicit: how far prompting alone brings the untrained base on dev, over the whole grid."""

from typing import Any

from cai_bootstrap.evaluation.elicit import GRID, Elicitation, elicit
from cai_bootstrap.evaluation.suite import load_suite
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.workspace import fingerprint, write_json


def run(context: StepContext) -> dict[str, Any]:
    """Run the grid on the dev items and write `results/elicitation.json`; resumed per batch, returns its content."""
    config, settings = context.config, context.config.evaluation
    dev = load_suite(settings.dev_suite)
    items = dev.items[: settings.elicit_items or None]
    opened = context.open_for_evaluation()
    key = fingerprint([context.model_key(), dev.sha256, len(items), opened.engine.info.precision, config.seed])
    partial = context.workspace.results / "partial" / f"elicit-{key[:12]}"
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
    write_json(context.workspace.results / "elicitation.json", report)
    return report
