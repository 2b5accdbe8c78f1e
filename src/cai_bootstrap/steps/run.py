"""Do a step, or skip it when it was finished before with the same fingerprint and its outputs are unchanged."""

from pathlib import Path
from typing import Protocol

from cai_bootstrap.config import Step
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.run.folder import CONSTITUTION, INSTRUCTIONS
from cai_bootstrap.run.markers import DATA_REMEDY, Outputs, read_outputs, write_marker
from cai_bootstrap.steps import baseline, evaluate, generate, prepare, train
from cai_bootstrap.steps.constitution import baseline as principle_baseline
from cai_bootstrap.steps.constitution import evaluate as principle_evaluate
from cai_bootstrap.steps.constitution import generate as principle_generate
from cai_bootstrap.steps.constitution import train as principle_train
from cai_bootstrap.steps.constitution.identities import check_data as check_principle_data
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import check_data, imported_identity
from cai_bootstrap.steps.inputs import ADAPTER_REMEDY, check_inputs
from cai_bootstrap.steps.servers import forget_judge

# What is not made again unasked when it was changed: it costs hours, and somebody may have changed it on purpose.
REMEDIES: dict[Step, str] = {"generate": DATA_REMEDY, "train": ADAPTER_REMEDY}


class StepModule(Protocol):
    """What a module of a step gives."""

    def identity(self, context: StepContext) -> str:
        """The fingerprint of everything that decides the outputs."""
        ...

    def run(self, context: StepContext, expected: str) -> dict[str, Path]:
        """Do the step, whose fingerprint is `expected`; returns its outputs by name."""
        ...

    def is_here(self, before: Outputs, context: StepContext) -> bool:
        """Whether what the step wrote before serves this run as well."""
        ...


_INSTRUCTIONS: dict[Step, StepModule] = {
    "prepare": prepare,
    "baseline": baseline,
    "generate": generate,
    "train": train,
    "evaluate": evaluate,
}
_CONSTITUTION: dict[Step, StepModule] = {
    "prepare": prepare,
    "baseline": principle_baseline,
    "generate": principle_generate,
    "train": principle_train,
    "evaluate": principle_evaluate,
}
_STEPS: dict[str, dict[Step, StepModule]] = {INSTRUCTIONS.name: _INSTRUCTIONS, CONSTITUTION.name: _CONSTITUTION}


def run_step(name: Step, context: StepContext) -> bool:
    """Do a step, or skip it. Returns False when it was skipped because it was finished before.

    Raises UntrustedResultError if what it reads, or data and adapters that it wrote, were changed since.
    """
    step = _module(name, context)
    _check_data(name, context)
    check_inputs(name, context)
    before = _own_outputs(name, context)
    forced = name == "generate" and context.config.force_data
    if before is not None and not forced:
        _check_own(name, before, context)
    expected = step.identity(context)
    if (
        before is not None
        and not forced
        and before.fingerprint == expected
        and not before.changed()
        and not before.missing()
        and step.is_here(before, context)
    ):
        return False
    marker = context.workspace.marker(name, context.round)
    if marker.exists() and name in {"baseline", "evaluate"}:  # no marker: a measurement that was killed is gone on with
        forget_judge(context.config, context.workspace.round_data(1))
    marker.unlink(missing_ok=True)
    outputs = step.run(context, expected)
    write_marker(context.workspace, name, context.round, fingerprint=expected, outputs=outputs, before=before)
    return True


def _module(name: Step, context: StepContext) -> StepModule:
    return _STEPS[context.workspace.stage.name][name]


def _own_outputs(name: Step, context: StepContext) -> Outputs | None:
    """What the step wrote before; None, with a notice, if its marker cannot be believed: it is done again."""
    try:
        return read_outputs(context.workspace, name, context.round)
    except UntrustedResultError as error:
        context.progress.say(f"the step is done again: {error}")
        return None


def _check_own(name: Step, before: Outputs, context: StepContext) -> None:
    """Refuse changed data and a changed success marker; what is measured or prepared is made again, with a notice."""
    for path in before.changed():
        if name in REMEDIES and _module(name, context).is_here(before, context):
            raise UntrustedResultError(before.sentence(path, REMEDIES[name]))
        context.progress.say(before.sentence(path, "the step is done again"))


def _check_data(name: Step, context: StepContext) -> None:
    """Refuse data of another identity before they are used, and say it when their number is another one."""
    anew = name == "generate" and context.config.force_data
    foreign = name == "evaluate" and context.config.adapter is not None
    if name not in {"generate", "train", "evaluate"} or anew or foreign:
        return
    if context.workspace.stage is CONSTITUTION:
        check_principle_data(context)
        return
    counts = check_data(context)
    if name == "generate" and imported_identity(context.data) is not None:
        context.progress.say(
            "the pairs of this base directory were imported: nothing is generated (--force-data replaces them)"
        )
    if counts.found != counts.requested:
        context.progress.say(
            f"WARNING: reusing data made from {counts.found} instructions, {counts.requested} were asked for; "
            "--force-data makes them anew"
        )
