"""A model folder's weight files on disk: which the loader reads, what their headers list, what their bytes hash to.

Nothing here builds a model. A safetensors file begins with a header, such as
`{"lm_head.weight": {"dtype": "BF16", "shape": [151936, 5120], "data_offsets": [0, 1555824640]}}`, so names, shapes and
truncation are seen without reading 64 GB.
"""

import hashlib
import json
import math
import mmap
import os
import struct
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import fingerprint, read_json, write_atomic
from cai_bootstrap.run.folder import resolve_cache_dir

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs"
LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
BLOCK = 1 << 24
READERS = 8  # files hashed at once
# A file system's clock ticks every few milliseconds (ext4: 4, exFAT: 2 s): a file that changed just before it was
# hashed can change again under the same time.
SETTLED_SECONDS = 2.0
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Tensor:
    """A tensor as its file's header lists it; `start` and `end` are bytes from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads: `model.safetensors`, else those that the index names. Others do not count.

    Raises UsageError if there is an index that is not one.
    """
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    return [folder / name for name in _indexed(folder / INDEX)]


def missing_weights(folder: Path) -> list[str]:
    """The weight files that are not there: of those that the index names, where the weights are in several files."""
    missing = [file.name for file in weight_files(folder) if not file.is_file()]
    if missing == [WEIGHTS] and any("-of-" in file.name for file in folder.glob("*.safetensors")):
        return [INDEX]  # a large model's index may be fetched after its first files
    return missing


def _indexed(index: Path) -> list[str]:
    refuse_pointer(index)
    try:
        content = read_json(index, foreign=True)
        names = {str(name) for name in content["weight_map"].values()}
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{index}: not an index of weight files ({error}); download it again") from error
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise UsageError(f"{index}: 'weight_map' must name safetensors files beside it; download it again")
    return sorted(names)


def refuse_pointer(path: Path) -> None:
    """Raise UsageError if the file is empty, or a git-lfs pointer that stands for the file itself."""
    with path.open("rb") as source:
        beginning = source.read(len(LFS_POINTER))
    size = path.stat().st_size
    if beginning == LFS_POINTER:
        raise UsageError(
            f"{path}: a git-lfs pointer ({size} bytes), not the file itself; run `git lfs pull` in its folder, or "
            "download the file"
        )
    if size == 0:
        raise UsageError(f"{path}: the file is empty (0 bytes); download it again")


