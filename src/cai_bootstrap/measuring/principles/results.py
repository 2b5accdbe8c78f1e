"""Principles' results files: built in one place, and believed only after everything in them has been computed again.

A file holds every answer, every prompt and every rule. Whoever reads one judges the answers again and derives each
verdict, rate, bound and finding from them; the first that disagrees makes the file untrusted. The verdicts of a model
as judge, and what was measured beside, cannot be derived without that model; they stand as they were written.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cai_bootstrap.constitution import Constitution, Principle
from cai_bootstrap.errors import DataError, UntrustedResultError, UsageError
from cai_bootstrap.files import write_json
from cai_bootstrap.judging.own.names import names_in
from cai_bootstrap.judging.scorers import SCORER_VERSION
from cai_bootstrap.judging.scorers.registry import find_check
from cai_bootstrap.measuring.conditions import Conditions
from cai_bootstrap.measuring.disagreements import differences
from cai_bootstrap.measuring.parsing import first_problem, parse_results_file
from cai_bootstrap.measuring.principles.beside_block import Beside, beside_faults
from cai_bootstrap.measuring.principles.declared import (
    Arms,
    Constituted,
    ConstitutionRun,
    DescribedConstitution,
    DescribedPrinciple,
    JudgeRecord,
    Judging,
    ModelVerdicts,
    PrincipleFile,
    PrincipleItem,
    PrincipleResults,
    PromptedRival,
    arm_factors,
)
from cai_bootstrap.measuring.principles.faults import (
    answers_sha256,
    claim_faults,
    condition_faults,
    judge_faults,
    judging_of,
    missing_verdicts,
    prompt_faults,
    prompts_block,
    verdict_faults,
)
from cai_bootstrap.measuring.principles.figures import ARMS, Arm
from cai_bootstrap.measuring.principles.findings import gate_of
from cai_bootstrap.measuring.principles.joint import joint_of
from cai_bootstrap.measuring.principles.judged import judge_answer
from cai_bootstrap.measuring.principles.kinds import added_words
from cai_bootstrap.measuring.principles.summary import THRESHOLD, summarise
from cai_bootstrap.measuring.results import Measured
from cai_bootstrap.measuring.stages import is_principle_file
from cai_bootstrap.measuring.wording import one_line, short
from cai_bootstrap.records import Prompt
from cai_bootstrap.run.folder import CONSTITUTION

SCHEMA_VERSION = 1
__all__ = [
    "SCHEMA_VERSION",
    "THRESHOLD",
    "Asked",
    "JudgeRecord",
    "Judges",
    "build_principle_results",
    "derived",
    "is_principle_file",
    "read_older_principle_results",
    "read_principle_results",
    "write_principle_results",
]


@dataclass(frozen=True)
class Asked:
    """The arms as they were asked: each one's outputs by prompt id, and its declared factors.

    `base` is the raw base. `rival` comes with `prompting`, `control` with the constitution that it was made by.
    """

    base: Measured
    trained: Measured | None = None
    rival: Measured | None = None
    control: Measured | None = None
    prompting: PromptedRival | None = None
    control_constitution: Constituted | None = None

    def present(self) -> dict[Arm, Measured]:
        """The arms that were measured, in the order of `ARMS`."""
        arms = {arm: getattr(self, arm) for arm in ARMS}
        return {arm: measured for arm, measured in arms.items() if measured is not None}


@dataclass(frozen=True)
class Judges:
    """Who judges each principle, by its id; a model's verdicts on first lines, by principle, arm and prompt id.

    `rule_selected` are the principles whose pairs a check chose.
    """

    records: Mapping[str, JudgeRecord]
    model_verdicts: ModelVerdicts = field(default_factory=dict)
    rule_selected: Collection[str] = ()


def build_principle_results(
    *,
    constitution: Constitution,
    prompts: Sequence[Prompt],
    conditions: Conditions,
    asked: Asked,
    judges: Judges,
    beside: Beside | None = None,
    run: ConstitutionRun | None = None,
    threshold: float = THRESHOLD,
    enforced: bool = False,
) -> PrincipleResults:
    """Judge the outputs of each arm and put a whole results file together. Without `asked.trained` it is a baseline.

    `prompts` are the held-out ones (test, unseen, matched) in the order in which they were asked; `conditions` name
    their set as the suite. Raises DataError if outputs, prompts, judges and conditions do not belong together.
    """
    described = _described(constitution, judges.rule_selected)
    judging = Judging({principle.id: principle for principle in described.principles}, judges.records)
    _must_belong(judging, prompts, conditions, asked)
    items = [_item(judging, judges.model_verdicts, prompt, asked) for prompt in prompts]
    beside = beside or Beside()
    for faults in (missing_verdicts(judging, items), beside_faults(beside, judging.principles)):
        if fault := next(faults, None):
            raise DataError(one_line(fault))
    principles = summarise(judging, items, threshold)
    return PrincipleResults(
        schema_version=SCHEMA_VERSION,
        conditions=conditions,
        constitution=described,
        control=asked.control_constitution,
        prompts=prompts_block(conditions, prompts),
        judges=dict(judges.records),
        arms=_arms(prompts, asked),
        rival=asked.prompting,
        principles=principles,
        joint=joint_of(judging, items),
        beside=beside,
        gate=gate_of(principles, threshold, enforced),
        run=run,
        items=items,
    )


def write_principle_results(path: Path, results: PrincipleResults) -> None:
    """Write a results file atomically. Raises DataError, writing nothing, if it holds NaN or infinity."""
    try:
        write_json(path, results.as_dict())
    except ValueError as error:
        raise DataError(f"{path}: not written: the results hold a value that is not JSON: {error}") from error


def read_principle_results(path: Path, constitution: Constitution | None = None) -> PrincipleResults:
    """Read a results file and compute everything in it again from its answers.

    With `constitution` the file must be of it. Raises UntrustedResultError naming the first thing that disagrees.
    """
    claims, raw = parse_results_file(path, PrincipleFile, CONSTITUTION, SCHEMA_VERSION)
    if constitution is not None:
        selected = {principle.id for principle in claims.constitution.principles if principle.rule_selected}
        described = _described(constitution, selected).model_dump(mode="json")
        _must_agree(path, differences("constitution", raw["constitution"], described))
    return _believed(path, claims, raw)


def read_older_principle_results(path: Path) -> PrincipleResults:
    """Read a results file of an older scorer version. Its rules' verdicts cannot be derived again here.

    Everything else is checked: judges, prompts, answers, conditions, and that all figures are those of the verdicts as
    they stand. Raises UntrustedResultError naming the first thing that disagrees, or if the file is of these scorers.
    """
    claims, raw = parse_results_file(path, PrincipleFile, CONSTITUTION, SCHEMA_VERSION)
    version = claims.conditions.scorer_version
    if not version.isdigit() or not 1 <= int(version) < int(SCORER_VERSION):
        raise UntrustedResultError(
            f"{path}: was scored by version {version!r} of the scorers, here is {SCORER_VERSION!r}; only results of an "
            "older version can be scored again"
        )
    return _believed(path, claims, raw, older=True)


def _must_be_judgeable(path: Path, claims: PrincipleFile) -> None:
    """Raises UntrustedResultError where a check is code that is not trusted here: a file must not make it run."""
    for principle in claims.constitution.principles:
        for name in names_in([principle.check, principle.judge]):
            try:
                known = find_check(str(name))
            except UsageError as error:
                who = f"{path}: the principle {short(principle.id)}"
                raise UntrustedResultError(f"{who}: {one_line(str(error))}") from error
            if known is None:
                raise UntrustedResultError(
                    f"{path}: the principle {short(principle.id)} is judged by {short(str(name))}, whose source the "
                    "file does not tell; the file cannot be trusted, evaluate again"
                )


def _believed(path: Path, claims: PrincipleFile, raw: Mapping[str, Any], *, older: bool = False) -> PrincipleResults:
    """The results whose figures the answers give, once nothing in the file disagrees with them."""
    conditions = Conditions.model_validate(raw["conditions"])
    _must_be_judgeable(path, claims)
    _must_agree(path, claim_faults(claims, conditions, older=older))
    judging = judging_of(claims)
    _must_agree(path, beside_faults(claims.beside, judging.principles))
    _must_agree(path, missing_verdicts(judging, claims.items))
    if not older:
        _must_agree(path, verdict_faults(judging, claims.items))
    threshold, enforced = _gate_settings(path, raw["gate"])
    again = derived(claims, conditions, claims.items, threshold, enforced)
    for id in sorted(again.principles.keys() | raw["principles"].keys()):
        if id not in again.principles or id not in raw["principles"]:
            _must_agree(path, iter([f"principles.{id} is not one of the constitution's, or is missing"]))
        _must_agree(path, differences(f"principles.{id}", raw["principles"][id], _json(again.principles[id])))
    _must_agree(path, differences("joint", raw["joint"], _json(again.joint)))
    _must_agree(path, differences("gate", raw["gate"], _json(again.gate)))
    return again


def derived(
    claims: PrincipleFile | PrincipleResults,
    conditions: Conditions,
    items: Sequence[PrincipleItem],
    threshold: float,
    enforced: bool,
) -> PrincipleResults:
    """The results whose figures are those of these judged items; all that was measured otherwise is the claims'."""
    judging = judging_of(claims)
    principles = summarise(judging, items, threshold)
    return PrincipleResults(
        schema_version=claims.schema_version,
        conditions=conditions,
        constitution=claims.constitution,
        control=claims.control,
        prompts=claims.prompts,
        judges=claims.judges,
        arms=claims.arms,
        rival=claims.rival,
        principles=principles,
        joint=joint_of(judging, items),
        beside=claims.beside,
        gate=gate_of(principles, threshold, enforced),
        run=claims.run,
        items=list(items),
        rescored=claims.rescored,
    )


