"""Reading prompts from a user's file: JSON lines, JSON, CSV, TSV, Parquet, or plain text with one prompt a line.

Every reader yields places (line or row, from 1) and cells, one at a time, and holds no more of the file than it needs.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import read_json

COLUMNS = ("prompt", "instruction", "text", "question", "messages")
LONGEST_LINE = 16 * 1024**2  # bytes: a conversation is one line
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".text", ".md", "")
Cells = Iterator[tuple[int, object]]
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w.-]+))?")


def hub_dataset(source: str) -> tuple[str, str | None] | None:
    """Id and configuration (`owner/name`, `owner/name:configuration`) if a source can be a dataset's; else None."""
    match = _HUB_ID.fullmatch(source)
    if match is None or (Path(source).suffix.lower() in SUFFIXES and Path(source).suffix):
        return None
    return match[1], match[2]


def choose_column(names: Sequence[str], column: str | None, source: str) -> str:
    """The column to read: the named one, else the first of `COLUMNS`. Raises UsageError naming those there are."""
    present = ", ".join(names) or "none"
    if column is not None and column not in names:
        raise UsageError(f"{source}: no column '{column}'; there are: {present}")
    chosen = column or next((known for known in COLUMNS if known in names), None)
    if chosen is None:
        raise UsageError(
            f"{source}: none of its columns is called {', '.join(COLUMNS)}; there are: {present}. "
            "Name the one with the prompts: --prompt-column NAME"
        )
    return chosen


def read_prompt_file(path: Path, column: str | None) -> Cells:
    """The cells of a file's prompt column with their places, in the file's order; the file's ending says its format.

    Raises UsageError, before the first cell or at the line at fault: the file is empty, has another ending, is no
    UTF-8 text (with line and byte) or not of its format, or lacks the column (with those it has).
    """
    readers: dict[str, Callable[[Path, str | None], Cells]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _table,
        ".tsv": _table,
        ".parquet": _parquet,
    }
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(ending for ending in SUFFIXES if ending)
        raise UsageError(f"{path}: its ending is {suffix}; known are {known}")
    if path.stat().st_size == 0:
        raise UsageError(f"{path}: the file is empty; it needs at least 50 prompts")
    return readers.get(suffix, _plain_text)(path, column)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """A file's lines with their numbers, line ends kept, a byte-order mark left out.

    Raises UsageError naming line and byte (both from 1) of what is no UTF-8 text.
    """
    before = 0
    try:
        with path.open("rb") as source:
            for number, raw in enumerate(iter(lambda: source.readline(LONGEST_LINE + 1), b""), 1):
                yield number, _decoded(raw, path, number, before)
                before += len(raw)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _decoded(raw: bytes, path: Path, number: int, before: int) -> str:
    if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{path}: UTF-16 text (its first two bytes say so); save it as UTF-8")
    where = f"{path}: line {number}"
    if b"\0" in raw:
        raise UsageError(
            f"{where}, byte {before + raw.index(0) + 1}: a zero byte; this is a binary file, not prompts as text"
        )
    if len(raw) > LONGEST_LINE:
        raise UsageError(f"{where} is longer than {LONGEST_LINE // 1024**2} MiB; is there one prompt a line?")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = before + error.start
        raise UsageError(
            f"{where}, byte {at + 1}: 0x{raw[error.start]:02x} is not UTF-8 there; save the file as UTF-8 "
            "(or is it a binary or packed file?)"
        ) from error


def _plain_text(path: Path, column: str | None) -> Cells:
    if column is not None:
        raise UsageError(f"{path}: plain text, one prompt a line, has no columns; leave --prompt-column out")
    yield from text_lines(path)


def _json_lines(path: Path, column: str | None) -> Cells:
    chosen: str | None = None
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: line {number}: not valid JSON: {error}; each line is one object") from error
        cell, chosen = _cell(value, column, chosen, f"{path}: line {number}")
        yield number, cell


def _json(path: Path, column: str | None) -> Cells:
    """A list of texts or of objects; a file that begins otherwise is read as JSON lines."""
    first = next((line.lstrip() for _, line in text_lines(path) if line.strip()), "")
    if not first.startswith("["):
        yield from _json_lines(path, column)
        return
    for _ in text_lines(path):  # names the byte that is no text, which a JSON parser cannot
        pass
    try:
        rows = read_json(path, foreign=True)
    except DataError as error:
        raise UsageError(str(error)) from error
    chosen: str | None = None
    for number, value in enumerate(rows, 1):
        cell, chosen = _cell(value, column, chosen, f"{path}: entry {number}")
        yield number, cell


def _cell(value: object, column: str | None, chosen: str | None, where: str) -> tuple[object, str | None]:
    """The prompt of a row, and the column, which the first object decides."""
    if isinstance(value, str) and column is None:
        return value, chosen
    if not isinstance(value, Mapping):
        raise UsageError(f'{where}: neither a text nor an object with a prompt; expected e.g. {{"prompt": "…"}}')
    chosen = chosen or choose_column([str(name) for name in value], column, where)
    return value.get(chosen), chosen


def _table(path: Path, column: str | None) -> Cells:
    lines = (line for _, line in text_lines(path))
    header_line = next((line for line in lines if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header_line.count)
    try:
        names = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter, strict=True), [])]
        place = names.index(choose_column(names, column, f"{path}: its first line, the header"))
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        for row in rows:
            if len(row) > len(names):
                raise UsageError(
                    f"{path}: line {rows.line_num + 1} has {len(row)} fields and the header {len(names)}; "
                    "put quotation marks around a text with a separator in it"
                )
            if row:
                yield rows.line_num + 1, row[place] if place < len(row) else ""
    except csv.Error as error:
        raise UsageError(f"{path}: not valid as a table: {error}; is a quotation mark left open?") from error


def _parquet(path: Path, column: str | None) -> Cells:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(f"{path}: reading Parquet needs pyarrow; install it: pip install pyarrow") from error
    try:
        source = ParquetFile(path)
        chosen = choose_column(source.schema_arrow.names, column, str(path))
        number = 0
        for batch in source.iter_batches(batch_size=1_000, columns=[chosen]):
            for cell in batch.column(0).to_pylist():
                number += 1
                yield number, cell
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path}: not readable as Parquet: {error}") from error
