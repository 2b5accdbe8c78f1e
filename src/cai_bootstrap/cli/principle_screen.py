"""The last screen of the constitution stage: every principle in each arm, what was found, answers before and after."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cai_bootstrap.cli.printed import text as printed
from cai_bootstrap.judging.scorers import first_line
from cai_bootstrap.measuring.principles.declared import PrincipleItem, PrincipleResults
from cai_bootstrap.measuring.principles.figures import PrincipleFigures, Rate
from cai_bootstrap.measuring.principles.findings import in_words
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.printable import duration
from cai_bootstrap.run.record import StepRecord

SHOWN = 3
HEADINGS = {"base": "raw base", "rival": "best prompting", "trained": "trained", "control": "control"}


def principle_table(
    results: PrincipleResults,
    steps: Mapping[str, StepRecord],
    files: list[Path],
    constitution: Path,
    console: Console | None = None,
) -> None:
    """Print rates with intervals, a sentence for each principle, three answers, wall time, and where the files are.

    Last comes what to change in the file `constitution` to teach something else.
    """
    console = console or Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, 110)
    title = f"Constitution {results.constitution.name}, {results.prompts.n} held-out prompts, by first line, 95% Wilson"
    table = Table(title=printed(title, style="table.title"), title_justify="left")
    arms = list(results.arms.present())
    for heading in ("", *(HEADINGS[arm] for arm in arms), "trained, to EOS"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, figures in results.principles.items():
        table.add_row(*(printed(cell) for cell in _row(name, figures, arms)))
    console.print(table)
    for name, figures in results.principles.items():
        console.print(printed(in_words(name, figures)), highlight=False)
    for line in _answers(results):
        console.print(printed(line), highlight=False)
    times = [f"{n} {duration(s.seconds)}{' (skipped)' if s.skipped else ''}" for n, s in steps.items()]
    console.print(f"wall time: {', '.join(times)}", highlight=False)
    for path in files:
        console.print(printed(f"  {path}"), highlight=False)
    if (change := _line_to_change(constitution)) is not None:
        console.print(printed(change), highlight=False)


def _line_to_change(constitution: Path) -> str | None:
    """Where the first demonstration stands: demonstrations are what steers; None for a constitution without any."""
    lines = constitution.read_text(encoding="utf-8").splitlines()
    place = next((number for number, text in enumerate(lines, 1) if text.strip() == "demonstrations:"), None)
    if place is None:
        return None
    return (
        f"to teach something else, copy {constitution}, change its demonstrations (line {place} and after), and run it"
    )


def _row(name: str, figures: PrincipleFigures, arms: Sequence[str]) -> list[str]:
    present: Mapping[str, Rate] = {str(arm): rate for arm, rate in figures.present().items()}
    trained = figures.trained
    strict = "-" if trained is None else percent(trained.strict.successes, trained.strict.total)
    return [name, *(_cell(present.get(arm)) for arm in arms), strict]


def _cell(rate: Rate | None) -> str:
    if rate is None or rate.interval is None:
        return "-"
    low, high = rate.interval
    return f"{percent(rate.successes, rate.total)} [{100 * low:.0f}–{100 * high:.0f}]"


def _answers(results: PrincipleResults) -> Iterator[str]:
    """The first answers that were measured, before and after."""
    items = [item for item in results.items if item.trained is not None and item.split == "test"]
    for item in items[:SHOWN]:
        yield f"{item.text}"
        yield f"  base:    {_line(item, 'base')}"
        yield f"  trained: {_line(item, 'trained')}"


def _line(item: PrincipleItem, arm: str) -> str:
    answer = item.base if arm == "base" else item.trained
    text = first_line("" if answer is None else answer.response)
    return text if len(text) <= 100 else f"{text[:99]}…"
