"""Do a step, or skip it when it was finished before with the same fingerprint and its outputs are unchanged."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from cai_bootstrap.config import Step
from cai_bootstrap.errors import DataError
from cai_bootstrap.events import utc_now
from cai_bootstrap.inference.weight_files import missing_weights
from cai_bootstrap.steps import baseline, evaluate, generate, train
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.workspace import fingerprint, read_json, sha256_file, write_json


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
    """Do a step, or skip it. Returns False when it was skipped because it was finished before."""
    body, fingerprint_of = _STEPS[name]
    _check_data(name, context)
    shown = name if context.round == 1 or name == "evaluate" else f"{name}-{context.round}"
    marker = context.workspace.logs / "steps" / f"{shown}.json"
    expected = fingerprint_of(context)
    forced = name == "generate" and context.config.force_data
    if not forced and _is_finished(marker, expected, context.workspace.base) and _model_is_there(name, context):
        return False
    marker.unlink(missing_ok=True)
    outputs = body(context, expected)
    base = context.workspace.base
    write_json(
        marker,
        {
            "step": name,
            "fingerprint": expected,
            "finished_at": utc_now(),
            "outputs": {_relative(path, base): sha256_file(path) for path in outputs},
        },
    )
    return True


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


def _relative(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _is_finished(marker: Path, expected: str, base: Path) -> bool:
    try:
        known = read_json(marker)
        same = known["fingerprint"] == expected
        return same and all(sha256_file(base / path) == sha for path, sha in known["outputs"].items())
    except (DataError, OSError, KeyError, TypeError):
        return False
