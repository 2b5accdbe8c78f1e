"""What a finished step left: its marker names each output with the hash that it had when the step ended.

One step reads what another wrote, perhaps days later and on another machine. Whoever reads an output asks here first
whether it still is what the step wrote.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.events import utc_now
from cai_bootstrap.files import read_json, sha256_file, write_json
from cai_bootstrap.run.counts import ImportedPairs
from cai_bootstrap.run.folder import CONSTITUTION, INSTRUCTIONS, RunFolder, output_name, step_name

ModelT = TypeVar("ModelT", bound=BaseModel)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
# The outputs without which a marker does not describe its step.
REQUIRED: dict[str, tuple[str, ...]] = {
    "prepare": ("model",),
    "baseline": ("baseline",),
    "generate": ("responses", "pairs", "summary"),
    "train": ("success",),
    "evaluate": ("results",),
}
# What a stage's data begin with.
ASKED = {INSTRUCTIONS.name: "instructions", CONSTITUTION.name: "prompts"}
DATA_REMEDY = (
    "restore the file, or make the data anew with --force-data (data of your own go into a folder of their own: "
    "--data-dir)"
)


class Output(BaseModel):
    """An output of a step: `{"path": "checkpoints/stage1/9f…/TRAINING_SUCCESS", "sha256": "4c…"}`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    path: str = Field(min_length=1)
    sha256: Sha256


class StepMarker(BaseModel):
    """`logs/steps/NAME.json`, written last: `{"step": "train", "round": 1, "fingerprint": "9f…",
    "finished_at": "2026-11-22T10:31:00Z", "outputs": {"success": {"path": "checkpoints/…", "sha256": "4c…"}}}`.

    Paths are relative to the base directory where they lie under it. `earlier` holds, by path, the outputs of this
    step's runs before this one that are still there (results files are never overwritten). A marker of an earlier
    version lists its outputs by path; the file's name tells which output it is.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    step: str
    round: int = Field(1, ge=1)
    fingerprint: str = Field(min_length=1)
    finished_at: UtcTime
    outputs: dict[str, Output] = Field(min_length=1)
    earlier: dict[str, Sha256] = Field(default_factory=dict)

    @field_validator("outputs", mode="before")
    @classmethod
    def _by_name(cls, outputs: Any) -> Any:
        if not isinstance(outputs, dict) or not all(isinstance(value, str) for value in outputs.values()):
            return outputs
        return {output_name(path): {"path": path, "sha256": sha256} for path, sha256 in outputs.items()}


class Outputs:
    """What a finished step of a round left, by name. `name` is the marker's (`train`, or `train-2` for round 2)."""

    def __init__(self, name: str, marker: StepMarker, workspace: RunFolder) -> None:
        self.name, self.fingerprint, self.finished_at = name, marker.fingerprint, marker.finished_at
        self._paths = {key: workspace.base / output.path for key, output in marker.outputs.items()}
        self.hashes = {workspace.base / output.path: output.sha256 for output in marker.outputs.values()}
        self.earlier = {workspace.base / path: sha256 for path, sha256 in marker.earlier.items()}

    def path(self, name: str) -> Path:
        """An output that every step of this kind has (`REQUIRED`): without it, the marker was refused."""
        return self._paths[name]

    def find(self, name: str) -> Path | None:
        """An output that not every step of this kind has, or None."""
        return self._paths.get(name)

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


def write_marker(
    workspace: RunFolder,
    step: str,
    number: int,
    *,
    fingerprint: str,
    outputs: Mapping[str, Path],
    before: Outputs | None = None,
) -> None:
    """Write the marker of a step of round `number`, atomically. `before`: the one that it replaces.

    What the step wrote before and still is as it was stays listed as `earlier`.
    """
    named = {name: {"path": workspace.relative(path), "sha256": sha256_file(path)} for name, path in outputs.items()}
    past = {} if before is None else {**before.earlier, **before.hashes}
    earlier = {workspace.relative(path): sha256 for path, sha256 in past.items() if _same(path, sha256)}
    own = {output["path"] for output in named.values()}
    write_json(
        workspace.marker(step, number),
        {
            "step": step,
            "round": number,
            "fingerprint": fingerprint,
            "finished_at": utc_now(),
            "outputs": named,
            "earlier": {path: sha256 for path, sha256 in earlier.items() if path not in own},
        },
    )


