"""What a step reads must be what an earlier step wrote: each file's hash against the marker of its step."""

from cai_bootstrap.config import Step
from cai_bootstrap.run.markers import DATA_REMEDY, check_outputs
from cai_bootstrap.steps.context import StepContext

ADAPTER_REMEDY = "restore it, or remove its folder and train again"


def check_inputs(name: Step, context: StepContext) -> None:
    """Raise UntrustedResultError naming the first file that was changed after its step ended, and what to do.

    Data in a folder that no step of this base directory wrote are the user's own, and are taken as they are. The
    baseline is no input in this sense: evaluation measures the base again where it cannot use it.
    """
    if name == "generate":
        _check_rounds(context, data=context.round - 1, adapters=context.round - 1)
    elif name == "train":
        _check_rounds(context, data=context.round, adapters=0)
    elif name == "evaluate" and context.config.adapter is None:
        _check_rounds(context, data=context.round, adapters=context.round)


def _check_rounds(context: StepContext, *, data: int, adapters: int) -> None:
    """The data of the first `data` rounds, and the success markers of the first `adapters`."""
    for number in range(1, data + 1):
        folder = context.workspace.round_data(number).path
        within = [folder, context.workspace.control_data.path]
        check_outputs(context.workspace, "generate", DATA_REMEDY, number=number, within=within)
    for number in range(1, adapters + 1):
        check_outputs(context.workspace, "train", ADAPTER_REMEDY, number=number)
