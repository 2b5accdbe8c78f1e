"""Work on many rows that can be killed at any moment and goes on after its last complete chunk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cai_bootstrap.batches import ChunkFile, Say
from cai_bootstrap.errors import InterruptedRunError
from cai_bootstrap.records import Record

RecordT = TypeVar("RecordT", bound=Record)


def in_chunks(
    path: Path,
    kind: type[RecordT],
    count: int,
    size: int,
    work: Callable[[range], Sequence[RecordT]],
    *,
    what: str,
    say: Say,
    stopping: Callable[[], bool],
) -> list[RecordT]:
    """Do `count` rows, `size` at a time, each chunk kept in `path` once it is done; returns all records in order.

    `work` gets the numbers of a chunk's rows and returns one record for each. What is in the file is read back, so its
    path must belong to this very work. Raises InterruptedRunError, naming `what`, when asked to stop.
    """
    chunks = [range(n, min(n + size, count)) for n in range(0, count, size)]
    file = ChunkFile(path, kind, [len(chunk) for chunk in chunks], say)
    for number in range(file.complete_chunks(), len(chunks)):
        if stopping():
            raise InterruptedRunError(f"stopped after {chunks[number].start} of {count} {what}; start again to go on")
        file.append(work(chunks[number]), number)
    return [record for records in file.chunks() for record in records]
