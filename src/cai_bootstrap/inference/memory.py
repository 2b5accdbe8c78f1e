"""The device's memory: whether an error tells that there was too little, and giving back what is only cached."""

import gc
import sys

from cai_bootstrap.errors import DeviceMemoryError


def is_out_of_memory(error: BaseException) -> bool:
    """True for CUDA's and the CPU allocator's out-of-memory errors."""
    torch = sys.modules.get("torch")  # without it the error is not torch's
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error).lower()


def lacks_memory(error: BaseException | None) -> bool:
    """True if an error, or one that it came from, tells of too little memory: ours, torch's, or CUDA's own."""
    while error is not None:
        cuda = isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
        if isinstance(error, DeviceMemoryError) or is_out_of_memory(error) or cuda:
            return True
        error = error.__cause__
    return False


def release_memory() -> None:
    """Give cached device memory back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
