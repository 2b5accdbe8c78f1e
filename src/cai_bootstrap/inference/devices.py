"""What torch sees on this machine."""

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path


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


def quick_precision(cpu: Path = Path("/proc/cpuinfo")) -> tuple[str, str]:
    """The precision in which this machine answers quickest, and why: for trying things, never for a measurement.

    bf16 on a GPU, and on a processor that multiplies it itself (AVX512-BF16, AMX; about 2.5 times fp32 there); else
    fp32, as bf16 without such instructions is slower.
    """
    if gpu_count():
        return "bf16", "on a GPU"
    with contextlib.suppress(OSError):
        flags = set(cpu.read_text(encoding="utf-8").split())
        for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
            if flag in flags:
                return "bf16", f"this processor has {name}"
    return "fp32", "this processor has neither AMX nor AVX512-BF16"


def wake(device: str) -> None:
    """Begin to use the first GPU without waiting for it: that takes seconds, in which other things can be read."""
    if device != "cuda":
        return

    def use() -> None:
        import torch

        with contextlib.suppress(RuntimeError):  # whoever needs it is told
            torch.zeros(1, device=device)

    threading.Thread(target=use, name="wake", daemon=True).start()