def read_header(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds, by its header. Raises UsageError for a file that is not one, or not whole."""
    from safetensors import SafetensorError, safe_open

    refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as source:
        beginning = source.read(8)
        length = struct.unpack("<Q", beginning)[0] if len(beginning) == 8 else LARGEST_HEADER + 1
        if length > LARGEST_HEADER:
            raise UsageError(f"{path}: not a safetensors file ({size} bytes); download it again")
        header = source.read(length)
    if len(header) < length:
        raise UsageError(f"{path}: the file is cut off in its header ({size} bytes); download it again")
    tensors = _parse(path, header, 8 + length)
    whole = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if size != whole:
        fault = "cut off" if size < whole else "longer than its header lists"
        raise UsageError(f"{path}: the file is {fault}: {size:,} bytes, {whole:,} by its header; download it again")
    try:
        with safe_open(path, framework="np"):
            return tensors
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: not a sound safetensors file: {error}; download it again") from error


def _parse(path: Path, header: bytes, begin: int) -> dict[str, Tensor]:
    try:
        listed: dict[str, Any] = json.loads(header)
        listed.pop("__metadata__", None)
        return {
            name: Tensor(
                str(entry["dtype"]),
                tuple(int(length) for length in entry["shape"]),
                begin + int(entry["data_offsets"][0]),
                begin + int(entry["data_offsets"][1]),
            )
            for name, entry in listed.items()
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: not a safetensors file, its header cannot be read; download it again") from error


def read_headers(folder: Path) -> dict[str, Tensor]:
    """All tensors of the files that the loader reads. Raises UsageError for a file that is not whole, and for two
    files that hold a tensor of one name: which of them counts depends on the loader."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        header = read_header(path)
        if twice := sorted(tensors.keys() & header.keys()):
            raise UsageError(
                f"{path}: {listed(twice)} stands in another weight file as well; remove the files that {INDEX} should "
                "not name, or download the model again"
            )
        tensors |= header
    return tensors


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class Content:
    """What a file's bytes are. `xxh3` says in a tenth of a second per GB that they are still the same (sha256: two).

    `not_finite` is the first tensor that holds NaN or infinity.
    """

    sha256: str
    xxh3: str
    not_finite: str | None


def folder_content(folder: Path, *, read: bool = False) -> dict[str, Content]:
    """The content of every safetensors file in a folder, by name; with `read` from the bytes themselves, always."""
    files = sorted(folder.glob("*.safetensors"))
    with ThreadPoolExecutor(max_workers=max(1, min(READERS, os.cpu_count() or 1, len(files)))) as pool:
        contents = pool.map(proven_content if read else known_content, files)
        return {file.name: content for file, content in zip(files, contents, strict=True)}


def weights_fingerprint(contents: Mapping[str, Content]) -> str:
    """The one hash of a model's weights."""
    return fingerprint({name: content.sha256 for name, content in contents.items()})


def known_content(path: Path) -> Content:
    """A file's content, remembered while the file system says that the file was not touched.

    The inode's change time counts, which no copy tool and no `touch` can set: an edit in place, another file put here
    with the old one's size and time, and a renamed one are all read again. For what is loaded into memory, this is not
    believed (`proven_content`).
    """
    return _recall(_identity(path)) or _read_and_remember(path)


def proven_content(path: Path) -> Content:
    """A file's content from its bytes: the remembered sha256 if the bytes' xxh3 is the remembered one, else anew."""
    identity = _identity(path)
    if identity in _PROVEN:
        return _PROVEN[identity]
    remembered = _recall(identity)
    if remembered is None or _xxh3(path) != remembered.xxh3:
        return _read_and_remember(path)
    if _is_settled(identity):
        _PROVEN[identity] = remembered
    return remembered


_Identity = tuple[str, int, int, int, int, int]
_PROVEN: dict[_Identity, Content] = {}  # read by this very process


def _identity(path: Path) -> _Identity:
    resolved = path.resolve()
    stat = resolved.stat()
    return str(resolved), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev


def _is_settled(identity: _Identity) -> bool:
    return time.time() - identity[3] / 1e9 > SETTLED_SECONDS


def _entry(identity: _Identity) -> Path:
    return resolve_cache_dir() / "hashes" / fingerprint(identity[0])


def _seal(identity: _Identity, content: Content) -> str:
    """Binds what is remembered to the file that it was read from, so that an edited or copied entry is not believed."""
    return fingerprint([list(identity), asdict(content)])


def _recall(identity: _Identity) -> Content | None:
    try:
        entry = read_json(_entry(identity))
        content = Content(**entry["content"])
        return content if entry["seal"] == _seal(identity, content) else None
    except (DataError, KeyError, TypeError, ValueError):
        return None  # none, of an earlier version, torn, or edited: the bytes are read again


def _read_and_remember(path: Path) -> Content:
    before = _identity(path)
    content = _read(path)
    if _identity(path) != before:
        raise UsageError(f"{path}: the file changed while it was read; wait until it is written, then start again")
    if _is_settled(before):
        _PROVEN[before] = content
        entry = {"content": asdict(content), "seal": _seal(before, content)}
        write_atomic(_entry(before), json.dumps(entry) + "\n")
    return content


def _read(path: Path) -> Content:
    """Read a file once: its hashes, and while its pages are in memory, whether its numbers are finite."""
    import xxhash

    sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            sha256.update(block)
            xxh3.update(block)
    return Content(sha256.hexdigest(), xxh3.hexdigest(), _not_finite(path))


def _xxh3(path: Path) -> str:
    import xxhash

    xxh3 = xxhash.xxh3_128()
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            xxh3.update(block)
    return str(xxh3.hexdigest())


def _not_finite(path: Path) -> str | None:
    """The first tensor that holds NaN or infinity; None too for a file that is no safetensors file at all."""
    import torch

    try:
        tensors = read_header(path)
    except UsageError:
        return None
    with path.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        for name, tensor in tensors.items():
            count = math.prod(tensor.shape)
            if tensor.dtype not in FLOATS or count == 0:
                continue
            kind = getattr(torch, FLOATS[tensor.dtype])
            numbers = torch.frombuffer(mapped, dtype=kind, count=count, offset=tensor.start)
            least, most = (float(value) for value in numbers.aminmax())
            del numbers  # else the mapping cannot be closed
            if not (math.isfinite(least) and math.isfinite(most)):
                return name
    return None
