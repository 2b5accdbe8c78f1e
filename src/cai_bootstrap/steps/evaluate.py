"""Evaluate: base and trained model on the same items, under the same recorded conditions."""

from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import fingerprint, sha256_file
from cai_bootstrap.measuring.assess import measured_side
from cai_bootstrap.measuring.conditions import Conditions, differences
from cai_bootstrap.measuring.declared import Results, Run, RunAdapter
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.run.markers import Outputs, check_outputs
from cai_bootstrap.steps.adapter import own_checkpoint
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import check_all_data
from cai_bootstrap.steps.measurement import Measurement, measurement_identity
from cai_bootstrap.steps.servers import generated_by
from cai_bootstrap.training.checkpoints import Checkpoint, read_success


def _checkpoint(context: StepContext) -> Checkpoint:
    """The adapter to evaluate: the one that was named, else this run's newest finished one."""
    named = context.config.adapter
    checkpoint = own_checkpoint(context) if named is None else read_success(Path(named))
    if context.suite.asked_sha256 not in (checkpoint.marker.leakage_checked or []):
        raise UntrustedResultError(
            f"{checkpoint.path}: its training data were not checked against the suite '{context.suite.name}'; train "
            "again with this suite configured, so that leaks are dropped first"
        )
    if checkpoint.marker.base_weights_sha256 != context.prepared().weights_sha256:
        raise UntrustedResultError(f"{checkpoint.path}: this adapter was trained on other base weights than --model's")
    return checkpoint


def identity(context: StepContext) -> str:
    """The adapter, the conditions, the baseline that the base side may come from, and whether it is asked bare too."""
    baseline = context.workspace.baseline
    return fingerprint(
        [measurement_identity(context), _checkpoint(context).sha256, context.config.evaluation.enforce_gate,
         sha256_file(baseline) if baseline.exists() else None, *(["bare"] if context.config.evaluation.bare else [])]
    )  # fmt: skip


def run(context: StepContext, expected: str) -> dict[str, Path]:
    """Base and trained model on the same items under the same conditions; writes a results file.

    With `evaluation.bare` the trained model also answers without the line break after the instruction, a side beside.
    """
    checkpoint = _checkpoint(context)
    measurement = Measurement(context, "evaluate", expected, checkpoint)
    baseline = _baseline(context, measurement.conditions)
    bare = context.config.evaluation.bare
    context.progress.begin(len(context.suite.items) * (1 + (baseline is None) + bare))
    measurement.open_test("evaluation")
    trained = measurement.trained()
    path = context.workspace.evaluation(utc_now())
    measurement.write(
        path,
        base=(None if baseline is None else measured_side(baseline, "base")) or measurement.base(),
        trained=trained,
        trained_bare=measurement.trained_bare() if bare else None,
        rival=None if baseline is None else measured_side(baseline, "rival"),
        prompting=None if baseline is None else baseline.rival,
        run=Run(
            adapter=RunAdapter(sha256=checkpoint.sha256, finished_at=checkpoint.finished_at),
            labels=checkpoint.marker.labels or {},
            pairs=checkpoint.marker.pairs,
            reuse=check_all_data(context) if context.config.adapter is None else None,
            base_from_baseline=baseline is not None,
            generated_by=generated_by(context.workspace.round_data(1)) if context.config.adapter is None else None,
        ),
    )
    return {"results": path}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the results lie where this run would write them."""
    return before.path("results").parent == context.workspace.results


def _baseline(context: StepContext, conditions: Conditions) -> Results | None:
    """The baseline, if it was measured under exactly these conditions; else None."""
    path = context.workspace.baseline
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