def _described(constitution: Constitution, rule_selected: Collection[str]) -> DescribedConstitution:
    return DescribedConstitution(
        name=constitution.name,
        sha256=constitution.sha256,
        principles=[_principle(principle, principle.id in rule_selected) for principle in constitution.principles],
    )


def _principle(principle: Principle, rule_selected: bool) -> DescribedPrinciple:
    return DescribedPrinciple(
        id=principle.id,
        text=principle.text,
        check=None if principle.check is None else dict(principle.check),
        judge=None if principle.judge is None else dict(principle.judge),
        applies_to=list(principle.applies_to),
        conditional=principle.matched is not None,
        rule_selected=rule_selected,
        added=added_words(principle.demonstrations),
    )


def _item(judging: Judging, verdicts: ModelVerdicts, prompt: Prompt, asked: Asked) -> PrincipleItem:
    answers = {
        arm: judge_answer(judging, prompt, measured.outputs[prompt.id], _verdicts_on(verdicts, arm, prompt.id))
        for arm, measured in asked.present().items()
    }
    return PrincipleItem.model_validate({**prompt.model_dump(), **answers})


def _verdicts_on(verdicts: ModelVerdicts, arm: Arm, prompt_id: str) -> dict[str, bool]:
    by_principle = {id: arms.get(arm, {}) for id, arms in verdicts.items()}
    return {id: given[prompt_id] for id, given in by_principle.items() if prompt_id in given}


