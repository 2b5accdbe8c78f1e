"""Pairs that a person has already, in the place of those that a model would make: read, sorted, checked, marked.

Not a step of a run: `cai pairs import` does it once, and the steps after generation read what it wrote.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import fingerprint, jsonl_line, sha256_file, write_atomic, write_json, write_jsonl
from cai_bootstrap.generation.imported_pairs import SortedPairs, sort_pairs
from cai_bootstrap.inference.hub_rows import hub_split
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.instructions.held_back import held_back
from cai_bootstrap.instructions.pair_rows import Columns
from cai_bootstrap.instructions.rows import located, read_rows
from cai_bootstrap.run.counts import GenerationSummary, ImportedPairs, read_counts
from cai_bootstrap.run.folder import CONSTITUTION
from cai_bootstrap.run.lock import hold
from cai_bootstrap.run.markers import read_outputs, write_marker
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import IMPORTED, remove_data, stored_identity, write_identity
from cai_bootstrap.training.pairs import Asking
from cai_bootstrap.training.preflight import check_pairs


@dataclass(frozen=True)
class Source:
    """What is imported: a file, or a dataset's split; the first `limit` rows of it.

    `prompt_named`: a person named the prompt's column, so its absence is an error.
    """

    name: str
    columns: Columns = field(default_factory=Columns)
    prompt_named: bool = False
    split: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Import:
    """What an import did: the counts, the first line or row of each reason, and whether the pairs were there before."""

    summary: GenerationSummary
    first_places: dict[str, int]
    there_before: bool


def import_pairs(context: StepContext, source: Source) -> Import:
    """Put a source's pairs into the data folder, where `cai train` and `cai run` find them as the product's own.

    Nothing is written before everything is read and checked. Raises UsageError for a source that cannot be read, for
    fewer than `pairs.min_pairs` usable pairs, and for a folder that holds other data, unless `force_data`, which
    removes the data of all rounds first; LockedError if a run holds the base directory.
    """
    if context.workspace.stage is CONSTITUTION:
        raise UsageError("pairs are imported for Stage 1 alone: those of a constitution come from its principles")
    _refuse_generated(context)
    found, imported = _sorted_pairs(context, source)
    pairs = "".join(jsonl_line(pair) for pair in found.pairs).encode()
    identity = {IMPORTED: imported.sha256, "pairs_sha256": hashlib.sha256(pairs).hexdigest()}
    what = f"cai pairs import {source.name}"
    workspace = context.workspace.create()
    with hold(workspace, what), hold(workspace, what, name="step"):
        there_before = _is_there(context, identity)
        if not there_before:
            _refuse_generated(context)
            _refuse_other_import(context, identity)
            _write(context, found, found.summary(imported), pairs, identity)
    return Import(found.summary(imported), found.first_places, there_before)


class _Rows:
    """The rows of a source, to be read once; what was read has a hash."""

    def __init__(self, source: Source) -> None:
        place = located(source.name, "pair")
        wanted = source.columns.wanted(prompt_given=source.prompt_named)
        self._path, self._seen, self._limit = None, hashlib.sha256(), source.limit
        self.revision: str | None = None
        self.split: str | None = None
        if isinstance(place, Path):
            if source.split is not None:
                raise UsageError(f"{source.name}: a file has no splits; leave --split out")
            self.name, self._path = str(place.absolute()), place
            self._rows = read_rows(place, wanted)
        else:
            opened = hub_split(*place, source.split)
            chosen = wanted.choose(opened.columns, source.name)
            self.name, self.revision, self.split = source.name, opened.revision, opened.split
            self._rows = enumerate(opened.rows(chosen), 1)

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, object]]]:
        for place, row in islice(self._rows, self._limit):
            assert not isinstance(row, str)  # the reader gives texts where they are wanted alone
            if self._path is None:
                self._seen.update(json.dumps(row, sort_keys=True, default=str).encode())
            yield place, row

    def sha256(self) -> str:
        """The file's hash; of a dataset that of the rows as they were read."""
        return self._seen.hexdigest() if self._path is None else sha256_file(self._path)


