"""How a mask is handed to models of several kinds of layers."""

from typing import Any

# These take one mask for each kind of layer, ready-made, or None where the attention is causal by itself.
MASK_FOR_EACH_KIND = ("gemma3_text", "qwen2", "qwen3")


def layer_kinds(config: Any) -> tuple[str, ...]:
    """The kinds of layers (`full_attention`, `sliding_attention`) of a model that takes a mask for each; else none."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ()
    return tuple(dict.fromkeys(kinds)) if text.model_type in MASK_FOR_EACH_KIND else ()


def window_of(config: Any) -> int | None:
    """Tokens that a sliding layer looks back; None if all layers look back to the beginning."""
    text = config.get_text_config()
    sliding = "sliding_attention" in (getattr(text, "layer_types", None) or ("sliding_attention",))
    return getattr(text, "sliding_window", None) if sliding else None
