"""What a run's results say of the run: its verdict, exit code and message, for each stage, read back from disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import EXIT_GATE, EXIT_OK, UntrustedResultError
from cai_bootstrap.judging.suite import NAMED_SUITES, load_suite
from cai_bootstrap.measuring.declared import StoredResults
from cai_bootstrap.measuring.gate import judge_file
from cai_bootstrap.measuring.principles.findings import nothing_to_teach as leaves_nothing
from cai_bootstrap.measuring.principles.gate import judge_principle_file
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.run.markers import check_outputs, read_outputs, read_typed

MEASURE_AGAIN = "measure it again: cai baseline"


@dataclass(frozen=True)
class StageVerdict:
    """How a run's results end it. `passed` is None where nothing was decided."""

    verdict: str
    exit_code: int
    message: str
    passed: bool | None
    enforced: bool


def results_file(workspace: RunFolder) -> Path:
    """The results file that the evaluation wrote last. Raises UntrustedResultError if none ended here."""
    outputs = read_outputs(workspace, "evaluate")
    if outputs is None:
        raise UntrustedResultError(f"{workspace.logs}: no evaluation ended here; run `cai evaluate`")
    path = outputs.path("results")
    outputs.check(path, "evaluate again: cai evaluate")
    return path


def judge_run(path: Path, workspace: RunFolder, config: RunConfig, *, enforced: bool) -> StageVerdict:
    """Judge the results file of a run: the only place where a run can be said to have passed.

    Raises UntrustedResultError if the file cannot be trusted.
    """
    judge: Callable[[Path, RunFolder, RunConfig, bool], StageVerdict]
    judge = _judge_principles if workspace.stage is CONSTITUTION else _judge_instructions
    return judge(path, workspace, config, enforced)


def nothing_to_teach(workspace: RunFolder) -> bool:
    """Whether the baseline, if it was measured here, leaves nothing to teach. Raises UntrustedResultError if it was
    changed."""
    path = workspace.baseline
    if not path.exists():
        return False
    check_outputs(workspace, "baseline", MEASURE_AGAIN)
    if workspace.stage is CONSTITUTION:
        return leaves_nothing(read_principle_results(path))
    run = read_typed(path, StoredResults, MEASURE_AGAIN).run
    return run is not None and run.gap is not None and run.gap.nothing_to_teach


def _judge_instructions(path: Path, workspace: RunFolder, config: RunConfig, enforced: bool) -> StageVerdict:
    settings = config.evaluation
    suite = None if settings.suite in NAMED_SUITES else load_suite(settings.suite)
    judged = judge_file(path, enforce=enforced, suite=suite, workspace=workspace)
    verdict = "passed" if judged.passed else "failed"
    if not enforced or (judged.passed and judged.subset is not None):
        verdict = "not_enforced"
    code = EXIT_OK if judged.passed or not enforced else EXIT_GATE
    return StageVerdict(verdict, code, judged.message, judged.passed, enforced)


def _judge_principles(path: Path, workspace: RunFolder, _config: RunConfig, enforced: bool) -> StageVerdict:
    judged = judge_principle_file(path, enforce=enforced, workspace=workspace)
    code = EXIT_GATE if enforced and judged.passed is False else EXIT_OK
    return StageVerdict(judged.verdict, code, judged.message, judged.passed, enforced)
