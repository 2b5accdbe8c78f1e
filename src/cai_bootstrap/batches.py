"""A pass over the instructions that can be killed at any moment and goes on after its last complete batch.

Batches are planned up front as chunks of consecutive instructions. A chunk's records are appended and made durable
together; a seed belongs to the pass and the chunk; a batch size that had to be reduced enters the plan, and the chunk
in which that happened is made again with it. So the same files come, killed or not.

Once a chunk is durable, its hash is written into `chunks.json` beside. Only a chunk with a hash is done: what a kill
left after it is made again, and what was changed before it is never taken for the model's.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.files import JsonlWriter, jsonl_line, mend_jsonl, read_json, read_jsonl, write_json
from cai_bootstrap.records import Record
from cai_bootstrap.run.folder import CHUNKS, PLAN

RecordT = TypeVar("RecordT", bound=Record)
ModelT = TypeVar("ModelT", bound=BaseModel)
Say = Callable[[str], None]


def seed_of(seed: int, pass_name: str, chunk: int) -> int:
    """The sampling seed (32 bits) of one planned batch of one pass."""
    digest = hashlib.sha256(f"{seed}:{pass_name}:{chunk}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


class BatchPlan:
    """Which batch size each chunk of each pass is decoded with: the configured one until a reduction is recorded."""

    def __init__(self, path: Path, *, batch_size: int, fingerprint: str) -> None:
        self._path, self._fingerprint, self._batch_size = path, fingerprint, batch_size
        self._reductions: list[tuple[str, int, int]] = []
        if path.exists():
            plan = _validated(path, _Plan)
            if plan.fingerprint == fingerprint and plan.batch_size == batch_size:
                self._reductions = plan.reductions

    def batch_size(self, pass_name: str, chunk: int) -> int:
        """The size for one chunk: every reduction recorded for this pass at or before it applies."""
        sizes = [size for name, at, size in self._reductions if name == pass_name and at <= chunk]
        return min([self._batch_size, *sizes])

    def reduce(self, pass_name: str, chunk: int, size: int) -> None:
        """Record that from this chunk of this pass on, `size` prompts fit together."""
        self._reductions.append((pass_name, chunk, size))
        self.save()

    def save(self) -> None:
        """Write the plan, so that a resumed run reads it."""
        write_json(
            self._path,
            {"fingerprint": self._fingerprint, "batch_size": self._batch_size, "reductions": self._reductions},
        )


class Done(BaseModel):
    """One chunk that is done: its records, where it ends (bytes), and the hash of the file up to there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: int = Field(ge=0)
    end: int = Field(ge=0)
    sha256: str


class _Plan(BaseModel):
    fingerprint: str
    batch_size: int
    reductions: list[tuple[str, int, int]]


class _Chunks(BaseModel):
    files: dict[str, list[Done]] = Field(default_factory=dict)


class ChunkHashes:
    """`chunks.json` of a folder: the chunks of each of its files that are done.

    `{"files": {"responses.jsonl": [{"records": 4, "end": 2071, "sha256": "4c…"}, …]}}`
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CHUNKS

    def of(self, name: str) -> list[Done] | None:
        """The chunks of a file, or None if no hash was ever written for it."""
        return self._read().files.get(name)

    def write(self, name: str, chunks: Sequence[Done]) -> None:
        """Replace a file's chunks, durably."""
        files = {**self._read().files, name: list(chunks)}
        write_json(self._path, _Chunks(files=files).model_dump())

    def forget(self, *names: str) -> None:
        """Remove files' chunks: they are made anew."""
        files = {name: chunks for name, chunks in self._read().files.items() if name not in names}
        if self._path.exists():
            write_json(self._path, _Chunks(files=files).model_dump())

    def write_whole(self, path: Path) -> None:
        """Record a file that is written at once, as one chunk."""
        self.write(path.name, [_whole(path)])

    def check_whole(self, path: Path, remedy: str) -> None:
        """Raise UntrustedResultError if a file that was written at once is not what it was; then say `remedy`."""
        chunks = self.of(path.name)
        if chunks is not None and chunks != [_whole(path)]:
            raise UntrustedResultError(f"{path}: was changed after it was made; {remedy}")

    def fault(self) -> str | None:
        """What of this folder is not as it was made, in words, or None: hashes, plan, or a file of chunks."""
        try:
            for name, chunks in self._read().files.items():
                if _sound(self._path.with_name(name), chunks)[0] < len(chunks):
                    return f"{self._path.with_name(name)}: was changed after it was made"
            plan = self._path.with_name(PLAN)
            if plan.exists():
                _validated(plan, _Plan)
        except DataError as error:
            return str(error)
        return None

    def _read(self) -> _Chunks:
        return _validated(self._path, _Chunks) if self._path.exists() else _Chunks()


def _whole(path: Path) -> Done:
    content = path.read_bytes()
    return Done(records=content.count(b"\n"), end=len(content), sha256=hashlib.sha256(content).hexdigest())


def _validated(path: Path, kind: type[ModelT]) -> ModelT:
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise DataError(f"{path}: {where}: {problem['msg']}; restore it, or start anew (data: --force-data)") from error


def _sound(path: Path, chunks: Sequence[Done]) -> tuple[int, Any, int]:
    """How many chunks, from the first on, have their hashes; the running hash up to there, and where that is."""
    running, end = hashlib.sha256(), 0
    with path.open("rb") if path.exists() else io.BytesIO() as source:
        for number, chunk in enumerate(chunks):
            further = running.copy()
            further.update(source.read(chunk.end - end) if chunk.end >= end else b"")
            if further.hexdigest() != chunk.sha256:
                return number, running, end
            running, end = further, chunk.end
    return len(chunks), running, end


