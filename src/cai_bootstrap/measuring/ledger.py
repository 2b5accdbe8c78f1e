"""The ledger of openings of the test split: who looked at test results, how often, and for what.

One JSONL file per suite, named by its hash, beside the user's cache and not in a base directory: deleting a run does
not make its look at the test items unseen. A rented machine has a ledger of its own, which goes with it: its openings
are noted here from the results that it gave.
"""

import json
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import JsonlWriter
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.declared import Results, StoredResults
from cai_bootstrap.run.folder import resolve_cache_dir


def ledger_path(suite_sha256: str) -> Path:
    """Where the openings of a suite stand."""
    return resolve_cache_dir() / "ledger" / f"{suite_sha256}.jsonl"


def open_test(suite: Suite, what: str, **details: Any) -> int:
    """Write down that the suite's test items are about to be run for `what`; returns this opening's number, from 1.

    The line is durable before this returns. Raises DataError if the ledger cannot be read or written.
    """
    path = ledger_path(suite.sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            return _append(suite.sha256, {"suite": suite.name, "what": what, **details})
    except OSError as error:
        raise DataError(f"{path}: the opening of the test items cannot be recorded: {error}") from error


def note_opening(results: Results | StoredResults) -> int | None:
    """Enter the opening that a results file names, unless it stands in this ledger; returns its number here, or None.

    For results that another machine measured. Raises DataError if the ledger cannot be read or written.
    """
    run, suite = results.run, results.suite
    if run is None or run.ledger_opening is None:
        return None
    elsewhere = run.ledger_opening
    trained = results.models.trained is not None
    adapter = run.adapter.sha256 if trained and run.adapter is not None else None
    named = {"what": "evaluation" if trained else "baseline", "adapter": adapter}
    measured = {"number": elsewhere, "fingerprint": run.fingerprint}
    path = ledger_path(suite.sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            for entry in openings(suite.sha256):
                own = "elsewhere" not in entry and entry["number"] == elsewhere
                if entry.get("elsewhere") == measured or (own and all(entry.get(k) == v for k, v in named.items())):
                    return None
            model = results.conditions.base_model
            return _append(suite.sha256, {"suite": suite.name, **named, "model": model, "elsewhere": measured})
    except OSError as error:
        raise DataError(f"{path}: the opening of the test items cannot be recorded: {error}") from error


def _append(suite_sha256: str, entry: dict[str, Any]) -> int:
    """Write a line durably; the lock must be held."""
    number = len(openings(suite_sha256)) + 1
    opened_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with JsonlWriter(ledger_path(suite_sha256)) as ledger:
        ledger.write({"number": number, "opened_at": opened_at, **entry})
        ledger.commit()
    return number


def openings(suite_sha256: str) -> list[dict[str, Any]]:
    """Every opening of a suite so far, oldest first. A torn last line (a killed write) is no opening."""
    path = ledger_path(suite_sha256)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not a ledger entry: {error}") from error
    return found
