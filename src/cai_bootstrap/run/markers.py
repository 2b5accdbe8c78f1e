"""What a finished step left: its marker names each output with the hash that it had when the step ended.

One step reads what another wrote, perhaps days later and on another machine. Whoever reads an output asks here first
whether it still is what the step wrote.
"""

from collections.abc import Collection, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import read_json, sha256_file, write_json
from cai_bootstrap.run.folder import Workspace

ModelT = TypeVar("ModelT", bound=BaseModel)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
RESULTS = "stage1_evaluation_*.json"
BASELINE = "baseline_assessment.json"
SUCCESS = "TRAINING_SUCCESS"
# The outputs, by their file names, without which a marker does not describe its step.
REQUIRED: dict[str, tuple[str, ...]] = {
    "prepare": ("model.json",),
    "baseline": (BASELINE,),
    "generate": ("instructions.jsonl", "responses.jsonl", "preference_pairs.jsonl", "generation_summary.json"),
    "train": (SUCCESS,),
    "evaluate": (RESULTS,),
}
DATA_REMEDY = (
    "restore the file, or make the data anew with --force-data (data of your own go into a folder of their own: "
    "--data-dir)"
)


class StepMarker(BaseModel):
    """`logs/steps/NAME.json`, written last: `{"step": "train", "round": 1, "fingerprint": "9f…",
    "finished_at": "2026-11-22T10:31:00Z", "outputs": {"checkpoints/stage1/9f…/TRAINING_SUCCESS": "4c…"}}`.

    Outputs are relative to the base directory where they lie under it. `earlier` holds the outputs of this step's runs
    before this one that are still there (results files are never overwritten).
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    step: str
    round: int = Field(1, ge=1)
    fingerprint: str = Field(min_length=1)
    finished_at: UtcTime
    outputs: dict[str, Sha256] = Field(min_length=1)
    earlier: dict[str, Sha256] = Field(default_factory=dict)


class Outputs:
    """A step's marker, with its outputs as paths. `name` is the marker's (`train`, or `train-2` for round 2)."""

    def __init__(self, name: str, marker: StepMarker, workspace: Workspace) -> None:
        self.name, self.fingerprint, self.finished_at = name, marker.fingerprint, marker.finished_at
        self.hashes = {workspace.base / path: sha256 for path, sha256 in marker.outputs.items()}
        self.earlier = {workspace.base / path: sha256 for path, sha256 in marker.earlier.items()}

    def path(self, pattern: str) -> Path:
        """The output whose file name fits `pattern`; the marker was refused if there is none."""
        return next(path for path in self.hashes if fnmatch(path.name, pattern))

    def changed(self) -> list[Path]:
        """The outputs that are there and are not what the step wrote."""
        return [path for path, sha256 in self.hashes.items() if path.exists() and not _same(path, sha256)]

    def missing(self) -> list[Path]:
        """The outputs that are gone."""
        return [path for path in self.hashes if not path.exists()]

    def check(self, path: Path, remedy: str) -> None:
        """Raise UntrustedResultError if an output of this step was changed or is gone; other files are not its own."""
        sha256 = self.hashes.get(path) or self.earlier.get(path)
        if sha256 is not None and not _same(path, sha256):
            raise UntrustedResultError(self.sentence(path, remedy))

    def sentence(self, path: Path, remedy: str) -> str:
        """What happened to an output, where, and what to do."""
        what = "was changed" if path.exists() else "is gone"
        return f"{path}: {what} after the step '{self.name}' ended ({self.finished_at}); {remedy}"


def marker_name(step: str, number: int) -> str:
    """The name of a step's marker: evaluation has one, other steps have one for each round."""
    return step if number == 1 or step == "evaluate" else f"{step}-{number}"


def step_log(workspace: Workspace, run: str, step: str, number: int) -> Path:
    """Where what a step's process prints goes: `logs/RUN.generate-2.log` in round 2."""
    return workspace.logs / f"{run}.{marker_name(step, number)}.log"


def marker_file(workspace: Workspace, name: str) -> Path:
    """Where a step's marker lies."""
    return workspace.logs / "steps" / f"{name}.json"


def write_marker(
    workspace: Workspace,
    step: str,
    number: int,
    *,
    fingerprint: str,
    outputs: Iterable[Path],
    before: Outputs | None = None,
) -> None:
    """Write the marker of a step of round `number`, atomically. `before`: the one that it replaces.

    What the step wrote before and still is as it was stays listed as `earlier`.
    """
    hashes = {_relative(path, workspace.base): sha256_file(path) for path in outputs}
    past = {} if before is None else {**before.earlier, **before.hashes}
    earlier = {_relative(path, workspace.base): sha256 for path, sha256 in past.items() if _same(path, sha256)}
    write_json(
        marker_file(workspace, marker_name(step, number)),
        {
            "step": step,
            "round": number,
            "fingerprint": fingerprint,
            "finished_at": utc_now(),
            "outputs": hashes,
            "earlier": {path: sha256 for path, sha256 in earlier.items() if path not in hashes},
        },
    )


