"""Score a results file of an older scorer version again, so that a change of the scorers reruns every row.

The stored outputs are judged by the present scorers on the same suite, and everything else is computed from that by the
same code as in an evaluation. The new file says what it was made from, and names every verdict that changed: an output
that was edited afterwards to follow its instruction would stand among them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import Field, ValidationError

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.assess import measured_side
from cai_bootstrap.measuring.declared import SIDES, Results
from cai_bootstrap.measuring.figures import Figures
from cai_bootstrap.measuring.results import build_results, read_older_results, write_results

BLOCK = "rescored"


class Change(Figures):
    """One verdict that changed: `{"id": "q-9", "scored": "first line", "before": "extra_text", "after": "ok"}`."""

    id: str
    scored: str
    before: str
    after: str


class RescoredBlock(Figures):
    """The block `rescored` of a file that was scored again; `before` is that of its source."""

    from_scorer_version: str
    source_sha256: str | None = None
    changed: dict[str, list[Change]] = Field(default_factory=dict)
    not_rescored: list[str] = Field(default_factory=list)
    before: "RescoredBlock | None" = None

    def all_times(self) -> list["RescoredBlock"]:
        """The blocks of every time that the outputs were scored again, the oldest first."""
        return [*(self.before.all_times() if self.before is not None else []), self]


class RescoredRate(TypedDict):
    """How many of `total` one side followed before and after, by the rule that the side is judged by."""

    scored: str
    before: int
    after: int
    total: int


@dataclass(frozen=True)
class Rescored:
    """Where the new file is, its content, and what changed on each side."""

    path: Path
    results: Results
    block: RescoredBlock
    rates: dict[str, RescoredRate]


def read_block(results: Results) -> RescoredBlock | None:
    """How a results file was scored again, or None. Raises DataError if its block is none of this tool's."""
    if (block := results.block(BLOCK)) is None:
        return None
    try:
        return RescoredBlock.model_validate(block)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{BLOCK}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def rescored_path(path: Path) -> Path:
    """Where a file that was scored again is written if nothing else is said: beside the old one."""
    return path.with_name(f"{path.stem}.scorers-{SCORER_VERSION}.json")


def rescore_file(path: Path, out: Path | None = None, *, suite: Suite | None = None) -> Rescored:
    """Judge the outputs of a results file again and write a results file of this scorer version, atomically.

    The old file is checked first in all that does not need its own scorers, and stays as it is unless `out` names it.
    What it holds no outputs of (the dev rates by which the prompted base was chosen) stays as it was, and is named.
    Raises UntrustedResultError if the file cannot be trusted, is of another suite, or is not of an older version.
    """
    out = out or rescored_path(path)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out names the file to write")
    old, suite = read_older_results(path, suite)
    source = sha256_file(path)
    sides = {side: measured_side(old, side) for side in SIDES}
    again = build_results(
        suite=suite,
        conditions=old.conditions.model_copy(update={"scorer_version": SCORER_VERSION}),
        base=sides["base"],
        trained=sides["trained"],
        trained_bare=sides["trained_bare"],
        rival=sides["rival"],
        prompting=old.rival,
        run=old.run,
        enforced=old.gate.enforced,
    )
    block = RescoredBlock(
        from_scorer_version=old.conditions.scorer_version,
        source_sha256=source,
        changed={side: _changed(old, again, side) for side in again.models.present()},
        not_rescored=_left(old),
        before=read_block(old),
    )
    again = again.with_blocks({**(old.model_extra or {}), BLOCK: block.as_dict()})
    write_results(out, again)
    return Rescored(out, again, block, {side: _rate(old, again, side) for side in again.models.present()})


def _changed(old: Results, again: Results, side: str) -> list[Change]:
    """Every item whose verdict, of the whole output or of its first line, is another one now."""
    changes = []
    after = again.answers(side)
    for id, was in old.answers(side).items():
        now = after[id]
        if was.success != now.success:
            changes.append(Change(id=id, scored="whole output", before=was.reason, after=now.reason))
        if was.first_line_success != now.first_line_success:
            reasons = {"before": was.first_line_reason, "after": now.first_line_reason}
            changes.append(Change(id=id, scored="first line", **reasons))
    return changes


def _left(old: Results) -> list[str]:
    """What the file holds figures of but no outputs."""
    if old.rival is None:
        return []
    left = ["rival.dev_rates"] if old.rival.dev_rates else []
    if old.rival.successes is not None and old.models.rival is None:
        left.append("rival.success_rate")
    return left


def _rate(old: Results, again: Results, side: str) -> RescoredRate:
    before, after = old.models.present()[side], again.models.present()[side]
    if side == "rival":
        was, now = before.first_line.successes, after.first_line.successes
        return {"scored": "first line", "before": was, "after": now, "total": after.total}
    return {"scored": "whole output", "before": before.successes, "after": after.successes, "total": after.total}
