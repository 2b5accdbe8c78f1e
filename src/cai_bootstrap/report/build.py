"""The report: one self-contained HTML file from a run's files. It needs nothing but them, and says what is missing."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cai_bootstrap import __version__
from cai_bootstrap.events import Rows, utc_now
from cai_bootstrap.files import write_atomic
from cai_bootstrap.measuring.declared import Results
from cai_bootstrap.measuring.results import percent
from cai_bootstrap.measuring.side_figures import NOTE, beside, beside_rows
from cai_bootstrap.report import browse, data, findings, plots, provenance_tables, training
from cai_bootstrap.report.files import RunFiles, dig, load
from cai_bootstrap.report.safe import csp, script_json, visible
from cai_bootstrap.report.tables import Table, number
from cai_bootstrap.report.training import Picture
from cai_bootstrap.run.folder import Workspace

MadeT = TypeVar("MadeT")
OtherT = TypeVar("OtherT")
NO_PAIRS: tuple[Rows, dict[str, int]] = ([], {"pairs": 0, "dropped": 0})
HERE = Path(__file__).with_name("page")
MOST_BYTES = 6_000_000
# Characters of a text, and records of a kind, that the page may hold; the next is tried when it would be too large.
LIMITS = ((4000, 2000), (1500, 2000), (600, 2000), (200, 2000), (200, 400))
TEST_HEAD = [
    "Comparison",
    "Before",
    "After",
    "Lift, points (95%)",
    "Gained / lost",
    "McNemar p",
    "Template p",
    "Cohen's h",
]
BARS_HEAD = ["Items", "Model", "Scored by", "Followed", "Count", "95% interval"]


def build_report(
    workspace: Workspace, *, rentals: Sequence[dict[str, Any]] = (), planned: dict[str, Any] | None = None
) -> Path:
    """Write `results/report.html` atomically and give its path. Files that are missing or unsound are named in it.

    `rentals` are those of the pod's ledger; the one that this run was made in gives the plan and the price. `planned`
    is the estimate for a run that was made in none.
    """
    path = workspace.results / "report.html"
    write_atomic(path, report_page(workspace, rentals=rentals, planned=planned))
    return path


def report_page(
    workspace: Workspace,
    *,
    live: bool = False,
    rentals: Sequence[dict[str, Any]] = (),
    planned: dict[str, Any] | None = None,
) -> str:
    """The report as HTML, at most 6 MB; `live` adds the panel that follows a run going on."""
    found = load(workspace, rentals, planned)
    page = ""
    fixed: dict[str, Any] | None = None
    for limits in LIMITS:
        payload = script_json(_payload(found, *limits))
        fixed = fixed or _context(found)
        if limits != LIMITS[-1] and len(payload.encode()) > MOST_BYTES * 0.85:
            continue
        page = render("report.html", payload=payload, live=live, **fixed)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def render(template_name: str, *, payload: str, live: bool = False, **values: Any) -> str:
    """Fill a page's template. Every text is made visible and escaped; scripts and styles are allowed by their hash."""
    styles = _read("report.css")
    scripts = [_read("report.js"), *([_read("live.js")] if live else [])]
    policy = csp(scripts=[f"\n{script}" for script in scripts], styles=[f"\n{styles}"], live=live)
    template = _environment().get_template(template_name)
    return str(
        template.render(
            styles=styles, scripts=scripts, policy=policy, payload=payload, live=live, version=__version__, **values
        )
    )


def rates_picture(bars: list[findings.Bar], names: dict[str, str]) -> Picture:
    """The picture at the top, in two sizes, and its numbers."""
    rows = [[*row[:1], names[bar.side], *row[2:]] for bar, row in zip(bars, findings.bars_table(bars), strict=True)]
    table = Table("The picture in numbers", BARS_HEAD, rows, folded=True)
    wide, narrow = (plots.rates_plot(bars, names, narrow=small) for small in (False, True))
    return Picture(wide, table, narrow)


def _context(found: RunFiles) -> dict[str, Any]:
    measured = found.measured
    unread = findings.Headline("No verdict: the run's files cannot be read.", (), "bad")
    principles, principles_table = _part(found, "principles", lambda: data.principles(found), (None, None))
    values: dict[str, Any] = {
        "run_name": _part(found, "name", lambda: _name(found), ""),
        "model": dig(found.model, "name") or found.config("model") or "",
        "made_at": utc_now(),
        "headline": _part(found, "headline", lambda: findings.headline(found), unread),
        "facts": _part(found, "figures", lambda: list(_facts(found)), []),
        "rates": rates_picture(findings.bars(measured), findings.SIDE_NAMES) if measured else None,
        "result_tables": _part(found, "results", lambda: _result_tables(measured) if measured else [], []),
        "flips": _flips(measured) if measured else None,
        "sides": _sides(found),
        "n_items": len(measured["items"]) if measured else 0,
        "funnel": _part(found, "funnel", lambda: data.funnel(found), None),
        "principles": principles,
        "principles_table": principles_table,
        "data_tables": _part(found, "data", lambda: data.tables(found), []),
        "curves": _part(found, "training curves", lambda: training.pictures(found), []),
        "training_said": _part(found, "training", lambda: training.said(found), []),
        "training_tables": _part(found, "training", lambda: training.tables(found), []),
        "trust_tables": _part(found, "trust", lambda: provenance_tables.tables(found), []),
        "base_dir": str(found.workspace.base),
        "reuse": _reuse(found),
    }
    return {**values, "missing": found.missing, "faults": found.faults}