def _arms(prompts: Sequence[Prompt], asked: Asked) -> Arms:
    blocks: dict[str, Any] = dict.fromkeys(ARMS)
    for arm, measured in asked.present().items():
        outputs = [measured.outputs[prompt.id] for prompt in prompts]
        factors = arm_factors(arm, measured.factors)
        blocks[arm] = {"factors": factors, "answers_sha256": answers_sha256(prompts, outputs)}
    return Arms.model_validate(blocks)


def _must_belong(judging: Judging, prompts: Sequence[Prompt], conditions: Conditions, asked: Asked) -> None:
    if not prompts:
        raise DataError("no held-out prompts: nothing to judge")
    faults = [judge_faults(judging), prompt_faults(dict(judging.principles), prompts)]
    for check in [*faults, condition_faults(conditions, prompts)]:
        if fault := next(check, None):
            raise DataError(one_line(fault))
    ids = {prompt.id for prompt in prompts}
    for arm, measured in asked.present().items():
        if odd := sorted(ids.symmetric_difference(measured.outputs)):
            raise DataError(f"{arm}: answers and prompts differ in {len(odd)} prompts, first {short(odd[0])}")
        try:
            arm_factors(arm, measured.factors)
        except ValidationError as error:
            raise DataError(f"{arm}: these are no declared factors of it: {first_problem(error)}") from error
    if (asked.prompting is None) != (asked.rival is None):
        raise DataError("the rival needs both its answers and a description of its prompting")
    if (asked.control_constitution is None) != (asked.control is None):
        raise DataError("the control needs both its answers and the constitution that it was made by")


def _gate_settings(path: Path, gate: Mapping[str, Any]) -> tuple[float, bool]:
    """What of the gate's block was set and not found: the threshold, and whether it is enforced."""
    threshold, enforced = gate.get("threshold"), gate.get("enforced")
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        raise UntrustedResultError(f"{path}: gate.threshold is {short(threshold)}, no share between 0 and 1")
    if not isinstance(enforced, bool):
        raise UntrustedResultError(f"{path}: gate.enforced is {short(enforced)}, neither true nor false")
    return threshold, enforced


def _must_agree(path: Path, faults: Any) -> None:
    if (fault := next(faults, None)) is not None:
        raise UntrustedResultError(f"{path}: {one_line(fault)}; the file cannot be trusted, evaluate again")


def _json(block: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = block.model_dump(mode="json")
    return dumped
