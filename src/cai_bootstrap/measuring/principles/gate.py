"""The gate of the constitution stage: a results file, read back from disk and judged alone."""

from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.constitution import Constitution
from cai_bootstrap.errors import GateError
from cai_bootstrap.measuring.principles.declared import PrincipleResults, Verdict
from cai_bootstrap.measuring.principles.findings import in_words, verdict_of
from cai_bootstrap.measuring.principles.results import read_principle_results


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
    path: Path, *, enforce: bool = True, constitution: Constitution | None = None
) -> PrincipleVerdict:
    """Judge a results file of the constitution stage. `enforce` False only words a verdict that fails no run.

    Raises UntrustedResultError if the file cannot be trusted, or is not of `constitution` where one is given. A
    principle that is not held is no error here, see `PrincipleVerdict.demand`.
    """
    return judge_principles(read_principle_results(path, constitution), enforce=enforce)


def judge_principles(results: PrincipleResults, *, enforce: bool = True) -> PrincipleVerdict:
    """The verdict on results that were built here, or read and checked."""
    verdict, message = verdict_of(results)
    lines = tuple(in_words(id, figures) for id, figures in results.principles.items())
    if verdict == "not_held":
        message = f"Constitution {'FAILED' if enforce else 'not held (not enforced in this run)'}: {message}"
    elif verdict == "held":
        message = f"Constitution held: {message}"
    return PrincipleVerdict(verdict, results.gate.passed, message, lines)
