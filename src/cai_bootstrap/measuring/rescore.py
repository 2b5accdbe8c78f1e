"""Score a results file of an older scorer version again, so that a change of the scorers reruns every row.

The stored outputs are judged by the present scorers on the same suite, and everything else is computed from that by the
same code as in an evaluation. The new file says what it was made from, and names every verdict that changed: an output
that was edited afterwards to follow its instruction would stand among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.assess import outputs_of
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.results import RESERVED, SIDES, build_results, read_older_results, write_results

BLOCK = "rescored"


@dataclass(frozen=True)
class Rescored:
    """Where the new file is, its content, and per side how many followed before and after, by the side's own rule."""

    path: Path
    results: dict[str, Any]
    rates: dict[str, dict[str, Any]]

    @property
    def changed(self) -> dict[str, list[dict[str, str]]]:
        """The verdicts that changed: per side, each with its item and both reasons."""
        found: dict[str, list[dict[str, str]]] = self.results[BLOCK]["changed"]
        return found


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
    present = [side for side in SIDES if old["models"].get(side) is not None]
    outputs = {side: outputs_of(old, side) for side in present}
    rival = old["rival"]
    if rival is not None:
        rival = {**rival, "outputs": outputs.get("rival")}
    extra = {key: value for key, value in old.items() if key not in (*RESERVED, BLOCK)}
    made = build_results(
        suite=suite,
        conditions=Conditions.model_validate({**old["conditions"], "scorer_version": SCORER_VERSION}),
        base=outputs.get("base"),
        trained=outputs.get("trained"),
        factors={side: old["models"][side].get("factors", {}) for side in present},
        rival=rival,
        extra={**extra, BLOCK: {}},
        enforced=bool(old["gate"].get("enforced", True)),
    )
    made[BLOCK] = {
        "from_scorer_version": old["conditions"]["scorer_version"],
        "source_sha256": source,
        "changed": {side: _changed(old, made, side) for side in present},
        "not_rescored": _left(old),
        "before": old.get(BLOCK),
    }
    write_results(out, made)
    return Rescored(out, made, {side: _rates(old, made, side) for side in present})


def _changed(old: Mapping[str, Any], made: Mapping[str, Any], side: str) -> list[dict[str, str]]:
    """Every item whose verdict, of the whole output or of its first line, is another one now."""
    found = []
    for was, now in zip(old["items"], made["items"], strict=True):
        for success, reason, scored in (
            ("success", "reason", "whole output"),
            ("first_line_success", "first_line_reason", "first line"),
        ):
            if was[side][success] != now[side][success]:
                verdicts = {"before": was[side][reason], "after": now[side][reason]}
                found.append({"id": was["id"], "scored": scored, **verdicts})
    return found


def _left(old: Mapping[str, Any]) -> list[str]:
    """What the file holds figures of but no outputs."""
    rival = old["rival"] or {}
    left = ["rival.dev_rates"] if rival.get("dev_rates") else []
    if rival.get("successes") is not None and old["models"].get("rival") is None:
        left.append("rival.success_rate")
    return left


def _rates(old: Mapping[str, Any], made: Mapping[str, Any], side: str) -> dict[str, Any]:
    by_first_line = side == "rival"
    before, after = (
        found["models"][side]["first_line"] if by_first_line else found["models"][side] for found in (old, made)
    )
    return {
        "scored": "first line" if by_first_line else "whole output",
        "before": before["successes"],
        "after": after["successes"],
        "total": after["total"],
    }
