"""`results/run.json`: how a whole run ended, what its steps took, and what it was made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import JsonObject, read_json
from cai_bootstrap.run.folder import RunFolder


class _Part(BaseModel):
    """Fields that a newer version adds are left out; a field of another type makes the record unreadable."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", populate_by_name=True)


class StepRecord(_Part):
    """How a step ended, after how many seconds: `{"status": "done", "seconds": 412.6, "skipped": false}`."""

    status: str
    seconds: float
    skipped: bool


class Reuse(_Part):
    """The instructions that the run asked for, and those whose data were there."""

    model_config = ConfigDict(extra="allow")

    requested: int
    found: int


class ConfigValue(_Part):
    """A configuration value and its origin: `{"value": 0.1, "from": "preset"}`."""

    value: Any = None
    origin: str = Field(alias="from")


class Product(_Part):
    """Which cai-bootstrap made the run; no commit outside of a checkout."""

    version: str
    commit: str | None = None


class Manifest(_Part):
    """What a run was made of (`provenance.manifest`). `files` maps paths under the base directory to SHA-256."""

    product: Product
    python: str
    platform: str
    versions: dict[str, str] = Field(default_factory=dict)
    config: dict[str, ConfigValue] = Field(default_factory=dict)
    model: Any = None
    data: Any = None
    files: dict[str, str] = Field(default_factory=dict)


class RunRecord(_Part):
    """The record of the newest whole run. `steps` has `train-2` for round 2; `results_file` is a name in `results/`."""

    run: str
    verdict: str
    exit_code: int
    message: str | None = None
    steps: dict[str, StepRecord] = Field(default_factory=dict)
    reuse: Reuse | None = None
    results_file: str | None = None
    manifest: Manifest

    def config(self, key: str) -> Any:
        """A value of the run's configuration by its dotted name (`training.method`), or None."""
        value = self.manifest.config.get(key)
        return None if value is None else value.value

    def as_json(self) -> JsonObject:
        """The record as `run.json` holds it."""
        return self.model_dump(by_alias=True)


def read_record(workspace: RunFolder) -> RunRecord | None:
    """The record of the newest whole run, or None if there is none. Raises DataError naming the file and its fault."""
    path = workspace.record
    if not path.exists():
        return None
    try:
        return RunRecord.model_validate(read_json(path))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise DataError(f"{path}: {where}: {problem['msg']}") from error
