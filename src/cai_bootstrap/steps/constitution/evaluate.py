"""Evaluate: base, best prompting, trained model and control on the same held-out prompts, under the same conditions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import fingerprint, sha256_file
from cai_bootstrap.measuring.conditions import Conditions, differences
from cai_bootstrap.measuring.declared import RunAdapter
from cai_bootstrap.measuring.principles.beside_block import Beside, Following
from cai_bootstrap.measuring.principles.declared import Constituted, ConstitutionRun, PrincipleResults
from cai_bootstrap.measuring.principles.figures import Arm
from cai_bootstrap.measuring.principles.results import (
    Asked,
    build_principle_results,
    read_principle_results,
    write_principle_results,
)
from cai_bootstrap.measuring.results import Measured, Output
from cai_bootstrap.run.counts import SteeringSummary, read_counts
from cai_bootstrap.run.markers import Outputs, check_outputs
from cai_bootstrap.steps.constitution.beside import following, measure_beside, stage1_followed
from cai_bootstrap.steps.constitution.identities import own_checkpoint
from cai_bootstrap.steps.constitution.inputs import Inputs, read_inputs, start_checkpoint
from cai_bootstrap.steps.constitution.judging import Jury
from cai_bootstrap.steps.constitution.measurement import PrincipleMeasurement, measurement_identity
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.servers import asked_of, judging_server
from cai_bootstrap.training.checkpoints import Checkpoint, read_success


def identity(context: StepContext) -> str:
    """The adapters, the conditions, the baseline that two arms may come from, and what is measured beside."""
    baseline, control = context.workspace.baseline, _control(context)
    return fingerprint(
        [measurement_identity(context), _checkpoint(context).sha256, None if control is None else control.sha256,
         context.config.evaluation.enforce_gate, context.config.steering.beside,
         sha256_file(baseline) if baseline.exists() else None]
    )  # fmt: skip


def run(context: StepContext, expected: str) -> dict[str, Path]:
    """Ask every arm that is not measured yet, judge all answers, and write a results file."""
    config = context.config
    inputs = read_inputs(config)
    checkpoint, control = _checkpoint(context), _control(context)
    judge = judging_server(context)  # before anything is loaded
    measurement = PrincipleMeasurement(context, "evaluate", expected, checkpoint)
    baseline = _baseline(context, measurement.conditions)
    asked_again = 2 if baseline is None else 1
    context.progress.begin(len(measurement.held_out.items) * (asked_again + (control is not None)))
    measurement.open_test("evaluation")
    asked = _taken_over(baseline) or Asked(base=measurement.base())
    asked = replace(asked, trained=measurement.trained("trained"))
    beside = measure_beside(measurement, inputs, asked) if config.steering.beside else Beside()
    if config.steering.beside and (start := start_checkpoint(config, context.prepared())) is not None:
        beside = beside.model_copy(update={"stage1": _stage1(context, measurement, start, expected)})
    if control is not None:
        asked = _with_control(asked, context, inputs, control, expected)
    answers: dict[Arm, dict[str, Output]] = {arm: dict(m.outputs) for arm, m in asked.present().items()}
    summary = read_counts(context.data.summary, SteeringSummary) if context.data.summary.exists() else SteeringSummary()
    results = build_principle_results(
        constitution=inputs.constitution,
        prompts=measurement.held_out.items,
        conditions=measurement.conditions,
        asked=asked,
        judges=Jury(measurement, inputs.constitution, frozenset(summary.rule_selected), judge).judges(answers),
        beside=beside,
        run=ConstitutionRun(
            fingerprint=expected,
            ledger_opening=measurement.opening,
            adapter=RunAdapter(sha256=checkpoint.sha256, finished_at=checkpoint.finished_at),
            control_adapter=None if control is None else _named(control),
            start_adapter=checkpoint.marker.started_from,
            pairs=checkpoint.marker.pairs,
            pairs_by_principle={id: counts.pairs for id, counts in summary.by_principle.items()},
            generated_by=summary.served_by,
            judge=asked_of(judge),
        ),
        threshold=config.steering.threshold,
        enforced=config.evaluation.enforce_gate,
    )
    path = context.workspace.evaluation(utc_now())
    write_principle_results(path, results)
    measurement.remove_partial()
    return {"results": path}


def is_here(before: Outputs, context: StepContext) -> bool:
    """Whether the results lie where this run would write them."""
    return before.path("results").parent == context.workspace.results


def _checkpoint(context: StepContext) -> Checkpoint:
    """The adapter to measure: the one that was named, else this run's own. Raises UntrustedResultError if it is of
    another base."""
    named = context.config.adapter
    checkpoint = own_checkpoint(context, context.data) if named is None else read_success(Path(named))
    if checkpoint.marker.base_weights_sha256 != context.prepared().weights_sha256:
        raise UntrustedResultError(f"{checkpoint.path}: this adapter was trained on other base weights than --model's")
    return checkpoint


def _control(context: StepContext) -> Checkpoint | None:
    """The control's adapter; None if there is to be none, or an adapter from elsewhere is measured."""
    if read_inputs(context.config).control is None or context.config.adapter is not None:
        return None
    return own_checkpoint(context, context.workspace.control_data)


def _named(checkpoint: Checkpoint) -> RunAdapter:
    return RunAdapter(sha256=checkpoint.sha256, finished_at=checkpoint.finished_at)


def _stage1(context: StepContext, measurement: PrincipleMeasurement, start: Checkpoint, expected: str) -> Following:
    """What Stage 1's adapter followed, and what is left of it."""
    after = stage1_followed(measurement)
    earlier = PrincipleMeasurement(context, "evaluate-stage1", expected, start)
    before = stage1_followed(earlier)
    earlier.close()
    earlier.remove_partial()
    return following(measurement, before, after)


def _with_control(asked: Asked, context: StepContext, inputs: Inputs, control: Checkpoint, expected: str) -> Asked:
    """The control's answers to the same prompts: the same base, with the control's adapter."""
    assert inputs.control is not None
    measurement = PrincipleMeasurement(context, "evaluate", expected, control)
    measured = measurement.trained("control")
    measurement.close()
    constituted = Constituted(name=inputs.control.name, sha256=inputs.control.sha256)
    return replace(asked, control=measured, control_constitution=constituted)


def _baseline(context: StepContext, conditions: Conditions) -> PrincipleResults | None:
    """The baseline, if it was measured under exactly these conditions; else None, and why is said."""
    path = context.workspace.baseline
    if not path.exists():
        return None
    try:
        check_outputs(context.workspace, "baseline", "it is not used")
        baseline = read_principle_results(path, read_inputs(context.config).constitution)
    except UntrustedResultError as error:
        context.progress.say(f"the base is measured again: {error}")
        return None
    if unequal := differences(baseline.conditions, conditions):
        names = ", ".join(difference.field for difference in unequal)
        context.progress.say(f"the base is measured again: the baseline's conditions differ in {names}")
        return None
    return baseline


def _taken_over(baseline: PrincipleResults | None) -> Asked | None:
    """The arms of the baseline: the raw base, and the best prompting if it was looked for."""
    if baseline is None:
        return None
    rival = baseline.arms.rival
    return Asked(
        base=Measured(_outputs(baseline, "base"), baseline.arms.base.factors),
        rival=None if rival is None else Measured(_outputs(baseline, "rival"), rival.factors),
        prompting=baseline.rival,
    )


def _outputs(results: PrincipleResults, arm: Arm) -> Mapping[str, Output]:
    answers = {item.id: item.answers()[arm] for item in results.items}
    return {id: Output(answer.response, answer.finished) for id, answer in answers.items()}
