"""Draw what a finished run printed, from its own files: python tools/picture_of_run.py BASE_DIR docs/images/run.svg

Events and results are the run's; nothing is run again. Progress lines are left out.
"""

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from cai_bootstrap.cli.screen import Screen, final_table
from cai_bootstrap.files import read_json, write_atomic
from cai_bootstrap.judging.suite import NAMED_SUITES, load_suite
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.run.folder import RunFolder


def picture(base: Path, command: str) -> str:
    """The run's screen as an SVG that loads nothing. A results file that is not true is refused."""
    workspace = RunFolder.at(base)
    outcome = read_json(workspace.results / "run.json")
    results_file = workspace.results / outcome["results_file"]
    suite = outcome["manifest"]["config"]["evaluation.suite"]["value"]
    results = read_results(results_file, None if suite in NAMED_SUITES else load_suite(suite))
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=False)
    console.print(f"$ {command}", highlight=False)
    with Screen(console) as screen:
        for line in (workspace.logs / f"{outcome['run']}.jsonl").read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] != "progress":
                screen.show(event)
    final_table(results, outcome["steps"], [], console)
    console.print(outcome.get("message") or "", highlight=False)
    console.print(f"exit code {outcome['exit_code']}", highlight=False)
    drawn = console.export_svg(title="cai-bootstrap")
    # rich names fonts on a CDN; a reader's own monospace does.
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S).replace("Fira Code", "monospace")


if __name__ == "__main__":
    base, target, *words = sys.argv[1:]
    write_atomic(Path(target), picture(Path(base), " ".join(words) or "cai run --quick-test"))
