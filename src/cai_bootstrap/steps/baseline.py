"""Baseline: the untrained base on the held-out suite, as it is and at its best when prompted."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai_bootstrap.files import fingerprint
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import NAMED_SUITES, load_suite
from cai_bootstrap.measuring import assess as assessing
from cai_bootstrap.measuring.conditions import FIRST_LINE_RULE
from cai_bootstrap.measuring.declared import Factors, Run
from cai_bootstrap.measuring.elicit import GRID, Elicitation, elicit, rival_block, run_rendering
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.measuring.results import SCHEMA_VERSION, Measured, build_results, write_results
from cai_bootstrap.steps.context import StepContext


def identity(context: StepContext) -> str:
    """Everything that may change the baseline."""
    config = context.config
    measured = config.evaluation.model_dump(mode="json", exclude={"enforce_gate", "train_anyway"})
    dev = [item.id for item in context.dev_items]
    if config.evaluation.dev_suite not in NAMED_SUITES:
        dev.append(load_suite(config.evaluation.dev_suite).sha256)  # a user's file may change under the same ids
    return fingerprint(
        [context.model_key(), measured, config.evaluation_precision, config.engine, config.seed,
         context.suite.sha256, dev, SCORER_VERSION, SCHEMA_VERSION, config.allow_instruct, *context.path_key()]
    )  # fmt: skip


def run(context: StepContext, expected: str) -> list[Path]:
    """Measure the untrained base: as a base model is, plainly asked; and the best that prompting gets out of it."""
    config, suite, settings = context.config, context.suite, context.config.evaluation
    opened = context.open_for_evaluation()
    engine = opened.engine
    guard = opened.inspect()
    if (notice := guard.warning(config.model) or guard.note(config.model)) and not config.allow_instruct:
        context.progress.say(notice)
    conditions = assessing.conditions_of(engine.info, suite, max_new_tokens=settings.max_new_tokens)
    partial = assessing.partial_folder(context.workspace.results, "baseline", expected, conditions)
    dev = context.dev_items[: settings.elicit_items or None] if settings.elicit else []
    context.progress.begin(len(suite.items) * (2 if dev else 1) + len(dev) * len(GRID))
    opening = open_test(suite, "baseline", model=config.model, run=context.run)
    base = assessing.assess(
        engine, suite.items, [f"{item.instruction}\n" for item in suite.items], partial / "base.jsonl",
        sampling=Sampling(settings.max_new_tokens, pinned=True), progress=context.progress, stopping=context.stopping,
    )  # fmt: skip
    found: Elicitation | None = None
    rival: Measured | None = None
    if dev:
        how: dict[str, Any] = {
            "max_new_tokens": settings.max_new_tokens,
            "seed": config.seed,
            "progress": context.progress,
            "stopping": context.stopping,
        }
        found = elicit(engine, dev, partial, **how)
        factors = Factors(model=engine.info.model, adapter=None, rendering=found.best.name, stop_rule=FIRST_LINE_RULE)
        outputs = run_rendering(engine, found.best, suite.items, partial / "rival.jsonl", **how)
        rival = Measured(outputs, factors)
    results = build_results(
        suite=suite,
        conditions=conditions,
        base=Measured(base, assessing.plain_factors(engine.info.model, None)),
        trained=None,
        rival=rival,
        prompting=None if found is None else rival_block(found),
        run=Run(
            fingerprint=expected,
            ledger_opening=opening,
            base_model_check={**asdict(guard), "looks_tuned": guard.looks_tuned},
            gap=None if found is None else {"nothing_to_teach": found.nothing_to_teach},
        ),
        enforced=settings.enforce_gate,
    )
    path = context.workspace.results / "baseline_assessment.json"
    write_results(path, results)
    assessing.remove_partial(context.workspace.results, "baseline")
    return [path]