def read_outputs(workspace: RunFolder, step: str, number: int = 1) -> Outputs | None:
    """What a step left in a round, or None if it did not end here. The outputs themselves are not looked at.

    Raises UntrustedResultError if the marker is torn, is of another step or form, lacks an output that the step always
    has, or names a file outside the run's folders.
    """
    path = workspace.marker(step, number)
    if not path.exists():
        return None
    again = f"remove this marker and run `cai {step}` again"
    marker = read_typed(path, StepMarker, again)
    if marker.step != step:
        raise UntrustedResultError(f"{path}: is a marker of the step {marker.step!r}; {again}")
    for listed in (*(output.path for output in marker.outputs.values()), *marker.earlier):
        if not _inside(workspace, listed):
            raise UntrustedResultError(f"{path}: names {listed!r}, which is not in this run's folders; {again}")
    asked = (ASKED[workspace.stage.name],) if step == "generate" else ()
    for name in (*asked, *REQUIRED.get(step, ())):
        output = marker.outputs.get(name)
        if output is None or output_name(output.path) != name:
            raise UntrustedResultError(f"{path}: lists no {name} as its output; {again}")
    return Outputs(step_name(step, number), marker, workspace)


def trained_folder(workspace: RunFolder) -> str | None:
    """The name of the folder of the adapter that a stage's training left, which is never its control's.

    None if no training ended. Raises UntrustedResultError if the marker is no such marker.
    """
    outputs = read_outputs(workspace, "train")
    return None if outputs is None else outputs.path("success").parent.name


def check_outputs(
    workspace: RunFolder, step: str, remedy: str, *, number: int = 1, within: Collection[Path] | None = None
) -> None:
    """Raise UntrustedResultError if an output of a finished step was changed; what is gone is named by who reads it.

    `within`: only outputs that lie in one of these folders count. A step without a marker promises nothing.
    """
    outputs = read_outputs(workspace, step, number)
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


class TaughtConstitution(BaseModel):
    """The constitution by which a training's pairs were made: `{"name": "thanks", "sha256": "4c…"}`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    sha256: Sha256


class SuccessMarker(BaseModel):
    """`TRAINING_SUCCESS`: `{"adapter_path": "9f…", "final_loss": 0.6, "files": {"adapter_model.safetensors": "4c…"}}`.

    What training adds beside the contract's fields is allowed, and typed where somebody reads it. The constitution
    stage adds its `stage`, the `constitution`, whether that is the `control`'s, the hash of the adapter that training
    `started_from`, and how many pairs of it were `replayed`. `imported` says where pairs came from that a
    person brought.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    adapter_path: str = Field(min_length=1)
    final_loss: float = Field(allow_inf_nan=False)
    epochs: float = Field(ge=0, allow_inf_nan=False)
    finished_at: UtcTime
    fingerprint: str = Field(min_length=1)
    files: dict[str, Sha256] = Field(min_length=1)
    pairs: int | None = Field(None, ge=0)
    asked_bare: int | None = Field(None, ge=0)
    method: str | None = None
    processes: int | None = None
    base_weights_sha256: Sha256 | None = None
    watch: list[LookRow] | None = None
    leakage_checked: list[str] | None = None
    pairs_sha256: Sha256 | list[Sha256] | None = None
    round: int = 1
    watched: str = "dev"
    labels: dict[str, int] | None = None
    imported: ImportedPairs | None = None
    stage: str = INSTRUCTIONS.name
    constitution: TaughtConstitution | None = None
    control: bool = False
    started_from: Sha256 | None = None
    replayed: int = Field(0, ge=0)


def control_markers(workspace: RunFolder) -> set[Path]:
    """The success markers of trainings on a control's pairs: their adapters are there to compare with, not to be used.

    The marker of the newest training tells which is which; of earlier ones, what the success marker says of itself. A
    marker that cannot be believed is none of them: whoever reads it as one says so.
    """
    try:
        newest = read_outputs(workspace, "train")
    except UntrustedResultError:
        newest = None
    own, control = (None, None) if newest is None else (newest.find("success"), newest.find("control-success"))
    controls = set() if control is None else {control}
    for path in workspace.success_markers():
        if path not in (own, control) and _says_control(path):
            controls.add(path)
    return controls


def _says_control(path: Path) -> bool:
    try:
        return read_typed(path, SuccessMarker, "").control
    except UntrustedResultError:
        return False


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


def _inside(workspace: RunFolder, listed: str) -> bool:
    if "\0" in listed or ".." in Path(listed).parts:
        return False
    path = workspace.base / listed
    roots = (workspace.data, workspace.checkpoints, workspace.results, workspace.logs)
    usual = RunFolder.at(workspace.base, stage=workspace.stage)  # where a run without moved folders has them
    usual_roots = (usual.data, usual.checkpoints, usual.results, usual.logs)
    return any(path.is_relative_to(root) and path != root for root in (*roots, *usual_roots))
