"""The figures of many runs of the constitution stage in one table, and in one small file for docs/measured.

Run: python tools/principle_table.py [--json FILE] [--rules CONSTITUTION ...] RESULTS [RESULTS ...]. Each RESULTS is a
results file, or a base directory that holds one. Every file's figures are computed again from its answers as it is
read. With --rules a second table says how often each trained model keeps the checks of these constitutions.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from cai_bootstrap.constitution import Principle
from cai_bootstrap.files import write_json
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.principles.findings import in_words
from cai_bootstrap.measuring.principles.results import read_principle_results

RESULTS = "constitution_evaluation_*.json"


def main() -> None:
    """Print the table; write the file if one was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rules", type=Path, action="append", default=[])
    parser.add_argument("results", type=Path, nargs="+")
    options = parser.parse_args()
    runs: dict[str, Any] = {}
    others = [principle for path in options.rules for principle in load_checked(path).principles]
    kept: list[str] = []
    print("| run | principle | base | best prompting | control | trained | lower bound | in words |")
    print("|---|---|---|---|---|---|---|---|")
    for path in options.results:
        file = next(path.rglob(RESULTS)) if path.is_dir() else path
        name = path.name if path.is_dir() else path.stem
        results = read_principle_results(file)
        runs[name] = condensed(results)
        kept.append(f"| {name} | " + " | ".join(f"{share_kept(results, other):.1%}" for other in others) + " |")
        for id, figures in results.principles.items():
            rates = [getattr(figures, arm) for arm in ("base", "rival", "control", "trained")]
            shown = [
                "–" if rate is None or rate.rate is None else f"{rate.rate:.1%} ({rate.successes}/{rate.total})"
                for rate in rates
            ]
            lowest = "–" if figures.trained is None or figures.trained.lower is None else f"{figures.trained.lower:.1%}"
            print("|", " | ".join([name, id, *shown, lowest, in_words(id, figures)]), "|")
        if len(results.principles) > 1:
            print(f"| {name} | *all at once* | {json.dumps(results.joint.model_dump(mode='json'))} |")
    if others:
        head = " | ".join(["run", *(other.id for other in others)])
        print(f"\n| {head} |", "|---" * (len(others) + 1) + "|", *kept, sep="\n")
    if options.json is not None:
        write_json(options.json, runs)


def share_kept(results: PrincipleResults, principle: Principle) -> float:
    """Of the trained model's answers to test prompts, the share whose first line passes a principle's check."""
    answers = [(item.text, item.trained.response) for item in results.items if item.split == "test" and item.trained]
    lines = [(text, answer.strip().split("\n")[0]) for text, answer in answers]
    return fmean(rule_holds(principle.check or {}, text, line) for text, line in lines)


def condensed(results: PrincipleResults) -> dict[str, Any]:
    """A run's figures without its answers."""
    whole = results.as_dict()
    kept = ("conditions", "prompts", "judges", "rival", "principles", "joint", "beside", "gate")
    constitution = {"name": results.constitution.name, "sha256": results.constitution.sha256}
    run = results.run
    pairs = {} if run is None else {"pairs": run.pairs, "pairs_by_principle": run.pairs_by_principle}
    return {"constitution": constitution, **pairs, **{name: whole[name] for name in kept}}


if __name__ == "__main__":
    main()
