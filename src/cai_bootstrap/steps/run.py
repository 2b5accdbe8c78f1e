"""Do a step, or skip it when it was finished before with the same fingerprint and its outputs are unchanged."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from cai_bootstrap.config import Step
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import fingerprint, read_json, write_json
from cai_bootstrap.inference.weight_files import missing_weights
from cai_bootstrap.run.markers import (
    DATA_REMEDY,
    SUCCESS,
    Outputs,
    marker_file,
    marker_name,
    read_outputs,
    write_marker,
)
from cai_bootstrap.steps import baseline, evaluate, generate, train
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.inputs import check_inputs


def _prepare_fingerprint(context: StepContext) -> str:
    """The weights are part of it: a folder that was sound when it was prepared may be no more."""
    return fingerprint([context.config.model, context.config.revision, *context.model_key()])


def _prepare(context: StepContext, _: str) -> list[Path]:
    """Fetch or convert the model; records what it is."""
    prepared = context.prepared()
    path = context.workspace.logs / "model.json"
    write_json(path, {**asdict(prepared), "path": str(prepared.path)})
    return [path]


_STEPS: dict[Step, tuple[Callable[[StepContext, str], list[Path]], Callable[[StepContext], str]]] = {
    "prepare": (_prepare, _prepare_fingerprint),
    "baseline": (baseline.run, baseline.identity),
    "generate": (generate.run, generate.identity),
    "train": (train.run, train.identity),
    "evaluate": (evaluate.run, evaluate.identity),
}


def run_step(name: Step, context: StepContext) -> bool:
    """Do a step, or skip it. Returns False when it was skipped because it was finished before.

    Raises UntrustedResultError if what it reads, or data and adapters that it wrote, were changed since.
    """
    body, fingerprint_of = _STEPS[name]
    _check_data(name, context)
    own = marker_name(name, context.round)
    forced = name == "generate" and context.config.force_data
    check_inputs(name, context)
    before = _own_outputs(own, context)
    if before is not None and not forced:
        _check_own(name, before, context)
    expected = fingerprint_of(context)
    if (
        before is not None
        and not forced
        and before.fingerprint == expected
        and not before.changed()
        and not before.missing()
        and _lies_here(name, before, context)
        and _model_is_there(name, context)
    ):
        return False
    marker_file(context.workspace, own).unlink(missing_ok=True)
    outputs = body(context, expected)
    write_marker(context.workspace, name, context.round, fingerprint=expected, outputs=outputs, before=before)
    return True


def _own_outputs(name: str, context: StepContext) -> Outputs | None:
    """What the step wrote before; None, with a notice, if its marker cannot be believed: it is done again."""
    try:
        return read_outputs(context.workspace, name)
    except UntrustedResultError as error:
        context.progress.say(f"the step is done again: {error}")
        return None


def _check_own(name: Step, before: Outputs, context: StepContext) -> None:
    """Refuse changed data and a changed success marker; what is measured or prepared is made again, with a notice.

    Data and adapters are not made again unasked: it costs hours, and somebody may have changed them on purpose.
    """
    remedies: dict[Step, str] = {"generate": DATA_REMEDY, "train": "restore it, or remove its folder and train again"}
    for path in before.changed():
        if name in remedies and _lies_here(name, before, context):
            raise UntrustedResultError(before.sentence(path, remedies[name]))
        context.progress.say(before.sentence(path, "the step is done again"))


def _lies_here(name: Step, before: Outputs, context: StepContext) -> bool:
    """Whether the outputs lie where this run would write them; another --data-dir may hold nothing yet."""
    folders: dict[Step, Path] = {
        "generate": context.data(), "baseline": context.workspace.results, "evaluate": context.workspace.results,
    }  # fmt: skip
    wanted = folders.get(name)
    if wanted is None:
        return name != "train" or before.path(SUCCESS).is_relative_to(context.workspace.checkpoints)
    return all(path.parent == wanted for path in before.hashes)


def _model_is_there(name: Step, context: StepContext) -> bool:
    """False if the model is to be prepared and has gone from the cache, or a part of it, as with a pod's disk."""
    if name != "prepare":
        return True
    path = Path(read_json(context.workspace.logs / "model.json")["path"])
    return not missing_weights(path)


def _check_data(name: Step, context: StepContext) -> None:
    """Refuse data of another identity before they are used, and say it when their number is another one."""
    anew = name == "generate" and context.config.force_data
    foreign = name == "evaluate" and context.config.adapter is not None
    if name not in {"generate", "train", "evaluate"} or anew or foreign:
        return
    counts = generate.check_data(context)
    if counts["found"] != counts["requested"]:
        context.progress.say(
            f"WARNING: reusing data made from {counts['found']} instructions, {counts['requested']} were asked for; "
            "--force-data makes them anew"
        )
