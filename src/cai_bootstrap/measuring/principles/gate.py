"""The gate of the constitution stage: a results file, read back from disk and judged alone."""

from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.constitution import Constitution
from cai_bootstrap.errors import GateError, UntrustedResultError
from cai_bootstrap.measuring.own_run import principle_adapter_fault
from cai_bootstrap.measuring.principles.declared import PrincipleResults, Verdict
from cai_bootstrap.measuring.principles.findings import in_words, verdict_of
from cai_bootstrap.measuring.principles.results import read_principle_results
from cai_bootstrap.measuring.wording import one_line
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder


@dataclass(frozen=True)
class PrincipleVerdict:
    """The verdict on a file. `passed` is None where nothing was decided; `lines` say what each principle shows."""

    verdict: Verdict
    passed: bool | None
    message: str
    lines: tuple[str, ...]

    def demand(self) -> None:
        """Raises GateError with the message if a principle that was to be held is not."""
        if self.passed is False:
            raise GateError(self.message)


def judge_principle_file(
    path: Path, *, enforce: bool = True, constitution: Constitution | None = None, workspace: RunFolder | None = None
) -> PrincipleVerdict:
    """Judge a results file of the constitution stage. `enforce` False only words a verdict that fails no run.

    `workspace` is the run's, where the file does not lie in its base directory. Raises UntrustedResultError if the
    file cannot be trusted, is not of `constitution` where one is given, holds no trained model, or names an adapter
    that its run did not train. A principle that is not held is no error here, see `PrincipleVerdict.demand`.
    """
    results = read_principle_results(path, constitution)
    if results.arms.trained is None:
        raise UntrustedResultError(f"{path}: a baseline: it holds no trained model that could be judged")
    must_be_own(path, results, workspace)
    return judge_principles(results, enforce=enforce)


def must_be_own(path: Path, results: PrincipleResults, workspace: RunFolder | None = None) -> None:
    """Raises UntrustedResultError for results whose adapters are not those of the run in whose base directory they lie.

    Whoever says of a trained model that principles are held asks this first.
    """
    workspace = workspace or RunFolder.around(path, CONSTITUTION)
    fault = None if workspace is None else principle_adapter_fault(workspace, path, results)
    if fault is not None:
        raise UntrustedResultError(f"{path}: {one_line(fault)}; this is no measurement of this run, evaluate again")


def judge_principles(results: PrincipleResults, *, enforce: bool = True) -> PrincipleVerdict:
    """The verdict on results that were built here, or read and checked."""
    verdict, message = verdict_of(results)
    lines = tuple(in_words(id, figures) for id, figures in results.principles.items())
    if verdict == "not_held":
        message = f"Constitution {'FAILED' if enforce else 'not held (not enforced in this run)'}: {message}"
    elif verdict == "held":
        message = f"Constitution held: {message}"
    return PrincipleVerdict(verdict, results.gate.passed, message, lines)
