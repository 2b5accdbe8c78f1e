"""How a benchmark's figures are shown: by report, model card and terminal in the same rows and words."""

from cai_bootstrap.measuring.benchmarks.results import SIDES, BenchmarkResults, Share, SideName
from cai_bootstrap.measuring.results import percent

HEAD = ("Model", "Prompts followed", "95% interval", "Instructions followed", "95% interval", "Ended")
LABELS: dict[SideName, str] = {
    "base": "before: raw base",
    "trained": "after: trained",
    "base_bare": "before, without the line break",
    "trained_bare": "after, without the line break",
}


def rows(results: BenchmarkResults) -> list[list[str]]:
    """A row for each side that was asked."""
    return [
        [
            LABELS[side],
            *_cells(results.shares[side].prompts),
            *_cells(results.shares[side].instructions),
            f"{results.shares[side].finished} of {len(results.items)}",
        ]
        for side in SIDES
        if side in results.shares
    ]


def caption(results: BenchmarkResults) -> str:
    """What the rows are."""
    return f"{results.title}, strict accuracy before and after training"


def note(results: BenchmarkResults) -> str:
    """Whose verdicts these are, on what, and what may be compared with them."""
    changes = "; ".join(
        f"{name}: {change.gained} prompts gained, {change.lost} lost (McNemar p = {change.mcnemar_p:.2g})"
        for name, change in results.changes.items()
    )
    whole = (
        f"Not comparable with published figures: {reasons}."
        if (reasons := results.unlike_published)
        else "The published set's hash is not known here: before comparing these figures with published ones, compare "
        "the prompts."
    )
    return (
        f"{whole} {len(results.items)} prompts of {results.prompts.source} (sha256 {results.prompts.sha256[:12]}), "
        f"judged by {results.checkers.package} {results.checkers.version}'s own strict checkers; greedy, at most "
        f"{results.conditions.max_new_tokens} tokens, {results.conditions.precision}. They read the whole text and do "
        f"not ask that the model ended it. {changes}."
    )


def _cells(share: Share) -> tuple[str, str]:
    return percent(share.successes, share.total), f"{share.interval[0]:.1%} – {share.interval[1]:.1%}"
