"""The figures of many runs of the constitution stage in one table, and in one small file for docs/measured.

Run: python tools/principle_table.py [--json FILE] RESULTS [RESULTS ...]. Each RESULTS is a results file, or a base
directory that holds one. Every file's figures are computed again from its answers as it is read.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from cai_bootstrap.files import write_json
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.principles.findings import in_words
from cai_bootstrap.measuring.principles.results import read_principle_results

RESULTS = "constitution_evaluation_*.json"


def main() -> None:
    """Print the table; write the file if one was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("results", type=Path, nargs="+")
    options = parser.parse_args()
    runs: dict[str, Any] = {}
    print("| run | principle | base | best prompting | control | trained | lower bound | in words |")
    print("|---|---|---|---|---|---|---|---|")
    for path in options.results:
        file = next(path.rglob(RESULTS)) if path.is_dir() else path
        name = path.name if path.is_dir() else path.stem
        results = read_principle_results(file)
        runs[name] = condensed(results)
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
    if options.json is not None:
        write_json(options.json, runs)


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
