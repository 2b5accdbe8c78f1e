"""The gate: a results file, read back from disk and judged alone.

The file's own gate block is ignored, every response is scored again, the suite's items must be there exactly, each
once, and what the file declares of how it was measured must meet the gate's demands (`demands`). Nothing in a file can
prove that a model wrote the responses; a file that says of itself that it was measured otherwise is refused. Stage 1
can be passed on the whole test suite only; a shipped subset (as of a quick test) or a user's own suite is judged by
the same threshold, and its message says which it was.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import GateError, UntrustedResultError
from cai_bootstrap.judging.statistics import THRESHOLD_PERCENT, meets_gate
from cai_bootstrap.judging.suite import (
    USER_VERSION,
    WHOLE_SUITE,
    Suite,
    kind_of_items,
    load_suite,
    shipped_name,
    undecided_on,
)
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.demands import unmet
from cai_bootstrap.measuring.own_run import adapter_fault
from cai_bootstrap.measuring.results import percent, read_results
from cai_bootstrap.measuring.wording import one_line
from cai_bootstrap.run.folder import RunFolder


@dataclass(frozen=True)
class GateVerdict:
    """Whether the trained model followed at least `threshold` of the held-out items; `message` says it in a line.

    `suite` is the suite's name. `undecided` says on what the model was judged if Stage 1 cannot be passed on it: a
    shipped subset, or a user's own suite. `subset` names the subset; None for the whole suite and a user's own.
    `shown_95` is another statement: whether the true rate is at least 95% with 95% confidence, by the exact and by the
    template-cluster bound.
    """

    passed: bool
    successes: int
    total: int
    threshold: float
    message: str
    shown_95: bool
    shown_message: str
    suite: str
    undecided: str | None = None
    subset: str | None = None

    def demand(self) -> None:
        """Raises GateError with the message if the gate was not passed."""
        if not self.passed:
            raise GateError(self.message)


def judge_file(
    path: Path, *, enforce: bool = True, suite: Suite | None = None, workspace: RunFolder | None = None
) -> GateVerdict:
    """Judge a results file. `enforce` False only words the message for a run that does not fail by it.

    `suite` is needed for a user's own suite. `workspace` is the run's, where the file does not lie in its base
    directory. Raises UntrustedResultError if the file cannot be trusted, was measured otherwise than Stage 1 is, or
    holds no trained model; a failed gate is no error here, see `GateVerdict.demand`.
    """
    results = read_results(path, suite)
    held_out = suite if suite is not None else load_suite(results.suite.name)
    undecided = undecided_on(held_out.name, held_out.sha256)
    shipped = shipped_name(held_out.sha256)
    subset = None if shipped == WHOLE_SUITE else shipped
    own = subset is None or held_out.version == USER_VERSION
    if own and any(item.split != "test" for item in held_out.items):
        raise UntrustedResultError(
            f"{path}: measured on dev items ({one_line(held_out.name)}); the gate judges test items only"
        )
    trained = results.models.trained
    if trained is None:
        raise UntrustedResultError(f"{path}: a baseline: it holds no trained model that could be judged")
    must_meet_demands(path, results, workspace)
    successes, total = trained.successes, trained.total
    passed = meets_gate(successes, total)
    message = (
        f"{_verdict(passed, enforce, undecided)}: {percent(successes, total)} of {total} "
        f"{kind_of_items(held_out.name)} instructions followed, "
        f"{THRESHOLD_PERCENT}% needed"
    )
    if undecided is not None and passed:
        message += f"; Stage 1 itself is judged on the whole suite '{WHOLE_SUITE}'"
    rate = results.statistics.rates["trained"]
    # Rounded down like a rate: a bound is a claim too.
    exact, cluster = (f"{math.floor(1000 * bound) / 10:.1f}%" for bound in (rate.exact_lower, rate.cluster_lower))
    bounds = f"exact bound {exact}, template-cluster bound {cluster}"
    shown = f"≥ 95% {'shown' if rate.shown_95 else 'not shown'} at 95% confidence ({bounds})"
    return GateVerdict(
        passed, successes, total, THRESHOLD_PERCENT / 100, message, rate.shown_95, shown, held_out.name, undecided,
        subset,
    )  # fmt: skip


def must_meet_demands(path: Path, results: Results, workspace: RunFolder | None = None) -> None:
    """Raises UntrustedResultError for results that do not meet the gate's demands.

    Whoever says of a trained model that the threshold was reached asks this first.
    """
    fault = next(unmet(results), None)
    workspace = workspace or RunFolder.around(path)
    if fault is None and workspace is not None:
        fault = adapter_fault(workspace, path, results)
    if fault is not None:
        raise UntrustedResultError(f"{path}: {one_line(fault)}; this is no measurement of Stage 1, evaluate again")


def _verdict(passed: bool, enforce: bool, undecided: str | None) -> str:
    if passed:
        return "Stage 1 passed" if undecided is None else f"threshold reached on {undecided}"
    word = "FAILED" if enforce else "not reached (the gate is not enforced in this run)"
    return f"Stage 1 {word}" if undecided is None else f"Stage 1 {word} on {undecided}"
