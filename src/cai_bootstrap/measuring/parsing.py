"""A results file of either stage, from bytes to its declared form; what follows from its answers is found elsewhere."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import read_json
from cai_bootstrap.measuring.declared import SIDES
from cai_bootstrap.measuring.stages import other_stage
from cai_bootstrap.measuring.wording import one_line, short
from cai_bootstrap.run.folder import Stage

FileT = TypeVar("FileT", bound=BaseModel)


def parse_results_file(
    path: Path, kind: type[FileT], stage: Stage, schema_version: int
) -> tuple[FileT, dict[str, Any]]:
    """The file as it claims to be, and its JSON object.

    Raises UntrustedResultError naming what is wrong: no whole JSON object, another stage's file, another version, a
    field that is missing, unknown or of another type.
    """
    try:
        raw = read_json(path)
    except DataError as error:
        raise UntrustedResultError(f"{error}; a results file must be there, whole and untouched") from error
    if not isinstance(raw, dict):
        raise UntrustedResultError(f"{path}: not a results file: it holds no JSON object")
    if why := other_stage(raw, stage):
        raise UntrustedResultError(f"{path}: {why}")
    version = raw.get("schema_version")
    if version != schema_version or isinstance(version, bool):
        raise UntrustedResultError(f"{path}: schema_version is {short(version)}, this version reads {schema_version}")
    try:
        claims = kind.model_validate(raw, strict=True)
    except ValidationError as error:
        raise UntrustedResultError(f"{path}: {first_problem(error)}") from error
    return claims, raw


def first_problem(error: ValidationError) -> str:
    """What pydantic found first, in one line that names the field."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        value = problem["input"]
        shown = "" if isinstance(value, dict | list) else f", not {short(value)}"
        return one_line(f"{where}: {problem['msg']}{shown}")
    if where.startswith("models.") and where.count(".") == 1:
        return one_line(f"{where} is no side; the sides are {', '.join(SIDES)}")
    return one_line(f"{where} is not part of a results file")
