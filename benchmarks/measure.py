"""How fast the measuring is: verdicts, statistics, and the search for leaks, each against its limit.

Run: python benchmarks/measure.py [--json FILE]. One core is enough; no model is loaded. Times are wall time.
"""

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.judging import statistics
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.suite import load_suite, references
from cai_bootstrap.records import EvalItem

VERDICTS = 10_000
STATISTICS_ITEMS = 1_000
LEAKAGE_ITEMS = 1_000
LEAKAGE_TEXTS = 100_000


@dataclass(frozen=True)
class Timing:
    """One measurement: `seconds` of wall time, the most that is allowed, and the process's peak memory so far."""

    what: str
    seconds: float
    limit_seconds: float
    peak_mib: float

    @property
    def within(self) -> bool:
        return self.seconds <= self.limit_seconds


def timed(what: str, limit: float, work: Callable[[], object]) -> Timing:
    """Run `work` once and time it."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Timing(what, seconds, limit, peak)


def verdict_work() -> list[tuple[EvalItem, str]]:
    """Different outputs for every item: right, echoing, rambling, wrong; no two the same, so that no cache helps."""
    items = load_suite("stage1").items
    rows = []
    for number in range(VERDICTS):
        item, kind = items[number % len(items)], number // len(items) % 4
        right = item.gold[0] if item.gold else references()[item.id]
        text = (right, f"{item.instruction} {right}", f"I think it is {right}, or so. {item.instruction}", "It is so.")[
            kind
        ]
        rows.append((item, text if number < 4 * len(items) else f"{text} {number}"))
    return rows


def all_statistics() -> None:
    """Everything that a results file holds about one comparison, on 1,000 items of 500 templates."""
    random = np.random.default_rng(1)
    before = (random.random(STATISTICS_ITEMS) < 0.6).tolist()
    after = (random.random(STATISTICS_ITEMS) < 0.9).tolist()
    templates = [f"t{number // 2}" for number in range(STATISTICS_ITEMS)]
    statistics.paired_lift(before, after, templates, samples=10_000)
    statistics.template_flip_test(before, after, templates)
    statistics.mcnemar_exact(200, 50)
    statistics.benjamini_hochberg(dict.fromkeys("abcd", 0.01))
    for side in (before, after):
        statistics.wilson(sum(side), len(side))
        statistics.shown(side, templates)


def leakage_items() -> list[EvalItem]:
    """A thousand held-out items: the shipped ones, and reworded copies to make up the number."""
    shipped = [*load_suite("stage1").items, *load_suite("stage1-dev").items]
    copies = [
        item.model_copy(update={"id": f"{item.id}-{n}", "instruction": f"Now then, {item.instruction}"})
        for n, item in enumerate(shipped)
    ]
    return [*shipped, *copies][:LEAKAGE_ITEMS]


def measure() -> list[Timing]:
    """All measurements, in order."""
    rows = verdict_work()
    verdicts = timed(f"{len(rows):,} verdicts", 2.0, lambda: [judge(item, text, True) for item, text in rows])
    figures = timed(f"statistics, {STATISTICS_ITEMS:,} items, 10,000 resamples", 5.0, all_statistics)
    held_out = leakage_items()
    pool = [instruction.instruction for instruction in sample(10_000, seed=5)]
    texts = [pool[n % len(pool)] + (f" {n}" if n >= len(pool) else "") for n in range(LEAKAGE_TEXTS)]
    leaks = timed(
        f"leakage, {len(held_out):,} items against {len(texts):,} texts",
        30.0,
        lambda: LeakageIndex(held_out).hits(texts),
    )
    return [verdicts, figures, leaks]


def main() -> int:
    """Print the table, write JSON if asked, and return 1 if a limit is broken."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    given = parser.parse_args()
    timings = measure()
    table = Table(title="Measuring")
    for heading in ("what", "seconds", "limit", "peak MiB"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for row in timings:
        table.add_row(row.what, f"{row.seconds:.2f}", f"{row.limit_seconds:.0f}", f"{row.peak_mib:.0f}")
    Console().print(table)
    if given.json is not None:
        record = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "timings": [asdict(t) for t in timings],
        }
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.within for row in timings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
