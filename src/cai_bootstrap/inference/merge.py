"""A trained model as plain weights: the adapter added into the base, saved as safetensors."""

from pathlib import Path

from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.transformers_engine import load

STORED = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def save_merged(prepared: PreparedModel, adapter: Path, folder: Path, *, precision: str) -> str:
    """Save base and adapter as one model; returns the type of its numbers, such as `float32`.

    The sum is made in 32 bits, and rounded to 16 afterwards if that is the precision it is used in. What was measured
    in 8 bits is stored in bfloat16: the base's own weights are merged, never the quantised ones.
    """
    import torch

    stored = STORED.get(precision, STORED["bf16"])
    loaded = load(prepared, precision="fp32", adapter=adapter)
    model = loaded.model.merge_and_unload()
    model.to(getattr(torch, stored)).save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # as every other file of the folder; transformers saves weights for their owner alone
    return stored
