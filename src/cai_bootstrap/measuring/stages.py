"""Of which stage a results file is, told from the blocks that it has, before anything in it is believed."""

from collections.abc import Mapping
from pathlib import Path

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import read_json
from cai_bootstrap.run.folder import CONSTITUTION, INSTRUCTIONS, Stage

TITLES = {INSTRUCTIONS.name: "Stage 1", CONSTITUTION.name: "the constitution stage"}


def is_principle_file(raw: object) -> bool:
    """Whether a JSON value is a principles' results file, as against one of Stage 1, by the blocks that it has."""
    return isinstance(raw, Mapping) and "principles" in raw and "constitution" in raw


def stage_of_file(path: Path) -> Stage:
    """The stage whose reader a results file is for. One that cannot be read is Stage 1's, whose reader says why."""
    try:
        return CONSTITUTION if is_principle_file(read_json(path)) else INSTRUCTIONS
    except DataError:
        return INSTRUCTIONS


def other_stage(raw: object, expected: Stage) -> str | None:
    """Why a file cannot be read as one of the `expected` stage, in a sentence, or None if it may be one.

    A value that is a results file of neither stage gives None: the reader says what it lacks.
    """
    if is_principle_file(raw):
        found = CONSTITUTION
    elif isinstance(raw, Mapping) and {"suite", "models"} <= raw.keys():
        found = INSTRUCTIONS
    else:
        return None
    if found is expected:
        return None
    return f"is a results file of {TITLES[found.name]}, and {TITLES[expected.name]}'s is expected here"


def must_be_of_one_stage(a: Path, b: Path) -> Stage:
    """The stage of both files. Raises UntrustedResultError if they are of two, because nothing in them is alike."""
    of_a, of_b = stage_of_file(a), stage_of_file(b)
    if of_a is of_b:
        return of_a
    raise UntrustedResultError(
        f"{a} is a results file of {TITLES[of_a.name]}, {b} of {TITLES[of_b.name]}: their models were asked other "
        "things and judged by other rules; compare two files of one stage"
    )
