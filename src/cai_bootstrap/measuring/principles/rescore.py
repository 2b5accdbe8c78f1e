"""Judge a results file of the constitution stage again, after a change of the scorers that its rules are made of.

The stored answers are judged by the same rules with the present scorers, and every figure is computed from that. What
the file holds no answers of (dev rates, the judges' agreement with people, what was measured beside) stays, and is
named; so do the verdicts of a model as judge.
"""

from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.measuring.principles.declared import (
    JudgedAnswer,
    PrincipleItem,
    PrincipleResults,
    RescoredPrinciples,
    VerdictChange,
)
from cai_bootstrap.measuring.principles.faults import judging_of
from cai_bootstrap.measuring.principles.figures import ARMS, Arm
from cai_bootstrap.measuring.principles.judged import judge_answer, model_verdicts_of
from cai_bootstrap.measuring.principles.results import (
    derived,
    read_older_principle_results,
    write_principle_results,
)
from cai_bootstrap.measuring.rescore import rescored_path
from cai_bootstrap.measuring.results import Output


@dataclass(frozen=True)
class RescoredFile:
    """Where the new file is, the results before and after, and what changed."""

    path: Path
    before: PrincipleResults
    results: PrincipleResults
    block: RescoredPrinciples


def rescore_principle_file(path: Path, out: Path | None = None) -> RescoredFile:
    """Judge the answers of a results file again and write a results file of this scorer version, atomically.

    The old file is checked first in all that does not need its own scorers, and stays as it is unless `out` names it.
    Raises UntrustedResultError if the file cannot be trusted or is not of an older version.
    """
    out = out or rescored_path(path)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out names the file to write")
    old = read_older_principle_results(path)
    items = [_judged_again(old, item) for item in old.items]
    block = RescoredPrinciples(
        from_scorer_version=old.conditions.scorer_version,
        source_sha256=sha256_file(path),
        changed={arm: _changes(old, items, arm) for arm in ARMS if arm in old.arms.present()},
        not_rescored=_left(old),
        before=old.rescored,
    )
    conditions = old.conditions.model_copy(update={"scorer_version": SCORER_VERSION})
    again = derived(old, conditions, items, old.gate.threshold, old.gate.enforced)
    again = again.model_copy(update={"rescored": block})
    write_principle_results(out, again)
    return RescoredFile(out, old, again, block)


def _judged_again(old: PrincipleResults, item: PrincipleItem) -> PrincipleItem:
    judging, prompt = judging_of(old), item.prompt()
    answers: dict[str, JudgedAnswer] = {
        arm: judge_answer(
            judging, prompt, Output(stored.response, stored.finished), model_verdicts_of(judging, prompt, stored)
        )
        for arm, stored in item.answers().items()
    }
    return item.model_copy(update=answers)


def _changes(old: PrincipleResults, items: list[PrincipleItem], arm: Arm) -> list[VerdictChange]:
    """Every verdict on an answer of this arm, by first line or as a whole, that is another one now."""
    changes = []
    for was, now in zip(old.items, items, strict=True):
        before, after = was.answers()[arm], now.answers()[arm]
        for id in sorted(before.holds):
            if before.holds[id] != after.holds[id]:
                changes.append(VerdictChange(prompt=was.id, principle=id, scored="first line", before=before.holds[id]))
            if before.strict[id] != after.strict[id]:
                changes.append(
                    VerdictChange(prompt=was.id, principle=id, scored="whole output", before=before.strict[id])
                )
    return changes


def _left(old: PrincipleResults) -> list[str]:
    """What the file holds figures of but no answers."""
    left = [f"judges.{id}.kappa" for id, judge in old.judges.items() if judge.kappa is not None]
    if old.rival is not None and old.rival.dev_rates:
        left.append("rival.dev_rates")
    beside = old.beside
    for name in ("content", "openings", "opposite", "line_break"):
        if getattr(beside, name) is not None:
            left.append(f"beside.{name}")
    return left
