"""Rows of a user's file: JSON lines, JSON, CSV, TSV, Parquet, or plain text with one text a line.

Every reader yields places (line or row, from 1) and rows, one at a time, and holds no more of the file than it needs.
Prompts (`prompt_file.py`) and preference pairs (`pair_rows.py`) are read through these.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap import files
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import read_json

TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
PLAIN = (".txt", ".text", ".md", "")
SUFFIXES = (*TABLES, *PLAIN)
Cells = Mapping[str, object]
Rows = Iterator[tuple[int, str | Cells]]
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w.-]+))?")


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a source of rows.

    `choose` gets the names of the columns and the place where they stand, and gives those to read; what it raises goes
    through. A column that it gives and that a row lacks is left out of it. `what` is one row's content for error
    messages (`prompt`), `example` a row as JSON, `texts` whether a row may be a text alone, `fewest` how many rows are
    needed.
    """

    choose: Callable[[Sequence[str], str], Sequence[str]]
    what: str
    example: str
    texts: bool
    fewest: int


def hub_dataset(source: str) -> tuple[str, str | None] | None:
    """Id and configuration (`owner/name`, `owner/name:configuration`) if a source can be a dataset's; else None."""
    match = _HUB_ID.fullmatch(source)
    if match is None or (Path(source).suffix.lower() in SUFFIXES and Path(source).suffix):
        return None
    return match[1], match[2]


def located(source: str, what: str) -> Path | tuple[str, str | None]:
    """Where a source of rows is: a file, or a dataset of the hub by its id and configuration.

    Raises UsageError if it can be neither.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.exists():
        raise UsageError(f"{source}: a folder or a device, not a file of {what}s; give one file")
    dataset = hub_dataset(source)
    if dataset is None:
        raise UsageError(f"{source}: no such file, and no dataset of the hub, whose id is owner/name")
    return dataset


def read_rows(path: Path, wanted: Wanted) -> Rows:
    """The wanted columns of a file's rows with their places, in the file's order; the file's ending says its format.

    Raises UsageError, before the first row or at the line at fault: the file is empty, has another ending, is no
    UTF-8 text (with line and byte) or not of its format, or lacks a column (with those it has).
    """
    readers: dict[str, Callable[[Path, Wanted], Rows]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _table,
        ".tsv": _table,
        ".parquet": _parquet,
    }
    suffix = path.suffix.lower()
    if suffix not in (SUFFIXES if wanted.texts else TABLES):
        known = ", ".join(ending for ending in (SUFFIXES if wanted.texts else TABLES) if ending)
        raise UsageError(f"{path}: its ending is {suffix or 'missing'}; known are {known}")
    if path.stat().st_size == 0:
        raise UsageError(f"{path}: the file is empty; it needs at least {wanted.fewest} {wanted.what}s")
    return readers.get(suffix, _plain_text)(path, wanted)


def text_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """A file's lines with their numbers, line ends kept, a byte-order mark left out.

    Raises UsageError naming line and byte (both from 1) of what is no UTF-8 text.
    """
    try:
        yield from files.text_lines(path, what)
    except DataError as error:
        raise UsageError(str(error)) from error


def _plain_text(path: Path, wanted: Wanted) -> Rows:
    yield from text_lines(path, wanted.what)


def _json_lines(path: Path, wanted: Wanted) -> Rows:
    chosen: Sequence[str] | None = None
    for number, line in text_lines(path, wanted.what):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: line {number}: not valid JSON: {error}; each line is one object") from error
        row, chosen = _row(value, wanted, chosen, f"{path}: line {number}")
        yield number, row


def _json(path: Path, wanted: Wanted) -> Rows:
    """A list of texts or of objects; a file that begins otherwise is read as JSON lines."""
    first = next((line.lstrip() for _, line in text_lines(path, wanted.what) if line.strip()), "")
    if not first.startswith("["):
        yield from _json_lines(path, wanted)
        return
    for _ in text_lines(path, wanted.what):  # names the byte that is no text, which a JSON parser cannot
        pass
    try:
        values = read_json(path, foreign=True)
    except DataError as error:
        raise UsageError(str(error)) from error
    chosen: Sequence[str] | None = None
    for number, value in enumerate(values, 1):
        row, chosen = _row(value, wanted, chosen, f"{path}: entry {number}")
        yield number, row


def _row(
    value: object, wanted: Wanted, chosen: Sequence[str] | None, where: str
) -> tuple[str | Cells, Sequence[str] | None]:
    """A row, and the columns, which the first object decides."""
    if isinstance(value, str) and wanted.texts:
        return value, chosen
    if not isinstance(value, Mapping):
        kinds = "neither a text nor an object" if wanted.texts else "no object"
        raise UsageError(f"{where}: {kinds} with a {wanted.what}; expected e.g. {wanted.example}")
    chosen = chosen or wanted.choose([str(name) for name in value], where)
    return {name: value[name] for name in chosen if name in value}, chosen


def _table(path: Path, wanted: Wanted) -> Rows:
    lines = (line for _, line in text_lines(path, wanted.what))
    header_line = next((line for line in lines if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header_line.count)
    try:
        names = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter, strict=True), [])]
        chosen = wanted.choose(names, f"{path}: its first line, the header")
        places = {name: names.index(name) for name in chosen if name in names}
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        for row in rows:
            if len(row) > len(names):
                raise UsageError(
                    f"{path}: line {rows.line_num + 1} has {len(row)} fields and the header {len(names)}; "
                    "put quotation marks around a text with a separator in it"
                )
            if row:
                yield rows.line_num + 1, {n: row[place] if place < len(row) else "" for n, place in places.items()}
    except csv.Error as error:
        raise UsageError(f"{path}: not valid as a table: {error}; is a quotation mark left open?") from error


def _parquet(path: Path, wanted: Wanted) -> Rows:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(f"{path}: reading Parquet needs pyarrow; install it: pip install pyarrow") from error
    try:
        source = ParquetFile(path)
        names = source.schema_arrow.names
        chosen = wanted.choose(names, str(path))
        number = 0
        for batch in source.iter_batches(batch_size=1_000, columns=[name for name in chosen if name in names]):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path}: not readable as Parquet: {error}") from error
