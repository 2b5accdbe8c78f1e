"""Whether a GGUF file that another program wrote holds the numbers of the safetensors it was made from.

Each tensor that has a name of its own in both is rounded here as the file's is, and compared whole. Converters may
reorder what attention multiplies with (llama.cpp's own swaps rows of a Llama's queries and keys), turn a matrix over
(GPT-2's) and add 1 to a norm (Gemma's): that is let pass. Tensors that a converter splits or joins are only counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.inference.gguf_reading import read_once
from cai_bootstrap.inference.weight_files import read_header, weight_files

DISTANCE = 1e-3  # of two tensors, by their norm: two programs may round a number that lies half-way otherwise
ROUNDED = ("F32", "F16", "BF16", "Q8_0")
ENDINGS = (".weight", ".bias")


@dataclass(frozen=True)
class Compared:
    """How many numbers the model has, and how many of them were compared with the file's."""

    numbers: int
    compared: int


def compare_weights(path: Path, merged: Path) -> Compared:
    """Compare the GGUF file `path` with the safetensors in the folder `merged`.

    Raises ValueError saying what is otherwise: a tensor's numbers or shape, fewer numbers than the model has, a
    token embedding that is not there, or an architecture that the installed package `gguf` has no names for.
    """
    import gguf

    with read_once():
        reader = gguf.GGUFReader(path)
    written = {tensor.name: tensor for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents() if "general.architecture" in reader.fields else None
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in kinds:
        raise ValueError(f"the installed gguf has no names for the tensors of {architecture!r}; pip install -U gguf")
    names = gguf.get_tensor_name_map(kinds[architecture], _layers(written))
    numbers = compared = 0
    embedding = False
    for source, weight in _weights(merged):
        numbers += weight.size
        name = names.get_name(source, try_suffixes=ENDINGS)
        if name not in written or not name.endswith(ENDINGS):
            continue
        if fault := _difference(weight, written[name]):
            raise ValueError(f"its tensor {name} {fault} {source} of the trained model")
        compared += weight.size
        embedding = embedding or name == "token_embd.weight"
    there = sum(int(tensor.n_elements) for tensor in written.values())
    if there < numbers:
        raise ValueError(f"it holds {there:,} numbers, and the trained model has {numbers:,}")
    if not embedding:
        raise ValueError("it has no token embedding that could be compared with the trained model's")
    return Compared(numbers, compared)


def _layers(written: dict[str, Any]) -> int:
    layers = [int(name.split(".")[1]) for name in written if name.startswith("blk.") and name.split(".")[1].isdigit()]
    return max(layers, default=-1) + 1


def _weights(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every tensor of a folder's weight files with its numbers in 32 bits, one at a time."""
    import numpy
    from safetensors import safe_open

    for file in weight_files(folder):
        with safe_open(file, framework="np") as weights:
            for name in read_header(file):
                yield name, weights.get_tensor(name).astype(numpy.float32)


def _difference(weight: Any, tensor: Any) -> str | None:
    """What is other in a GGUF tensor than in the numbers it was made from, or None."""
    import gguf
    import numpy

    kind = tensor.tensor_type
    if kind.name not in ROUNDED:
        return f"is stored as {kind.name}, which cannot be compared with"
    numbers = gguf.dequantize(tensor.data, kind).reshape(-1)
    if numbers.size < weight.size or int(tensor.shape[0]) not in weight.shape:
        return f"has the shape {[int(length) for length in reversed(tensor.shape)]}, not that of"
    numbers = numbers[: weight.size]  # a vocabulary may be padded with rows
    candidates = (weight, weight + 1) if weight.ndim == 1 else (weight, weight.T)
    for candidate in candidates:
        rounded = gguf.dequantize(gguf.quantize(candidate, kind), kind).reshape(-1)
        if _close(numbers, rounded):
            return None
        if "attn" in tensor.name and _close(numpy.sort(numbers), numpy.sort(rounded)):
            return None
    return "holds other numbers than"


def _close(numbers: Any, wanted: Any) -> bool:
    """Whether two vectors are the same but for a few numbers' rounding; one with NaN is not."""
    import numpy

    return bool(numpy.linalg.norm(numbers - wanted) <= DISTANCE * numpy.linalg.norm(wanted))
