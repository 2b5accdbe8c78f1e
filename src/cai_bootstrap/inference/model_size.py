"""How many weights a model has, counted on the model that its config.json describes; nothing is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cai_bootstrap.errors import UsageError


@dataclass(frozen=True)
class ModelSize:
    """Numbers of weights: all of them; those in linear layers but the head; adapters of rank 1 on all linear layers.

    Adapters grow in proportion to their rank. All experts of a mixture count: all of them lie in memory.
    """

    parameters: int
    linear_parameters: int
    adapter_parameters: int


def count_weights(config: Mapping[str, Any]) -> ModelSize:
    """Count the weights of the causal language model that a config.json (as a mapping) describes.

    transformers and PEFT build it without memory (torch's meta device): about 5 s, most of it imports. Raises
    UsageError for a model type or sizes that they do not know.
    """
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    settings = {name: value for name, value in config.items() if name != "model_type"}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about adapters that are built here to be counted only
            built = AutoConfig.for_model(str(config.get("model_type")), **settings)
            model = AutoModelForCausalLM.from_config(built, trust_remote_code=False)
            head = model.get_output_embeddings()
            linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
            parameters = sum(weights.numel() for weights in model.parameters())
            adapted = get_peft_model(model, LoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM"))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(
            f"a model of type {config.get('model_type')!r} cannot be counted: {str(error)[:120]}; check "
            "its config.json, or plan for a model that this version of transformers knows"
        ) from error
    return ModelSize(
        parameters,
        sum(layer.weight.numel() for layer in linear),
        sum(weights.numel() for weights in adapted.parameters() if weights.requires_grad),
    )
