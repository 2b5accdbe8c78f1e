"""What a person sees while a run goes on, and at its end: a progress line per step, and one table."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import assert_never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cai_bootstrap.cli.printed import text as printed
from cai_bootstrap.events import (
    Elicited,
    Error,
    Event,
    Gate,
    Notice,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProgress,
    StepSkipped,
    StepStarted,
    TrainingStarted,
    TrainStep,
    Watch,
)
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.figures import FirstLine, SideFigures, Statistics, Tally
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.measuring.side_figures import bare_line, beside, beside_rows
from cai_bootstrap.printable import duration
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.run.record import StepRecord

PLAIN_SECONDS = 15.0


class Screen:
    """Shows events: a live bar in a terminal, plain lines anywhere else. A context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            console=self._console,
            transient=False,
        )
        self._task: TaskID | None = None
        self._last_line = 0.0

    def __enter__(self) -> "Screen":
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event. What the final screen or the exit tells again is not shown here."""
        match event:
            case StepStarted():
                self._start(event)
            case StepProgress():
                self._advance(event)
            case StepFinished():
                self._finish(event)
            case Notice():
                self._print(f"{event.step}: {event.message}")
            case Elicited():
                self._print(f"{event.step}: prompted base, {event.rendering}: {event.rate:.1%} on dev")
            case Watch():
                self._print(
                    f"{event.step}: step {event.number}: dev {event.strict_rate:.0%} followed, "
                    f"{event.eos_rate:.0%} stopped by themselves"
                )
            case RunStarted() | RunFinished() | StepSkipped() | Error() | Gate() | TrainingStarted() | TrainStep():
                pass
            case _:
                assert_never(event)

    def _print(self, message: str) -> None:
        self._console.print(*map(printed, message.split("\n")), sep="\n", highlight=False)
        if not self._live:
            sys.stdout.flush()

    def _start(self, event: StepStarted) -> None:
        self._last_line = time.monotonic()
        if self._live:
            self._task = self._bar.add_task(event.step, total=None, rate="", eta="")
        else:
            self._print(f"{event.step}: started (time limit {event.timeout} s)")

    def _advance(self, event: StepProgress) -> None:
        rate = "" if event.tokens_per_second is None else f"{event.tokens_per_second:g} tokens/s"
        eta = f"ETA {duration(event.eta_seconds)}" if event.eta_seconds else ""
        if self._live:
            if self._task is not None:
                self._bar.update(self._task, completed=event.done, total=event.total, rate=rate, eta=eta)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self._print(f"{event.step}: {event.done}/{event.total}  {rate}  {eta}".rstrip())

    def _finish(self, event: StepFinished) -> None:
        word = "skipped, finished before" if event.skipped else event.status
        if self._live and self._task is not None:
            self._bar.update(self._task, eta=word)
        self._print(f"{event.step}: {word} ({duration(event.seconds)})")


def final_table(
    results: Results, steps: Mapping[str, StepRecord], files: list[Path], console: Console | None = None
) -> None:
    """The last screen: both sides per type with intervals, the tests, wall time, and where the files are."""
    console = console or Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 110)
    statistics = results.statistics
    title = f"Suite {results.suite.name}, {results.suite.n} held-out items, 95% Wilson intervals"
    table = Table(title=printed(title, style="table.title"), title_justify="left")
    rival = results.rival
    columns = [("base", "base", "rates"), ("trained", "trained", "rates")]
    if rival and "rival" in statistics.first_line_rates:
        columns += [("best prompted base*", "rival", "first_line_rates"), ("trained*", "trained", "first_line_rates")]
    for heading in ("", *(heading for heading, _, _ in columns)):
        table.add_column(heading, justify="left" if not heading else "right")
    for name in ("all", *TASK_TYPES):
        table.add_row(name, *(_cell(results, name, side, kind) for _, side, kind in columns))
    console.print(table)
    if rival:
        cut = f"* cut and judged at the first line; {rival.rendering} was chosen on dev"
        console.print(printed(cut), highlight=False)
    for line in (*_tests(statistics), *_beside(results)):
        console.print(printed(line), highlight=False)
    times = [f"{n} {duration(s.seconds)}{' (skipped)' if s.skipped else ''}" for n, s in steps.items()]
    console.print(f"wall time: {', '.join(times)}", highlight=False)
    for path in files:
        console.print(printed(f"  {path}"), highlight=False)


def _cell(results: Results, name: str, side: str, kind: str) -> str:
    """One rate with its interval: of the whole output (`rates`), or of its first line (`first_line_rates`)."""
    by_line = kind == "first_line_rates"
    statistics = results.statistics
    rates = (statistics.first_line_rates if by_line else statistics.rates).get(side)
    model = results.models.present().get(side)
    if rates is None or model is None:
        return "-"
    figures: SideFigures | FirstLine = model.first_line if by_line else model
    tally: Tally | None = figures if name == "all" else figures.by_type.get(name)
    interval = rates.wilson if name == "all" else rates.by_type.get(name)
    if tally is None or interval is None:
        return "-"
    # Rounded down like the verdict, so that the two never disagree.
    return f"{percent(tally.successes, tally.total)} [{100 * interval[0]:.0f}–{100 * interval[1]:.0f}]"


def _tests(statistics: Statistics) -> list[str]:
    """One line for each comparison that was made: lift with its interval, flips, and McNemar's exact p-value."""
    lines: list[str] = []
    for test in (statistics.comparison, statistics.headline):
        if test is not None:
            lift = test.lift
            lines.append(
                f"{test.what}: {100 * lift.estimate:+.1f} points [{100 * lift.low:+.1f}, {100 * lift.high:+.1f}], "
                f"{len(test.gained)} gained, {len(test.lost)} lost, McNemar p = {test.mcnemar_p:.3g}"
            )
    if trained := statistics.rates.get("trained"):
        lines.append(f"true rate ≥ 95% {'shown' if trained.shown_95 else 'not shown'} at 95% confidence")
    return lines


def _beside(results: Results) -> list[str]:
    """What stands beside the trained model's rate and never gates: asked bare, held-out skills, facts, length."""
    if results.models.trained is None:
        return []
    rows = beside_rows([beside(results, "trained")])
    bare = bare_line(results)
    return [
        *([] if bare is None else [bare]),
        "beside: " + "; ".join(f"{label[0].lower()}{label[1:]} {cell}" for label, cell in rows),
    ]