def read_outputs(workspace: Workspace, name: str) -> Outputs | None:
    """A step's marker, or None if the step did not end here. The outputs themselves are not looked at.

    Raises UntrustedResultError if the marker is torn, is of another step or form, lacks an output that the step always
    has, or names a file outside the run's folders.
    """
    path = marker_file(workspace, name)
    if not path.exists():
        return None
    step = name.partition("-")[0]
    again = f"remove this marker and run `cai {step}` again"
    marker = read_typed(path, StepMarker, again)
    if marker.step != step:
        raise UntrustedResultError(f"{path}: is a marker of the step {marker.step!r}; {again}")
    for listed in (*marker.outputs, *marker.earlier):
        if not _inside(workspace, listed):
            raise UntrustedResultError(f"{path}: names {listed!r}, which is not in this run's folders; {again}")
    names = {Path(listed).name for listed in marker.outputs}
    for pattern in REQUIRED.get(step, ()):
        if not any(fnmatch(own, pattern) for own in names):
            raise UntrustedResultError(f"{path}: lists no {pattern}; {again}")
    return Outputs(name, marker, workspace)


def check_outputs(workspace: Workspace, name: str, remedy: str, *, within: Collection[Path] | None = None) -> None:
    """Raise UntrustedResultError if an output of a finished step was changed; what is gone is named by who reads it.

    `within`: only outputs that lie in one of these folders count. A step without a marker promises nothing.
    """
    outputs = read_outputs(workspace, name)
    for path in outputs.changed() if outputs is not None else ():
        if outputs is not None and (within is None or path.parent in within):
            raise UntrustedResultError(outputs.sentence(path, remedy))


class LookRow(BaseModel):
    """One look of the collapse watch (`training.watch.Look`) as a success marker holds it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    step: int = 0
    strict_rate: float = Field(ge=0, le=1)
    eos_rate: float | None = None
    silent_rate: float | None = None
    distinct: float | None = None
    words: float | None = None
    chosen_per_token: float | None = None


class SuccessMarker(BaseModel):
    """`TRAINING_SUCCESS`: `{"adapter_path": "9f…", "final_loss": 0.6, "files": {"adapter_model.safetensors": "4c…"}}`.

    What training adds beside the contract's fields is allowed, and typed where somebody reads it.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    adapter_path: str = Field(min_length=1)
    final_loss: float = Field(allow_inf_nan=False)
    epochs: float = Field(ge=0, allow_inf_nan=False)
    finished_at: UtcTime
    fingerprint: str = Field(min_length=1)
    files: dict[str, Sha256] = Field(min_length=1)
    pairs: int | None = Field(None, ge=0)
    method: str | None = None
    processes: int | None = None
    base_weights_sha256: Sha256 | None = None
    watch: list[LookRow] | None = None
    leakage_checked: list[str] | None = None
    pairs_sha256: Sha256 | list[Sha256] | None = None
    round: int = 1
    watched: str = "dev"
    labels: dict[str, int] | None = None


def read_typed(path: Path, kind: type[ModelT], again: str) -> ModelT:
    """A JSON file as a record. Raises UntrustedResultError naming the file and its first fault, ending with `again`."""
    try:
        return kind.model_validate(read_json(path), strict=True)
    except DataError as error:
        raise UntrustedResultError(f"{error}; {again}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise UntrustedResultError(f"{path}: {where}: {problem['msg']}; {again}") from error


def _same(path: Path, sha256: str) -> bool:
    """Whether a regular file has this hash; a pipe or a device is never opened."""
    try:
        return path.is_file() and sha256_file(path) == sha256
    except OSError:
        return False


def _relative(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _inside(workspace: Workspace, listed: str) -> bool:
    if "\0" in listed or ".." in Path(listed).parts:
        return False
    path = workspace.base / listed
    roots = (workspace.data, workspace.checkpoints, workspace.results, workspace.logs)
    usual = Workspace.at(workspace.base)  # where a run of this base directory without moved folders has them
    usual_roots = (usual.data, usual.checkpoints, usual.results, usual.logs)
    return any(path.is_relative_to(root) and path != root for root in (*roots, *usual_roots))
