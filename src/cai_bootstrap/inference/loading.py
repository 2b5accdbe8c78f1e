"""The one way in which weights get into memory, and the same judgement beforehand from the files' headers alone.

transformers fills what a checkpoint lacks with random numbers, anew in each process, and leaves out what it has no
place for; both are only logged. Here its report is read: nothing is measured or trained on weights that nobody made.
"""

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import DataError, UntrustedResultError, UsageError
from cai_bootstrap.files import read_json
from cai_bootstrap.inference.weight_files import (
    WEIGHTS,
    Tensor,
    folder_content,
    listed,
    read_headers,
    refuse_pointer,
    weight_files,
    weights_fingerprint,
)

# Constants that older versions of transformers saved with the weights: causal masks, rotary tables, positions.
OLD_BUFFERS = re.compile(
    r"(^|\.)(attn|attention|self_attn|self_attention)\.(bias|masked_bias|causal_mask|embed_positions|scale_attn)$"
    r"|(^|\.)(inv_freq|cos_cached|sin_cached|position_ids|masked_bias)$"
)
# Parts that stand beside a causal language model and do not change what it writes: other senses, reward and value
# heads, heads that predict several tokens at once.
BESIDE = re.compile(
    r"^(model\.|transformer\.)?(mtp\w*|v_head|value_head|reward_head|score|visual|vision_\w+|embed_vision|audio_\w+"
    r"|embed_audio|speech_\w+|multi_modal_projector|mm_projector|image_newline)(\.|$)"
)
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
SHARD = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
QUANTISED = re.compile(r"\.(qweight|qzeros|scales|g_idx|SCB|absmax|weight_scale\w*|weight_packed|quant_state\S*)$")
WHOLE_NUMBERS = {"I8", "U8", "I16", "U16", "I32", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2"}


@dataclass(frozen=True)
class Misfit:
    """What the weights of a folder and the model that its config.json describes do not share."""

    missing: list[str]
    mismatched: list[str]
    superfluous: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.mismatched or self.superfluous)

    def message(self, folder: Path, architecture: str) -> str:
        """What is wrong, the first names of each kind, and what to do."""
        faults = []
        if self.missing:
            faults.append(f"{_tensors(self.missing)} missing, which would be drawn at random: {listed(self.missing)}")
        if self.mismatched:
            faults.append(f"{_tensors(self.mismatched)} of another shape: {listed(self.mismatched)}")
        if self.superfluous:
            faults.append(
                f"{_tensors(self.superfluous)} there that the model has no place for: {listed(self.superfluous)}"
            )
        return (
            f"{folder}: the weights do not fit the model that config.json describes ({architecture}): "
            f"{'; '.join(faults)}. {self._advice()}"
        )

    def _advice(self) -> str:
        names = (*self.missing, *self.superfluous)
        if any("lora_" in name or name.startswith("base_model.model.") for name in names):
            return "These are keys of PEFT: save the model after `merge_and_unload()`, or give the base and --adapter"
        if any(QUANTISED.search(name) for name in names):
            return "The weights are quantised already; give the model that they were made from"
        return "Download the model again, with the config.json that belongs to these weights"


