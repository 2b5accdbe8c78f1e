"""The LoRA adapters of a model in training: made, copied and put back."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import set_seed

from cai_bootstrap.config import Training
from cai_bootstrap.errors import UsageError


def with_adapters(model: Any, settings: Training, seed: int, start: Path | None = None) -> Any:
    """The model with new adapters, or with those in the folder `start`, which are trained on with the rank and the
    targets that they have; one that has adapters already is what it was.

    The base's own dropout is off, in training too: the reference is measured without. `lora_dropout` is on.
    Raises UsageError for adapters on the head, which the fused head would not see.
    """
    if isinstance(model, PeftModel):
        return model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    lora = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=settings.lora_targets,
        task_type="CAUSAL_LM",
    )
    set_seed(seed)  # the adapters' first weights are drawn
    adapted = (
        get_peft_model(model, lora) if start is None else PeftModel.from_pretrained(model, start, is_trainable=True)
    )
    if isinstance(adapted.get_output_embeddings(), BaseTunerLayer):
        raise UsageError(
            f"training.lora_targets = {settings.lora_targets!r}: adapters on the head (lm_head) are not trained; "
            "leave it out"
        )
    if settings.gradient_checkpointing:
        adapted.enable_input_require_grads()  # else no gradient passes the frozen embeddings
    if getattr(model, "is_loaded_in_8bit", False):  # 16 bits for the adapters of a quantised base (2305.14314)
        for weights in _trained(adapted).values():
            weights.data = weights.data.to(torch.bfloat16)
    return adapted


def copy_adapters(model: Any) -> dict[str, torch.Tensor]:
    """A copy, in the host's memory, of the weights that are trained."""
    return {name: weights.detach().to("cpu", copy=True) for name, weights in _trained(model).items()}


def put_back(model: Any, adapters: dict[str, torch.Tensor]) -> None:
    """Give a model's adapters the weights of `copy_adapters`."""
    for name, weights in model.named_parameters():
        if name in adapters:
            weights.detach().copy_(adapters[name])


def not_finite(model: Any) -> list[str]:
    """The names of trained weights that hold NaN or infinity."""
    return [name for name, weights in _trained(model).items() if not bool(weights.isfinite().all())]


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