def _part(found: RunFiles, name: str, make: Callable[[], MadeT], otherwise: OtherT) -> MadeT | OtherT:
    """One part of the report; files whose values have another shape than theirs cost that part only, and are named."""
    try:
        return make()
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        found.faults.append(
            f"The part “{name}” could not be made from the run's files: {type(error).__name__}: {error}"
        )
        return otherwise


def _name(found: RunFiles) -> str:
    named = found.run.run if found.run is not None else (found.events[-1].run if found.events else None)
    return str(named or (found.results_file.stem if found.results_file else "no run yet"))


def _facts(found: RunFiles) -> Iterator[tuple[str, str, str]]:
    """The figures in large type: what, how much, and what it means."""
    measured = found.measured
    if measured is None:
        return
    models = measured["models"]
    if trained := models.get("trained"):
        yield (
            "Trained, asked plainly",
            percent(trained["successes"], trained["total"]),
            "whole output, up to EOS",
        )
    if rival := models.get("rival"):
        first = rival["first_line"]
        said = f"first line; {dig(measured, 'rival', 'rendering')}"
        yield "Best prompted base", percent(first["successes"], first["total"]), said
    if base := models.get("base"):
        yield "Raw base, asked plainly", percent(base["successes"], base["total"]), "whole output, up to EOS"
    if lift := dig(measured, "statistics", "headline", "lift"):
        estimate, low, high = (findings.signed(100 * lift[key], 1) for key in ("estimate", "low", "high"))
        against = f"{low} to {high} against the best prompted base, both by first line"
        yield "Training added", f"{estimate} pts", against


def _result_tables(measured: dict[str, Any]) -> list[Table]:
    made = []
    tests = findings.tests_table(measured)
    if tests:
        note = "Lift with a 95% interval from resampling templates. Template p swaps whole templates."
        made.append(Table("Paired comparisons", TEST_HEAD, tests, note=note))
    rates = dig(measured, "rival", "dev_rates") or {}
    if rates:
        chosen = dig(measured, "rival", "rendering")
        ranked = sorted(rates.items(), key=lambda row: -row[1])
        rows = [[name, findings.down(rate), "chosen" if name == chosen else ""] for name, rate in ranked]
        caption = f"How the best prompted base was chosen, on {dig(measured, 'rival', 'chosen_on_dev_items')} dev items"
        made.append(Table(caption, ["Prompt", "Followed", ""], rows, folded=True))
    present = [side for side in findings.SIDE_NAMES if measured["models"].get(side)]
    rows = beside_rows([beside(Results.model_validate(measured), side) for side in present])
    head = ["", *(findings.SIDE_NAMES[side] for side in present)]
    made.append(Table("Beside the rate: held-out skills, facts, length", head, rows, note=NOTE))
    sides = [findings.SIDE_NAMES[side] for side in ("base", "trained") if measured["models"].get(side)]
    for cut, caption in (("by_difficulty", "difficulty"), ("by_tier", "label tier"), ("by_skill", "skill")):
        rows = findings.cuts_table(measured, cut)
        made.append(Table(f"By {caption}, whole output", [caption.capitalize(), *sides], rows, folded=True))
    return made


def _flips(measured: dict[str, Any]) -> Table | None:
    rows = []
    for key, label in (("headline", "against best prompted base"), ("comparison", "against raw base")):
        for kind, row in (dig(measured, "statistics", key, "by_type") or {}).items():
            adjusted = findings.p_value(row["mcnemar_p_adjusted"])
            rows.append([f"{kind.capitalize()}, {label}", number(row["gained"]), number(row["lost"]), adjusted])
    note = "p adjusted for four tests (Benjamini–Hochberg)."
    return Table("Flips by type", ["Type", "Gained", "Lost", "p"], rows, folded=True, note=note) if rows else None


def _sides(found: RunFiles) -> list[str]:
    measured = found.measured
    return [side for side in findings.SIDE_NAMES if measured and measured["models"].get(side) is not None]


def _reuse(found: RunFiles) -> str:
    reuse = found.run.reuse if found.run is not None else None
    if reuse is None or reuse.requested == reuse.found:
        return ""
    return (
        f"Data made from {number(reuse.found)} instructions were reused; this run asked for {number(reuse.requested)}."
    )


def _payload(found: RunFiles, limit: int, most: int) -> dict[str, Any]:
    sides = _sides(found)
    items = browse.item_records(found.measured["items"], found.items, sides, limit) if found.measured else []
    pairs, there = _part(found, "pairs", lambda: browse.pair_records(found, limit, most), NO_PAIRS)
    names = [findings.SIDE_NAMES[side] for side in sides]
    return {"sides": names, "items": items[:most], "pairs": pairs, "there": {**there, "items": len(items)}}


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def safe(value: Any) -> Any:
        return visible(value) if type(value) is str else value

    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, finalize=safe, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