def _tensors(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def misfit(report: Mapping[str, Iterable[Any]], config: Any) -> Misfit:
    """Judge transformers' loading report.

    What is missing or of another shape is always a fault: the model would hold random numbers. transformers has taken
    tied weights, its own renamings and what it may ignore out of the report already. A tensor that has no place is a
    fault as well, since a model without it computes something else: layers beyond config.json's number, a bias, an
    adapter, what quantised weights are unpacked with. Excepted are constants of older versions (`OLD_BUFFERS`), parts
    that stand beside a language model (`BESIDE`), and layers after the last that predict further tokens (DeepSeek-V3:
    `num_nextn_predict_layers`, each with a projection `eh_proj` of its own).
    """
    text = config.get_text_config()
    layers = int(getattr(text, "num_hidden_layers", 0) or 0)
    further = range(layers, layers + int(getattr(text, "num_nextn_predict_layers", 0) or 0))
    unexpected = sorted(report["unexpected_keys"])
    ahead = {_layer(name) for name in unexpected if ".eh_proj." in name}.intersection(further)
    superfluous = [
        name for name in unexpected if not (OLD_BUFFERS.search(name) or BESIDE.search(name) or _layer(name) in ahead)
    ]
    mismatched = [
        f"{name} ({list(there)} in the file, {list(expected)} in the model)"
        for name, there, expected in sorted(report["mismatched_keys"])
    ]
    return Misfit(sorted(report["missing_keys"]), mismatched, superfluous)


def _layer(name: str) -> int:
    numbered = re.search(r"\.layers\.(\d+)\.", name)
    return int(numbered[1]) if numbered else -1


def refuse_other_sources(folder: Path) -> None:
    """Raise UsageError for a folder from which transformers would load more, or other weights, without a word: an
    adapter on top of the base, the shards of a distributed training, a file that config.json names."""
    whole = [file for file in weight_files(folder) if file.exists()]
    if adapter := next((name for name in ADAPTER_FILES if (folder / name).exists()), None):
        if whole:
            raise UsageError(
                f"{folder}: an adapter ({adapter}) lies beside the full weights and would be applied to them, so the "
                "base would not be the base; move the adapter's files elsewhere, and name it with --adapter where it "
                "is wanted"
            )
        raise UsageError(
            f"{folder}: this is an adapter ({adapter}), not a model; give its base model with --model and the adapter "
            "with --adapter, or merge it into the base first"
        )
    if shard := next((file.name for file in folder.glob("shard-*.safetensors") if SHARD.fullmatch(file.name)), None):
        raise UsageError(
            f"{folder}: {shard} is part of a distributed training's checkpoint, which would be loaded instead of other "
            "weights; save the model whole (`save_pretrained`), in a folder of its own"
        )
    config = folder / "config.json"
    if config.exists() and (named := read_config(config).get("transformers_weights")):
        raise UsageError(
            f"{config}: 'transformers_weights' names other weights ({named}); remove that line, and save the "
            f"weights as {WEIGHTS}"
        )


def read_config(config_file: Path) -> dict[str, Any]:
    """A model's config.json. Raises UsageError for a file that is none."""
    refuse_pointer(config_file)
    try:
        config = read_json(config_file, foreign=True)
    except DataError as error:
        raise UsageError(f"{error}; download it again") from error
    if not isinstance(config, dict):
        raise UsageError(f"{config_file}: not a model's configuration (a JSON object); download it again")
    return config


def refuse_misfit(folder: Path, tensors: Mapping[str, Tensor]) -> str | None:
    """Compare the tensors that the files list with those that the model needs, without loading any.

    transformers loads placeholders of the listed shapes (the meta device) into a model that holds none either: a 32B
    model takes a second and no memory, and renamings, fused experts, wrappers and tied weights are transformers' own.
    Raises UsageError naming what does not fit; returns a sentence where only loading can tell.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quantised = [n for n, t in tensors.items() if n.endswith(".weight") and t.dtype in WHOLE_NUMBERS]
    if quantised:
        raise UsageError(
            f"{folder}: the weights are quantised already ({listed(quantised)}: {tensors[quantised[0]].dtype}), though "
            "config.json has no quantization_config; give the model that they were made from"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(f"{folder}: cannot be loaded as a causal language model: {str(error)[:600]}") from error
    try:
        with _quiet():
            _, report = type(empty).from_pretrained(
                None,
                config=empty.config,
                state_dict={name: torch.empty(t.shape, device="meta") for name, t in tensors.items()},
                device_map={"": "meta"},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        _refuse_unconverted(folder, error)
        return f"whether the weights fit config.json is seen when they are loaded ({type(error).__name__}: {error})"
    if fault := misfit(report, empty.config):
        raise UsageError(fault.message(folder, type(empty).__name__))
    return None


def _kind(name: str) -> str:
    """A tensor's name without the numbers of its layer and expert."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _refuse_unconverted(folder: Path, error: Exception) -> None:
    """Raise UsageError if this is transformers' error for tensors that it cannot fuse or split, as experts of unlike
    shapes. It does not name them, so those unlike the same tensor of other layers and experts are named."""
    if "automatic conversion of the weights" not in str(error):
        return
    alike: dict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
    tensors = read_headers(folder)
    for name, tensor in tensors.items():
        alike[_kind(name)][tensor.shape] += 1
    unlike = [
        f"{name} {list(tensor.shape)}"
        for name, tensor in tensors.items()
        if alike[_kind(name)].most_common(1)[0][0] != tensor.shape
    ]
    raise UsageError(
        f"{folder}: the weights do not fit the model that config.json describes: transformers cannot convert them"
        f"{'; unlike the others of their kind: ' + listed(unlike) if unlike else ''}. Download the model again"
    ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own table and progress bar: what it says is raised in one sentence."""
    from transformers.utils import logging

    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


def load_reported(folder: Path, **options: Any) -> Any:
    """A causal language model from a folder, its loader's report read. Raises UsageError if the weights do not fit.

    `options` go to `from_pretrained`. No code of the folder's is run, and no adapter that lies there is applied.
    """
    from transformers import AutoModelForCausalLM

    refuse_other_sources(folder)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they stand in the report then, instead of being raised without a name
            output_loading_info=True,
            **options,
        )
    except RuntimeError as error:
        _refuse_unconverted(folder, error)
        raise
    if fault := misfit(report, model.config):
        raise UsageError(fault.message(folder, type(model).__name__))
    _refuse_overflow(folder, model)
    return model


def load_weights(folder: Path, weights_sha256: str, **options: Any) -> Any:
    """As `load_reported`, and proven to be the weights of this hash (`proven`)."""
    with proven(folder, weights_sha256):
        return load_reported(folder, **options)


@contextlib.contextmanager
def proven(folder: Path, weights_sha256: str) -> Iterator[None]:
    """Read the weights' bytes while they are loaded, and raise UntrustedResultError unless they have this hash.

    What is remembered of a file is not enough where a result comes of it. The bytes are hashed beside the loading,
    which reads the same pages, so that a free processor hides it.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        contents = pool.submit(folder_content, folder, read=True)
        yield
        actual = weights_fingerprint(contents.result())
    if actual != weights_sha256:
        raise UntrustedResultError(
            f"{folder}: the weights' hash is {actual[:12]}, not {weights_sha256[:12]} as when this step began; they "
            "changed meanwhile, or what was remembered of them is not true. Start again: they are hashed anew"
        )


def _refuse_overflow(folder: Path, model: Any) -> None:
    """Raise UsageError for weights beyond 65,504, which fp16 turns into infinity."""
    import torch

    if model.dtype != torch.float16:
        return
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float16 and weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():
            raise UsageError(f"{folder}: {name} holds numbers that fp16 cannot; use --precision bf16 or fp32")
