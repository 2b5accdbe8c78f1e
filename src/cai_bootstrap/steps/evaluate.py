"""Evaluate: base and trained model on the same items, under the same recorded conditions."""

from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import fingerprint, sha256_file
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.measuring import assess as assessing
from cai_bootstrap.measuring.conditions import Conditions, differences
from cai_bootstrap.measuring.declared import Results, Reuse, Run, RunAdapter
from cai_bootstrap.measuring.ledger import open_test
from cai_bootstrap.measuring.results import Measured, build_results, read_results, write_results
from cai_bootstrap.run.markers import BASELINE, check_outputs
from cai_bootstrap.steps import baseline as baseline_step
from cai_bootstrap.steps import generate, train
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.training.checkpoints import Checkpoint, read_success


def _checkpoint(context: StepContext) -> Checkpoint:
    """The adapter to evaluate: the one that was named, else this run's newest finished one."""
    if context.config.adapter is not None:
        found = read_success(Path(context.config.adapter))
    else:
        found = train.checkpoint_of(context)
    if context.suite.sha256 not in (found.details.get("leakage_checked") or []):
        raise UntrustedResultError(
            f"{found.path}: its training data were not checked against the suite '{context.suite.name}'; train again "
            "with this suite configured, so that leaks are dropped first"
        )
    if found.details.get("base_weights_sha256") != context.prepared().weights_sha256:
        raise UntrustedResultError(f"{found.path}: this adapter was trained on other base weights than --model's")
    return found


def identity(context: StepContext) -> str:
    """The adapter, the conditions, and the baseline that the base side may come from."""
    baseline = context.workspace.results / BASELINE
    return fingerprint(
        [baseline_step.identity(context), _checkpoint(context).sha256, context.config.evaluation.enforce_gate,
         sha256_file(baseline) if baseline.exists() else None]
    )  # fmt: skip


def run(context: StepContext, expected: str) -> list[Path]:
    """Base and trained model on the same items under the same conditions; writes a results file."""
    config, suite, settings = context.config, context.suite, context.config.evaluation
    checkpoint = _checkpoint(context)
    opened = context.open_for_evaluation(checkpoint.path)
    conditions = assessing.conditions_of(opened.engine.info, suite, max_new_tokens=settings.max_new_tokens)
    partial = assessing.partial_folder(context.workspace.results, "evaluate", expected, conditions)
    baseline = _baseline(context, conditions)
    context.progress.begin(len(suite.items) * (1 if baseline else 2))
    opening = open_test(suite, "evaluation", model=config.model, adapter=checkpoint.sha256, run=context.run)
    prompts = [f"{item.instruction}\n" for item in suite.items]
    how: dict[str, Any] = {
        "sampling": Sampling(settings.max_new_tokens, pinned=True),
        "progress": context.progress,
        "stopping": context.stopping,
    }
    trained = assessing.assess(opened.engine, suite.items, prompts, partial / "trained.jsonl", **how)
    base = None if baseline is None else assessing.measured_side(baseline, "base")
    if base is None:
        with opened.engine.without_adapter():
            outputs = assessing.assess(opened.engine, suite.items, prompts, partial / "base.jsonl", **how)
        base = Measured(outputs, assessing.plain_factors(opened.engine.info.model, None))
    results = build_results(
        suite=suite,
        conditions=conditions,
        base=base,
        trained=Measured(trained, assessing.plain_factors(opened.engine.info.model, checkpoint.sha256)),
        rival=None if baseline is None else assessing.measured_side(baseline, "rival"),
        prompting=None if baseline is None else baseline.rival,
        run=Run(
            fingerprint=expected,
            ledger_opening=opening,
            adapter=RunAdapter(sha256=checkpoint.sha256, finished_at=checkpoint.finished_at),
            labels=checkpoint.details.get("labels", {}),
            pairs=checkpoint.details.get("pairs"),
            reuse=Reuse(**generate.check_all_data(context)) if config.adapter is None else None,
            base_from_baseline=baseline is not None,
        ),
        enforced=settings.enforce_gate,
    )
    path = context.workspace.results / f"stage1_evaluation_{utc_now().replace('-', '').replace(':', '')}.json"
    write_results(path, results)
    assessing.remove_partial(context.workspace.results, "evaluate")
    return [path]


def _baseline(context: StepContext, conditions: Conditions) -> Results | None:
    """The baseline, if it was measured under exactly these conditions; else None."""
    path = context.workspace.results / BASELINE
    if not path.exists():
        return None
    suite = None if context.config.evaluation.suite == context.suite.name else context.suite
    try:
        check_outputs(context.workspace, "baseline", "it is not used")
        baseline = read_results(path, suite)
    except UntrustedResultError as error:
        context.progress.say(f"the base is measured again: {error}")
        return None
    if unequal := differences(baseline.conditions, conditions):
        names = ", ".join(difference.field for difference in unequal)
        context.progress.say(f"the base is measured again: the baseline's conditions differ in {names}")
        return None
    return baseline
