"""Pairs that a person has already, in the place of those that a model would make: read, sorted, checked, marked.

Not a step of a run: `cai pairs import` does it once, and the steps after generation read what it wrote.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import fingerprint, jsonl_line, sha256_file, write_atomic, write_json
from cai_bootstrap.generation.imported_pairs import SortedPairs, sort_pairs
from cai_bootstrap.inference.hub_rows import hub_split
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.instructions.held_back import held_back
from cai_bootstrap.instructions.pair_rows import Columns
from cai_bootstrap.instructions.rows import located, read_rows
from cai_bootstrap.records import Record
from cai_bootstrap.run.counts import GenerationSummary, ImportedPairs, read_counts
from cai_bootstrap.run.folder import CONSTITUTION, DataFolder
from cai_bootstrap.run.lock import hold
from cai_bootstrap.run.markers import Outputs, read_outputs, write_marker
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import (
    IMPORT_REMEDY,
    IMPORTED,
    imported_identity,
    remove_data,
    stored_identity,
    write_identity,
)
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
    fewer than `pairs.min_pairs` usable pairs, for a source that lies in the data folder, and for a folder that holds
    other data or a file of somebody's, unless `force_data`, which removes the data of all rounds first and leaves other
    files alone; UntrustedResultError if this very import was done here and its files were changed since; LockedError if
    a run holds the base directory.
    """
    if context.workspace.stage is CONSTITUTION:
        raise UsageError("pairs are imported for Stage 1 alone: those of a constitution come from its principles")
    _refuse_own_folder(context, source)
    _refuse_generated(context)
    found, imported = _sorted_pairs(context, source)
    pairs = _lines(found.pairs)
    identity = {IMPORTED: imported.sha256, "pairs_sha256": hashlib.sha256(pairs).hexdigest()}
    files = _Files(found, found.summary(imported), pairs, identity)
    what = f"cai pairs import {source.name}"
    workspace = context.workspace.create()
    with hold(workspace, what), hold(workspace, what, name="step"):
        there_before = not context.config.force_data and _is_there(context, files)
        if not there_before:
            _write(context, files)
    return Import(files.summary, found.first_places, there_before)


@dataclass(frozen=True)
class _Files:
    """What an import writes."""

    found: SortedPairs
    summary: GenerationSummary
    pairs: bytes
    identity: Mapping[str, object]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.identity)

    def contents(self, data: DataFolder) -> dict[Path, bytes]:
        """Each file but the identity with what stands in it, in the order in which they are written."""
        return {
            data.instructions: _lines(self.found.instructions),
            data.responses: b"",  # nobody was asked; the marker of data always lists them
            data.pairs: self.pairs,
            data.rejected: _lines(self.found.rejected),
        }


def _lines(rows: Iterable[Record]) -> bytes:
    return "".join(map(jsonl_line, rows)).encode()


class _Rows:
    """The rows of a source, to be read once; what was read has a hash."""

    def __init__(self, source: Source) -> None:
        place = located(source.name, "pair")
        wanted = source.columns.wanted(prompt_given=source.prompt_named)
        self._path, self._seen, self._limit = None, hashlib.sha256(), source.limit
        self._prompt = source.columns.prompt if source.prompt_named else None
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
            if self._prompt is not None and self._prompt not in row:  # a row without the prompt that a person named
                row = {**row, self._prompt: None}
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


def _refuse_own_folder(context: StepContext, source: Source) -> None:
    """Refuse a source that lies where its pairs would be written."""
    place, folder = Path(source.name).expanduser().absolute(), context.data.path
    if not place.exists():  # a dataset of the hub
        return
    if place.is_relative_to(folder) or place.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{source.name}: lies in the data folder {folder}, where the pairs are written; move it out of there, or "
            "use another --base-dir"
        )


