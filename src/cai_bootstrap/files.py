"""How files are written so that a kill at any moment loses nothing, and read so that nothing in them can do harm.

Files are either whole or absent (`write_atomic`), or append-only JSONL whose last line may be torn (`read_jsonl`,
`JsonlWriter`).
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from cai_bootstrap.errors import DataError, UsageError

# Of a JSON file that is read whole. The largest of a run's own are a few MB (results of 520 items: 1 MB).
LARGEST_JSON = 256 * 1024**2  # bytes
DEEPEST_JSON = 64  # levels; results have 7
LONGEST_LINE = 16 * 1024**2  # bytes, of a JSONL file or a text: a conversation is one line
LONGEST_NUMBER = 300  # digits: 10^300 is still a float
_NOT_OURS = "{}: a link, a pipe or a device, to which no run appends; remove it, or put the file itself there"
_SURROGATE = re.compile("[\ud800-\udfff]")
RecordT = TypeVar("RecordT", bound=BaseModel)
JsonObject = dict[str, Any]  # a JSON object on its way into or out of a file; inside the code it is a type


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, no NaN. Raises ValueError on NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: object) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def write_atomic(path: Path, text: str | bytes) -> None:
    """Write a file so that readers see the old one or the new one, whole and durable, never a part.

    A link of that name is replaced; what it leads to stays as it is. The mode is 0644 less what the umask takes.
    Raises UsageError, writing nothing, for a name that a folder, a pipe or a device has.
    """
    with _replacing(path) as target:
        target.write(text.encode() if isinstance(text, str) else text)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file, of a name that nobody can foresee, that takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: a folder, a pipe or a device, in whose place no file is put; name a file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(handle, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_append(path: Path) -> int:
    """A descriptor that writes at a file's end; the file is made where there is none.

    Raises UsageError for a link, a pipe or a device: what stands behind it is no file of a run.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise UsageError(_NOT_OURS.format(path)) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) and not os.path.samestat(status, os.stat(os.devnull)):
        os.close(handle)
        raise UsageError(_NOT_OURS.format(path))
    return handle


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically. Raises ValueError on NaN or infinity, writing nothing."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, foreign: bool = False) -> Any:
    """Read a JSON file: every key once, finite numbers, whole text. NaN and infinity are refused.

    `foreign`: other people's writers made the file, and in theirs a key may stand twice (the last one counts).
    Raises DataError naming the file and what is wrong: it is absent, torn, no plain file (a pipe, a device, a folder),
    larger than `LARGEST_JSON`, nested deeper than `DEEPEST_JSON`, or holds what no writer of ours can have written.
    """
    try:
        return parse_json(_plain_bytes(path).decode("utf-8-sig"), foreign=foreign)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error


def parse_json(text: str, *, foreign: bool = False) -> Any:
    """A JSON text's value, as `read_json` reads it. Raises ValueError for what is none."""
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
            parse_float=_finite_number,
            object_pairs_hook=None if foreign else _each_key_once,
        )
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels") from error
    _must_be_shallow_text(value)
    return value


def _plain_bytes(path: Path) -> bytes:
    """A plain file's bytes. It is opened without waiting, because a pipe that nobody writes to would hang here."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no plain file but a folder, a pipe or a device")
        with os.fdopen(handle, "rb", closefd=False) as source:
            # Beyond its stated size too: files of /proc state none and may never end.
            size = os.fstat(handle).st_size
            data = source.read(LARGEST_JSON + 1) if size <= LARGEST_JSON else b""
    finally:
        os.close(handle)
    if max(size, len(data)) > LARGEST_JSON:
        raise ValueError(f"it is larger than {LARGEST_JSON // 1024**2} MiB, the most that is read")
    return data


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _whole_number(digits: str) -> int:
    """A whole number that a float can hold too, so that no later arithmetic overflows."""
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"{digits[:20]}… is a number of {len(digits)} digits; none is longer than {LONGEST_NUMBER}")
    return int(digits)


def _finite_number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large to be a number")
    return number


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's content; of two equal keys one reader would believe the first, and another the last."""
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return content


