"""A pass over the instructions that can be killed at any moment and goes on after its last complete batch.

Batches are planned up front as chunks of consecutive instructions. A chunk's records are appended and made durable
together; a seed belongs to the pass and the chunk; a batch size that had to be reduced enters the plan, and the chunk
in which that happened is made again with it. So the same files come, killed or not.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from cai_bootstrap.errors import DataError
from cai_bootstrap.records import Record
from cai_bootstrap.workspace import JsonlWriter, mend_jsonl, read_json, read_jsonl, write_json

RecordT = TypeVar("RecordT", bound=Record)
Say = Callable[[str], None]


def seed_of(seed: int, pass_name: str, chunk: int) -> int:
    """The sampling seed (63 bits) of one planned batch of one pass."""
    digest = hashlib.sha256(f"{seed}:{pass_name}:{chunk}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


class BatchPlan:
    """Which batch size each chunk of each pass is decoded with: the configured one until a reduction is recorded."""

    def __init__(self, path: Path, *, batch_size: int, fingerprint: str) -> None:
        self._path, self._fingerprint, self._batch_size = path, fingerprint, batch_size
        self._reductions: list[tuple[str, int, int]] = []
        if path.exists():
            known = read_json(path)
            if known.get("fingerprint") == fingerprint and known.get("batch_size") == batch_size:
                self._reductions = [(name, int(chunk), int(size)) for name, chunk, size in known["reductions"]]

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


class ChunkFile(Generic[RecordT]):
    """An append-only file of a pass's records; `sizes[i]` is how many belong to chunk i."""

    def __init__(self, path: Path, kind: type[RecordT], sizes: Sequence[int], say: Say) -> None:
        self.path, self._kind, self.sizes, self._say = path, kind, list(sizes), say

    def complete_chunks(self) -> int:
        """How many chunks are whole on disk; what stands after them (a batch that was cut short) is removed."""
        if not self.path.exists():
            return 0
        mend_jsonl(self.path, self._say)
        with self.path.open("rb") as source:
            offsets = [0]
            for line in source:
                offsets.append(offsets[-1] + len(line))
        whole, lines = 0, 0
        for size in self.sizes:
            if lines + size > len(offsets) - 1:
                break
            whole, lines = whole + 1, lines + size
        if whole == len(self.sizes) and lines < len(offsets) - 1:
            raise DataError(f"{self.path}: holds more records than this run plans; use --force-data to make it again")
        if lines < len(offsets) - 1:
            self._say(f"{self.path.name}: {len(offsets) - 1 - lines} records of an unfinished batch are made again")
            with self.path.open("rb+") as target:
                target.truncate(offsets[lines])
        return whole

    def append(self, records: Sequence[RecordT], chunk: int) -> None:
        """Append one whole chunk, durably. Raises DataError if the number of records is not the planned one."""
        if len(records) != self.sizes[chunk]:
            raise DataError(f"{self.path}: chunk {chunk} gave {len(records)} records, {self.sizes[chunk]} were planned")
        with JsonlWriter(self.path) as writer:
            for record in records:
                writer.write(record)
            writer.commit()

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
