"""The gate: a results file, read back from disk and judged alone.

It looks at responses only. The file's own gate block is ignored, every response is scored again, and the suite's
items must be there exactly, each once. Stage 1 can be passed on the whole test suite, or on a user's own; a shipped
subset (as of a quick test) is judged by the same threshold, and its message says which subset it was.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import GateError, UntrustedResultError
from cai_bootstrap.evaluation.results import percent, read_results
from cai_bootstrap.evaluation.statistics import THRESHOLD_PERCENT, meets_gate
from cai_bootstrap.evaluation.suite import WHOLE_SUITE, Suite, kind_of_items, load_suite, subset_of


@dataclass(frozen=True)
class GateVerdict:
    """Whether the trained model followed at least `threshold` of the held-out items; `message` says it in a line.

    `subset` names the shipped subset that was judged, on which Stage 1 cannot be passed; None for a whole suite.
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
    subset: str | None = None

    def demand(self) -> None:
        """Raises GateError with the message if the gate was not passed."""
        if not self.passed:
            raise GateError(self.message)


def judge_file(path: Path, *, enforce: bool = True, suite: Suite | None = None) -> GateVerdict:
    """Judge a results file. `enforce` False only words the message for a run that does not fail by it.

    `suite` is needed for a user's own suite. Raises UntrustedResultError if the file cannot be trusted or holds no
    trained model; a failed gate is no error here, see `GateVerdict.demand`.
    """
    results = read_results(path, suite)
    held_out = suite if suite is not None else load_suite(results["suite"]["name"])
    subset = subset_of(held_out.name, held_out.version)
    if subset is None and any(item.split != "test" for item in held_out.items):
        raise UntrustedResultError(f"{path}: measured on dev items ({held_out.name}); the gate judges test items only")
    trained = results["models"].get("trained")
    if trained is None:
        raise UntrustedResultError(f"{path}: a baseline: it holds no trained model that could be judged")
    successes, total = trained["successes"], trained["total"]
    passed = meets_gate(successes, total)
    message = (
        f"{_verdict(passed, enforce, subset)}: {percent(successes, total)} of {total} "
        f"{kind_of_items(held_out.name)} instructions followed, "
        f"{THRESHOLD_PERCENT}% needed"
    )
    if subset is not None and passed:
        message += f"; Stage 1 itself is judged on the whole suite '{WHOLE_SUITE}'"
    rate = results["statistics"]["rates"]["trained"]
    # Rounded down like a rate: a bound is a claim too.
    exact, cluster = (f"{math.floor(1000 * rate[bound]) / 10:.1f}%" for bound in ("exact_lower", "cluster_lower"))
    bounds = f"exact bound {exact}, template-cluster bound {cluster}"
    shown = f"≥ 95% {'shown' if rate['shown_95'] else 'not shown'} at 95% confidence ({bounds})"
    return GateVerdict(passed, successes, total, THRESHOLD_PERCENT / 100, message, rate["shown_95"], shown, subset)


def _verdict(passed: bool, enforce: bool, subset: str | None) -> str:
    if passed:
        return "Stage 1 passed" if subset is None else f"threshold reached on the subset '{subset}'"
    word = "FAILED" if enforce else "not reached (the gate is not enforced in this run)"
    return f"Stage 1 {word}" if subset is None else f"Stage 1 {word} on the subset '{subset}'"