def _must_be_shallow_text(value: Any) -> None:
    """Raises ValueError for half a surrogate pair, which is no text, and for nesting that recursion could not walk."""
    level = [value]
    for _ in range(DEEPEST_JSON):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str) and not one.isascii() and (half := _SURROGATE.search(one)):
                raise ValueError(f"a text holds U+{ord(half.group()):04X}, half a surrogate pair, which is no text")
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels")


def write_jsonl(path: Path, records: Iterable[BaseModel | Mapping[str, Any]]) -> int:
    """Write records as JSONL atomically, one at a time; returns how many."""
    count = 0
    with _replacing(path) as target:
        for record in records:
            target.write(jsonl_line(record).encode())
            count += 1
    return count


def jsonl_line(record: BaseModel | Mapping[str, Any]) -> str:
    """A record as its line, newline included."""
    value = record.model_dump() if isinstance(record, BaseModel) else record
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def mend_jsonl(path: Path, say: Callable[[str], None] = lambda message: print(message, file=sys.stderr)) -> None:
    """Cut a torn last line (a write that was killed) off an append-only file, and say so."""
    if not path.exists() or path.stat().st_size == 0:
        return
    os.close(open_append(path))
    with path.open("rb+") as target:
        target.seek(-1, os.SEEK_END)
        if target.read(1) == b"\n":
            return
        size = target.tell()
        keep, block = 0, 1 << 16
        for start in range((size - 1) // block * block, -1, -block):
            target.seek(start)
            found = target.read(min(block, size - start)).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
        target.truncate(keep)
    say(f"{path}: the last line was torn ({size - keep} bytes); it was cut off and will be made again")


def jsonl_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line of a JSONL file that is not blank.

    A line ends at a newline and nowhere else: JSON text may hold U+2028 and U+0085. A byte order mark is no part of it.
    Raises DataError as `text_lines` does.
    """
    for number, line in text_lines(path, "JSON object"):
        if line.strip():
            yield number, line.rstrip("\r\n")


def text_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """A file's lines with their numbers, line ends kept, a byte order mark left out. `what` a line holds.

    Raises DataError naming line and byte (both from 1) of what is no UTF-8 text, a line that is too long, and a file
    that cannot be read.
    """
    before = 0
    try:
        with path.open("rb") as source:
            for number, raw in enumerate(iter(lambda: source.readline(LONGEST_LINE + 1), b""), 1):
                yield number, _decoded(raw, path, number, before, what)
                before += len(raw)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decoded(raw: bytes, path: Path, number: int, before: int, what: str) -> str:
    if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: not UTF-8 but UTF-16 text (its first two bytes say so); save it as UTF-8")
    where = f"{path}: line {number}"
    if b"\0" in raw:
        at = before + raw.index(0) + 1
        raise DataError(f"{where}, byte {at}: a zero byte; this is a binary file, not {what}s as text")
    if len(raw) > LONGEST_LINE:
        raise DataError(f"{where} is longer than {LONGEST_LINE // 1024**2} MiB; is there one {what} a line?")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = before + error.start + 1
        raise DataError(
            f"{where}, byte {at}: 0x{raw[error.start]:02x} is not UTF-8 there; save the file as UTF-8 "
            "(or is it a binary or packed file?)"
        ) from error


def read_jsonl(path: Path, kind: type[RecordT]) -> Iterator[RecordT]:
    """Yield the records of a JSONL file, in order, one at a time.

    Raises DataError naming the file and line of the first record that is not one.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; run the step that makes it first")
    for number, line in jsonl_lines(path):
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the line"
            raise DataError(
                f"{path}: line {number} is not a {kind.__name__} record: {where}: {problem['msg']}; "
                "delete the file to make it again"
            ) from error


class JsonlWriter:
    """Appends records to a JSONL file; `commit` makes what was written so far durable."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        mend_jsonl(path)
        self.path = path
        self._target: IO[str] = os.fdopen(open_append(path), "a", encoding="utf-8")

    def write(self, record: BaseModel | Mapping[str, Any]) -> None:
        self._target.write(jsonl_line(record))

    def commit(self) -> None:
        self._target.flush()
        os.fsync(self._target.fileno())

    def __enter__(self) -> "JsonlWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._target.close()