class ChunkFile(Generic[RecordT]):
    """An append-only file of a pass's records; `sizes[i]` is how many belong to chunk i.

    `remedy` tells what to do about a file that was changed, where later files were made from it. Without one, the
    chunks from the first changed one on are made again, with a notice.
    """

    def __init__(
        self, path: Path, kind: type[RecordT], sizes: Sequence[int], say: Say, *, remedy: str | None = None
    ) -> None:
        self.path, self._kind, self.sizes, self._say = path, kind, list(sizes), say
        self._remedy, self._hashes = remedy, ChunkHashes(path.parent)
        self._running, self._end = hashlib.sha256(), 0  # of the chunks that are done

    def complete_chunks(self) -> int:
        """How many chunks are done; what stands after them (a batch that was cut short) is removed.

        Raises UntrustedResultError if a chunk that was done is not what it was and there is a `remedy`; DataError if
        the file holds more than is planned.
        """
        chunks = self._hashes.of(self.path.name)
        if chunks is None:
            return self._adopted()
        planned = self.sizes[: len(chunks)]
        if len(chunks) > len(self.sizes) or [chunk.records for chunk in chunks] != planned:
            raise self._too_many()
        sound = self._sound(chunks)
        if sound < len(chunks):
            first = sum(self.sizes[:sound]) + 1
            where = f"{self.path}: batch {sound + 1} (from line {first} on) was changed or cut off after it was made"
            if self._remedy is not None:
                raise UntrustedResultError(f"{where}; {self._remedy}")
            self._say(f"{where}; it is made again, and what follows")
            chunks = chunks[:sound]
            self._hashes.write(self.path.name, chunks)
        self._cut(self._end, whole=len(chunks) == len(self.sizes))
        return len(chunks)

    def verify(self) -> None:
        """Raise UntrustedResultError if a chunk was changed since it was made, by whomever, while others were made."""
        chunks = self._hashes.of(self.path.name) or []
        if (sound := self._sound(chunks)) < len(chunks):
            what = f"{self.path}: batch {sound + 1} was changed while the run went on"
            raise UntrustedResultError(f"{what}; {self._remedy or 'start again'}")

    def _sound(self, chunks: Sequence[Done]) -> int:
        """How many chunks, from the first on, have their hashes; the running hash goes up to there."""
        sound, self._running, self._end = _sound(self.path, chunks)
        return sound

    def _cut(self, end: int, *, whole: bool) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == end:
            return
        mend_jsonl(self.path, self._say)
        with self.path.open("rb+") as target:
            target.seek(end)
            more = sum(1 for _ in target)
            if more and whole:
                raise self._too_many()
            if more:
                self._say(f"{self.path.name}: {more} records of an unfinished batch are made again")
            target.truncate(end)

    def _too_many(self) -> DataError:
        return DataError(f"{self.path}: holds more records than this run plans; use --force-data to make it again")

    def _adopted(self) -> int:
        """The whole chunks of a file without hashes (of an earlier version, or cut off in its first batch)."""
        if not self.path.exists():
            return 0
        mend_jsonl(self.path, self._say)
        chunks: list[Done] = []
        self._running, self._end = hashlib.sha256(), 0
        with self.path.open("rb") as source:
            for size in self.sizes:
                lines = list(islice(source, size))
                if len(lines) < size:
                    break
                content = b"".join(lines)
                self._running.update(content)
                self._end += len(content)
                chunks.append(Done(records=size, end=self._end, sha256=self._running.hexdigest()))
        self._cut(self._end, whole=len(chunks) == len(self.sizes))
        if chunks and self._end:
            self._say(f"{self.path.name}: no hashes were recorded for it; {len(chunks)} batches are taken as they are")
        self._hashes.write(self.path.name, chunks)
        return len(chunks)

    def append(self, records: Sequence[RecordT], chunk: int) -> None:
        """Append one whole chunk, durably. Raises DataError if the number of records is not the planned one."""
        if len(records) != self.sizes[chunk]:
            raise DataError(f"{self.path}: chunk {chunk} gave {len(records)} records, {self.sizes[chunk]} were planned")
        with JsonlWriter(self.path) as writer:
            for record in records:
                writer.write(record)
                content = jsonl_line(record).encode()
                self._running.update(content)
                self._end += len(content)
            writer.commit()
        done = Done(records=len(records), end=self._end, sha256=self._running.hexdigest())
        self._hashes.write(self.path.name, [*(self._hashes.of(self.path.name) or []), done])

    def chunks(self) -> Iterator[list[RecordT]]:
        """The records, chunk by chunk, never all at once."""
        if not any(self.sizes):
            yield from ([] for _ in self.sizes)
            return
        records = read_jsonl(self.path, self._kind)
        for size in self.sizes:
            yield list(islice(records, size))


class Lockstep:
    """Reads chunk files side by side, moving forward only, so that one chunk of each is in memory at a time."""

    def __init__(self, *files: ChunkFile[Any]) -> None:
        self._files = files
        self._rows: Iterator[tuple[list[Any], ...]] | None = None
        self._at = -1
        self._current: tuple[list[Any], ...] = ()

    def __iter__(self) -> Iterator[tuple[list[Any], ...]]:
        return zip(*(file.chunks() for file in self._files), strict=True)

    def all_at(self, number: int) -> tuple[list[Any], ...]:
        """Chunk `number` of each file; never an earlier one than before."""
        if self._rows is None:
            self._rows = iter(self)
        while self._at < number:
            self._current = next(self._rows)
            self._at += 1
        return self._current

    def at(self, number: int) -> list[Any]:
        """Chunk `number` of the first file."""
        return self.all_at(number)[0]
