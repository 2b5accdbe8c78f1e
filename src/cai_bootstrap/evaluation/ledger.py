"""The ledger of openings of the test split: who looked at test results, how often, and for what.

One JSONL file per suite, named by its hash, beside the user's cache and not in a base directory: deleting a run does
not make its look at the test items unseen.
"""

import json
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from cai_bootstrap.errors import DataError
from cai_bootstrap.evaluation.suite import Suite
from cai_bootstrap.workspace import JsonlWriter, resolve_cache_dir


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
            number = len(openings(suite.sha256)) + 1
            opened_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with JsonlWriter(path) as ledger:
                ledger.write({"number": number, "suite": suite.name, "what": what, "opened_at": opened_at, **details})
                ledger.commit()
            return number
    except OSError as error:
        raise DataError(f"{path}: the opening of the test items cannot be recorded: {error}") from error


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
