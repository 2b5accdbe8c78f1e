"""Prepare: fetch or convert the model, and record what it is."""

from dataclasses import asdict
from pathlib import Path

from cai_bootstrap.files import fingerprint, write_json
from cai_bootstrap.inference.weight_files import missing_weights
from cai_bootstrap.run.counts import ModelRecord, read_counts
from cai_bootstrap.run.markers import Outputs
from cai_bootstrap.steps.context import StepContext


def identity(context: StepContext) -> str:
    """The weights are part of it: a folder that was sound when it was prepared may be no more."""
    return fingerprint([context.config.model, context.config.revision, *context.model_key()])


def run(context: StepContext, _: str) -> dict[str, Path]:
    """Fetch or convert the model; records what it is."""
    prepared = context.prepared()
    path = context.workspace.model
    record = ModelRecord.model_validate({**asdict(prepared), "path": str(prepared.path)})
    write_json(path, record.as_json())
    return {"model": path}


def is_here(_: Outputs, context: StepContext) -> bool:
    """False if the model has gone from the cache, or a part of it, as with a pod's disk."""
    path = read_counts(context.workspace.model, ModelRecord).path
    return path is not None and not missing_weights(Path(path))
