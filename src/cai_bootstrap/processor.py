"""The precisions that weights may have, and which of them this machine multiplies quickest, without loading torch."""

import contextlib
import importlib.util
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

_BF16_FLAGS = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16"))
_BF16_CAPABILITY = 8.0
_GPU_NODES = ("nvidia[0-9]*", "dxg")  # dxg: the GPU of the Windows under a WSL


FOUR_BIT = {"4bit", "4-bit", "int4", "nf4", "fp4", "q4", "4"}


def _never_four_bit(value: object) -> object:
    if str(value).lower() in FOUR_BIT:
        raise ValueError(
            "4-bit is refused: its answers differ from those of the model that is trained and judged, so data made "
            "in 4 bit teach the quantisation's faults; use int8, bf16, fp16 or fp32"
        )
    return value


Precision = Annotated[Literal["fp32", "bf16", "fp16", "int8", "fp8"], BeforeValidator(_never_four_bit)]


def quick_precision(cpu: Path = Path("/proc/cpuinfo"), *, on_gpu: bool | None = None) -> tuple[str, str]:
    """The precision in which this machine answers quickest, and why.

    bf16 on an NVIDIA GPU that has it (from compute capability 8.0, Ampere, on), and on a processor that multiplies it
    itself (AVX512-BF16 or AMX: gemma-3-270m reads a prompt in 0.37 to 0.57 of the time of fp32 there); else fp32, as
    bf16 without such instructions is slower. `on_gpu` None looks for a GPU.
    """
    if has_gpu() if on_gpu is None else on_gpu:
        capability = least_capability()
        if capability is not None and capability < _BF16_CAPABILITY:
            return "fp32", f"a GPU of compute capability {capability} is here, which has no bf16"
        return "bf16", "an NVIDIA GPU is here"
    with contextlib.suppress(OSError):
        flags = set(cpu.read_text(encoding="utf-8").split())
        for flag, name in _BF16_FLAGS:
            if flag in flags:
                return "bf16", f"this processor has {name}"
    return "fp32", "this processor has neither AMX nor AVX512-BF16"


def least_capability() -> float | None:
    """The lowest compute capability of the GPUs here, hidden ones too; None where the driver's tool does not say."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=20,
        ).stdout  # fmt: skip
        return min(float(line) for line in answer.splitlines() if line.strip())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def has_gpu(devices: Path = Path("/dev"), environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torch will see a CUDA GPU: one is here, none of them is hidden, and torch is built for it."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    torch = importlib.util.find_spec("torch")
    built = torch is not None and torch.origin is not None and any(Path(torch.origin).parent.glob("lib/libtorch_cuda*"))
    return built and any(True for node in _GPU_NODES for _ in devices.glob(node))