def _refuse_generated(context: StepContext) -> None:
    """Refuse to write beside data or files that no import made; --force-data allows it."""
    if context.config.force_data:
        return
    data = context.data
    stored = stored_identity(data)
    if stored is None:
        _refuse_others(context, own=[])
    elif IMPORTED not in stored.identity:
        raise UsageError(
            f"{data.path}: holds data already ({data.identity.name}), which an import would replace; use another "
            "--base-dir, or --force-data to remove them"
        )


def _refuse_others(context: StepContext, own: Collection[Path]) -> None:
    """Refuse to write beside files that are not this import's `own`."""
    first, *later = context.workspace.rounds()
    for data in (first, *later):
        for path in sorted(data.path.glob("*.json*")):
            if path.suffix in {".json", ".jsonl"} and path not in own and not path.is_dir():
                raise UsageError(
                    f"{path}: this import did not write it; use another --base-dir, or --force-data, which removes the "
                    "data of all rounds and leaves files of other names"
                )


def _is_there(context: StepContext, files: _Files) -> bool:
    """Whether this very import was done here and its files are as it left them; a lost marker is written again.

    False if nothing is here, or this import, which did not end.
    """
    data, stored = context.data, stored_identity(context.data)
    _refuse_generated(context)
    if stored is None:
        return False
    if stored.identity != files.identity:
        raise UsageError(
            f"{data.path}: holds other pairs, imported from {_known_source(data)}; use another --base-dir, or "
            "--force-data to replace them"
        )
    if not data.summary.exists():
        _refuse_others(context, own=[data.identity, *data.imported_outputs().values()])
        return False
    imported_identity(data)
    marker = _own_marker(context, files)
    changed = _changed(data, files) if marker is None else [*marker.changed(), *marker.missing()]
    for path in changed:
        raise UntrustedResultError(f"{path}: is not what `cai pairs import` wrote; {IMPORT_REMEDY}")
    if marker is None:
        _write_marker(context, files)
    return True


def _known_source(data: DataFolder) -> str:
    imported = read_counts(data.summary, GenerationSummary).imported if data.summary.exists() else None
    return "another source" if imported is None else imported.described()


def _own_marker(context: StepContext, files: _Files) -> Outputs | None:
    """The marker of this import, or None if it is gone, torn, or of data that lie elsewhere."""
    try:
        outputs = read_outputs(context.workspace, "generate")
    except UntrustedResultError:
        return None
    own = set(context.data.imported_outputs().values())
    return outputs if outputs and outputs.fingerprint == files.fingerprint and set(outputs.hashes) == own else None


def _changed(data: DataFolder, files: _Files) -> list[Path]:
    """The files that are not what this import writes. The source may lie elsewhere by now."""
    changed = [path for path, content in files.contents(data).items() if not _holds(path, content)]
    summary = read_counts(data.summary, GenerationSummary)
    same = summary.model_copy(update={"imported": files.summary.imported}) == files.summary
    return changed if same else [*changed, data.summary]


def _holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def _write(context: StepContext, files: _Files) -> None:
    """Write the files, the identity first, the summary after all others and the marker last.

    With --force-data the data of all rounds are removed, the first round's once the identity says that this import
    began: a kill leaves an import that did not end.
    """
    workspace, data = context.workspace, context.data
    if context.config.force_data:
        for number in reversed(workspace.marked_rounds("generate")):
            workspace.marker("generate", number).unlink()
        for later in reversed(workspace.rounds()[1:]):
            remove_data(later)
        data.summary.unlink(missing_ok=True)
    write_identity(data, files.identity, files.found.rows)
    if context.config.force_data:
        remove_data(data, but=data.identity)
    for path, content in files.contents(data).items():
        write_atomic(path, content)
    write_json(data.summary, files.summary.as_json())
    _write_marker(context, files)


def _write_marker(context: StepContext, files: _Files) -> None:
    outputs = context.data.imported_outputs()
    write_marker(context.workspace, "generate", 1, fingerprint=files.fingerprint, outputs=outputs)
