"""The ledger of openings of the test split: who looked at test results, how often, and for what.

One JSONL file per suite, named by its hash (`ledger_key`), beside the user's cache and not in a base directory: to
delete a run does not make its look at the test items unseen. A rented machine has a ledger of its own, which goes with
it: its openings are noted here from the results that it gave.
"""

import time
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from cai_bootstrap.errors import DataError
from cai_bootstrap.files import JsonlWriter, JsonObject, text_lines
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring.declared import Results, StoredSuite, SuiteBlock
from cai_bootstrap.measuring.principles.declared import PrincipleResults
from cai_bootstrap.measuring.stored import Stored, StoredPrinciples
from cai_bootstrap.run.folder import resolve_cache_dir
from cai_bootstrap.run.lock import waiting_lock


class Elsewhere(BaseModel):
    """An opening of another machine's ledger: its number there, and the fingerprint of the measurement."""

    model_config = ConfigDict(frozen=True, strict=True)

    number: int
    fingerprint: str | None = None


class Opening(BaseModel):
    """A line of the ledger: `{"number": 7, "opened_at": "2026-11-22T10:31:00Z", "suite": "stage1", "what": …}`.

    What else an opening was named for is kept.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    number: int
    opened_at: str = ""
    suite: str = ""
    what: str = ""
    adapter: str | None = None
    elsewhere: Elsewhere | None = None

    def as_json(self) -> JsonObject:
        """The line's JSON object."""
        return self.model_dump(exclude_unset=True)


class Named(Protocol):
    """What was asked, by name and content: a suite, or held-out prompts."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def ledger_key(asked: Named) -> str:
    """The hash that names the ledger of a suite or of prompts: to mend an own scorer begins no new one."""
    key = asked.asked_sha256 if isinstance(asked, Suite | SuiteBlock | StoredSuite) else None
    return key or asked.sha256


def ledger_path(key: str) -> Path:
    """Where the openings of a suite stand; `key` is its `ledger_key`."""
    return resolve_cache_dir() / "ledger" / f"{key}.jsonl"


def open_test(suite: Named, what: str, **details: Any) -> int:
    """Write down that the suite's test items are about to be run for `what`; returns this opening's number, from 1.

    The line is durable before this returns. Raises DataError if the ledger cannot be read or written.
    """
    key = ledger_key(suite)
    path = ledger_path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(path.with_suffix(".lock"), "the ledger of openings"):
            return _append(key, {"suite": suite.name, "what": what, **details})
    except OSError as error:
        raise DataError(f"{path}: the opening of the test items cannot be recorded: {error}") from error


def note_opening(results: Results | PrincipleResults | Stored) -> int | None:
    """Enter the opening that a results file names, unless it stands in this ledger; returns its number here, or None.

    For results of either stage that another machine measured. Raises DataError if the ledger cannot be read or written.
    """
    suite: Named
    if isinstance(results, PrincipleResults | StoredPrinciples):
        suite, trained = results.prompts, results.arms.trained is not None
    else:
        suite, trained = results.suite, results.models.trained is not None
    run = results.run
    if run is None or run.ledger_opening is None:
        return None
    what = "evaluation" if trained else "baseline"
    adapter = run.adapter.sha256 if trained and run.adapter is not None else None
    measured = Elsewhere(number=run.ledger_opening, fingerprint=run.fingerprint)
    key = ledger_key(suite)
    path = ledger_path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(path.with_suffix(".lock"), "the ledger of openings"):
            for entry in openings(key):
                own = entry.elsewhere is None and entry.number == measured.number
                if entry.elsewhere == measured or (own and (entry.what, entry.adapter) == (what, adapter)):
                    return None
            named = {"what": what, "adapter": adapter, "model": results.conditions.base_model}
            return _append(key, {"suite": suite.name, **named, "elsewhere": measured.model_dump()})
    except OSError as error:
        raise DataError(f"{path}: the opening of the test items cannot be recorded: {error}") from error


def _append(key: str, entry: dict[str, Any]) -> int:
    """Write a line durably; the lock must be held."""
    number = len(openings(key)) + 1
    opened_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with JsonlWriter(ledger_path(key)) as ledger:
        ledger.write({"number": number, "opened_at": opened_at, **entry})
        ledger.commit()
    return number


def openings(key: str) -> list[Opening]:
    """Every opening under a `ledger_key` so far, oldest first. A torn last line (a killed write) is no opening."""
    path = ledger_path(key)
    if not path.exists():
        return []
    entries = []
    for number, line in text_lines(path, "opening"):
        if not line.endswith("\n"):
            break
        try:
            entries.append(Opening.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DataError(f"{path}: line {number} is not a ledger entry: {problem}") from error
    return entries
