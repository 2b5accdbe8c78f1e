"""Whether an error tells of too little memory is decided by its kind, and by its text for CUDA's own alone."""

import pytest

from cai_bootstrap.errors import DeviceMemoryError, EngineError
from cai_bootstrap.inference.memory import is_out_of_memory, lacks_memory


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        DeviceMemoryError("the device has not enough memory for one prompt"),
        RuntimeError("CUDA error: out of memory"),
        caused(EngineError("decoding failed"), RuntimeError("CUDA error: out of memory")),
    ],
)
def test_errors_that_lack_memory(error: Exception) -> None:
    assert lacks_memory(error)


def test_torchs_own_is_one_and_a_sentence_of_ours_about_memory_is_none() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert lacks_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not lacks_memory(EngineError("the disk is out of memory cards"))
    assert not lacks_memory(None)
