"""What a finished step measured or made, as figures by name, read from the files that it wrote."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cai_bootstrap.errors import CaiError
from cai_bootstrap.measuring.declared import StoredRates
from cai_bootstrap.measuring.principles.declared import StoredPrincipleRates
from cai_bootstrap.run.counts import GenerationSummary, SteeringSummary, read_counts
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.run.markers import read_outputs, read_typed

Figures = dict[str, float | None]


def step_figures(workspace: RunFolder, step: str, number: int) -> Figures:
    """The figures of a step of round `number` that has ended; none where its files cannot be read."""
    figures: Figures = {}
    with suppress(CaiError, OSError):  # whoever uses the file says what is wrong with it
        if step == "baseline":
            figures |= stated_rates(workspace.baseline, workspace)
        elif step == "evaluate" and (outputs := read_outputs(workspace, "evaluate")) is not None:
            figures |= stated_rates(outputs.path("results"), workspace)
        elif step == "generate":
            figures |= dict(_counts(workspace, number))
    return figures


def stated_rates(results: Path, workspace: RunFolder) -> Figures:
    """The rates that a results file states: `success_rate/trained`; of principles `thanks/trained`, by first line.

    Raises UntrustedResultError for a file that is none.
    """
    if workspace.stage is CONSTITUTION:
        principles = read_typed(results, StoredPrincipleRates, "").principles
        return {f"{id}/{arm}": rate for id, arms in principles.items() for arm, rate in arms.rates().items()}
    sides = read_typed(results, StoredRates, "").statistics.rates
    return {f"success_rate/{side}": rate.success_rate for side, rate in sides.items()}


def _counts(workspace: RunFolder, number: int) -> Iterator[tuple[str, float | None]]:
    """How many pairs there are; of a constitution also by principle, and how many revisions changed the answer."""
    path = workspace.round_data(number).summary
    if workspace.stage is not CONSTITUTION:
        yield "data/pairs", read_counts(path, GenerationSummary).pairs
        return
    summary = read_counts(path, SteeringSummary)
    yield "data/pairs", summary.pairs
    for id, turn in summary.by_principle.items():
        yield f"{id}/pairs", turn.pairs
        yield f"{id}/changed", turn.changed / turn.asked if turn.asked else None
