"""The tables of `cai pod`: the check, the estimate, the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cai_bootstrap.pod.check import Checked
from cai_bootstrap.pod.estimate import Estimate
from cai_bootstrap.pod.ledger import Rental
from cai_bootstrap.printable import duration, one_line

UNKNOWN = "not measured"


def check_table(checked: Checked) -> Table:
    """What `check` found."""
    table = Table("check", "result", "detail")
    for finding in checked.findings:
        table.add_row(finding.name, finding.level, Text(finding.detail))
    return table


def print_estimate(console: Console, planned: Estimate, price: float, budget: float | None) -> None:
    """Hours and dollars per step before anything costs."""
    table = Table(
        "step",
        "hours",
        "dollars",
        title=Text(f"Estimate for preset {one_line(str(planned.preset))} at {price:.2f} $/h"),
    )
    rows = [(step.step, step.seconds, step.dollars) for step in planned.steps]
    for name, seconds, dollars in [*rows, ("all", planned.seconds, planned.dollars)]:
        hours = UNKNOWN if seconds is None else f"{seconds / 3600:.2f}"
        table.add_row(name, hours, UNKNOWN if dollars is None else f"{dollars:.2f}")
    console.print(table)
    limit = f"{budget:.2f} $" if budget else "none"
    console.print(Text(f"Rates: {planned.source}. Budget: {limit}. Set-up and transfers come on top."))
    if budget and planned.dollars and planned.dollars > budget:
        console.print(Text("The estimate is above the budget: the job would be ended before it is done."))


def print_costs(console: Console, rentals: Sequence[Rental]) -> None:
    """Every rental, and planned against used per step where a run has told its steps."""
    table = Table("pod", "start (UTC)", "start known from", "end (UTC)", "$/h", "total $")
    for rental in rentals:
        table.add_row(
            Text(one_line(f"{rental['pod']} {rental['address']}")),
            _moment(rental["started"]),
            Text(one_line(str(rental["start_known_from"]))),
            _moment(rental["ended"]),
            f"{rental['price']:.2f}",
            f"{rental['total']:.2f}",
        )
    console.print(table)
    for rental in rentals:
        if rental.get("steps"):
            console.print(_steps_table(rental))


def _steps_table(rental: Rental) -> Table:
    estimate: dict[str, Any] = rental.get("estimate") or {}
    planned = {step["step"]: step["seconds"] for step in estimate.get("steps", [])}
    rate = rental["price"] / 3600
    table = Table(
        "step",
        "planned",
        "used",
        "planned $",
        "used $",
        title=Text(one_line(f"{rental['pod']}, {_moment(rental['started'])}")),
    )
    for name, used in rental["steps"].items():
        plan = planned.get(name)
        table.add_row(
            Text(one_line(name)),
            UNKNOWN if plan is None else duration(plan),
            duration(used),
            "" if plan is None else f"{plan * rate:.2f}",
            f"{used * rate:.2f}",
        )
    return table


def _moment(seconds: float | None) -> str:
    return "still open" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
