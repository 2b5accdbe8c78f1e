"""The constitution stage's page, from a run's files; it says what is missing."""

from collections.abc import Sequence
from typing import Any

from cai_bootstrap.events import utc_now
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.report import benchmarks, plots, training
from cai_bootstrap.report.money import Plan, Rental
from cai_bootstrap.report.principles import browse, data, findings, tables
from cai_bootstrap.report.principles.files import SteeringFiles, load_steering
from cai_bootstrap.report.rendering import fitting
from cai_bootstrap.report.stages import other_page
from cai_bootstrap.report.training import Picture
from cai_bootstrap.run.folder import RunFolder


def principles_page(
    workspace: RunFolder, *, live: bool = False, rentals: Sequence[Rental] = (), planned: Plan | None = None
) -> str:
    """The page as HTML, at most 6 MB; `live` adds the panel that follows a run going on."""
    run = load_steering(workspace, rentals, planned)
    return fitting(
        "constitution.html", lambda limit, most: _payload(run, limit, most), lambda: _context(run), live=live
    )


def _context(run: SteeringFiles) -> dict[str, Any]:
    results = run.measured
    return {
        "run_name": _name(run),
        "model": (run.model and run.model.name) or (results and results.conditions.base_model) or "",
        "made_at": utc_now(),
        "headline": findings.headline(run),
        "facts": list(findings.facts(results)) if results is not None else [],
        "threshold": f"{results.gate.threshold:.0%}" if results is not None else "",
        "rates": _rates(results) if results is not None else None,
        "rates_table": tables.rates_table(results) if results is not None else None,
        "result_tables": [*(tables.result_tables(results) if results is not None else []), *benchmarks.tables(run)],
        "n_items": len(results.items) if results is not None else 0,
        "arms": _arms(results),
        "funnel": data.funnel(run),
        "turns": data.turns(run),
        "data_tables": data.tables(run),
        "curves": training.pictures(run),
        "training_said": training.remarks(run),
        "training_tables": training.tables(run),
        "trust_tables": tables.trust_tables(run),
        "base_dir": str(run.workspace.base),
        "missing": run.missing,
        "faults": list(map(str, run.faults)),
        "other": other_page(run.workspace),
    }


def _name(run: SteeringFiles) -> str:
    named = run.record.run if run.record is not None else (run.events[-1].run if run.events else None)
    return named or (run.results_file.stem if run.results_file else "no run yet")


def _rates(results: PrincipleResults) -> Picture | None:
    bars = findings.bars(results)
    if not bars:
        return None
    names = {str(arm): name for arm, name in findings.ARM_NAMES.items()}
    title = "Share of answers that obey each principle, with 95% intervals; the table below has the numbers"
    wide, narrow = (
        plots.rates_plot(bars, names, narrow=small, gate=results.gate.threshold, title=title) for small in (False, True)
    )
    return Picture(wide, None, narrow)


def _arms(results: PrincipleResults | None) -> list[str]:
    return [] if results is None else [findings.ARM_NAMES[arm] for arm in results.arms.present()]


def _payload(run: SteeringFiles, limit: int, most: int) -> dict[str, Any]:
    prompts = browse.prompt_records(run.measured, limit) if run.measured is not None else []
    pairs, there = browse.pair_records(run.data, limit, most)
    payload = {"prompts": prompts[:most], "pairs": pairs, "there": {**there, "items": len(prompts)}}
    return {"sides": _arms(run.measured), **payload}
