"""What torch sees on this machine."""

import contextlib
import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One CUDA device; memory in bytes."""

    name: str
    memory: int


def gpu_count() -> int:
    """How many CUDA devices torch sees; 0 on a machine without one."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def visible_gpus() -> tuple[str, list[Gpu]]:
    """Torch's version and the CUDA devices it sees. Raises ImportError or OSError if torch does not load."""
    import torch

    devices = [torch.cuda.get_device_properties(number) for number in range(gpu_count())]
    return torch.__version__, [Gpu(device.name, device.total_memory) for device in devices]


def wake(device: str) -> None:
    """Begin to use the first GPU without waiting for it: that takes seconds, in which other things can be read."""
    if device != "cuda":
        return

    def use() -> None:
        import torch

        with contextlib.suppress(RuntimeError):  # whoever needs it is told
            torch.zeros(1, device=device)

    threading.Thread(target=use, name="wake", daemon=True).start()