def _sorted_pairs(context: StepContext, source: Source) -> tuple[SortedPairs, ImportedPairs]:
    """The rows, sorted and looked at on their token ids, and where they came from."""
    config = context.config
    rows = _Rows(source)
    held_out = frozenset(item.instruction for item in held_back())
    found = sort_pairs(rows, source.columns, max_similarity=config.pairs.max_similarity, held_back=held_out)
    if found.pairs:
        look = check_pairs(
            found.pairs,
            load_tokenizer(context.prepared()),
            max_length=config.training.max_length,
            asking=Asking(config.training.bare_share, config.seed),
            leaks=context.leakage().hit,
        )
        found = found.without(look.faults)
    if len(found.pairs) < config.pairs.min_pairs:
        raise UsageError(_too_few(source, found, config.pairs.min_pairs))
    return found, ImportedPairs(
        source=rows.name,
        sha256=rows.sha256(),
        rows=found.rows,
        columns=source.columns._asdict(),
        forms=dict(sorted(found.forms.items())),
        revision=rows.revision,
        split=rows.split,
        limit=source.limit,
    )


def _too_few(source: Source, found: SortedPairs, needed: int) -> str:
    first = found.first_places
    gone = [f"{count:,} {reason} (first: line or row {first[reason]})" for reason, count in found.dropped.items()]
    dropped = f"; dropped: {', '.join(gone)}" if gone else ""
    return (
        f"{source.name}: {len(found.pairs)} usable pairs of {found.rows:,} rows{dropped}. At least {needed} are needed "
        "(pairs.min_pairs); nothing was imported"
    )


def _refuse_generated(context: StepContext) -> None:
    """Refuse to write over data that no import made; --force-data allows it."""
    data = context.data
    if context.config.force_data:
        return
    stored = stored_identity(data)
    if stored is None and not any(data.path.glob("*.jsonl")):
        return
    if stored is None or IMPORTED not in stored.identity:
        raise UsageError(
            f"{data.path}: holds data already, which an import would replace; use another --base-dir, or --force-data "
            "to remove them"
        )


def _refuse_other_import(context: StepContext, identity: Mapping[str, object]) -> None:
    """Refuse to write over other imported pairs whose import ended; --force-data allows it."""
    data, stored = context.data, stored_identity(context.data) if not context.config.force_data else None
    if stored is None or stored.identity == identity or not data.summary.exists():
        return
    imported = read_counts(data.summary, GenerationSummary).imported
    known = "another source" if imported is None else imported.described()
    raise UsageError(
        f"{data.path}: holds other pairs, imported from {known}; use another --base-dir, or --force-data to replace "
        "them"
    )


def _is_there(context: StepContext, identity: Mapping[str, object]) -> bool:
    """Whether this very import was done here and its files are as it left them."""
    if context.config.force_data:
        return False
    try:
        outputs = read_outputs(context.workspace, "generate")
    except UntrustedResultError:
        return False
    unchanged = outputs is not None and outputs.fingerprint == fingerprint(identity)
    return unchanged and outputs is not None and not outputs.changed() and not outputs.missing()


def _write(
    context: StepContext, found: SortedPairs, summary: GenerationSummary, pairs: bytes, identity: Mapping[str, object]
) -> None:
    """Write the files, the summary after all others and the marker last; a kill leaves an import that did not end."""
    workspace, data = context.workspace, context.data
    for number in workspace.marked_rounds("generate"):
        workspace.marker("generate", number).unlink()
    for earlier in workspace.rounds():
        if earlier.path.is_dir():
            remove_data(earlier)
    write_identity(data, identity, found.rows)
    write_jsonl(data.instructions, found.instructions)
    write_jsonl(data.responses, [])  # nobody was asked; the marker of data always lists them
    write_atomic(data.pairs, pairs)
    write_jsonl(data.rejected, found.rejected)
    write_json(data.summary, summary.as_json())
    write_marker(workspace, "generate", 1, fingerprint=fingerprint(identity), outputs=data.imported_outputs())
