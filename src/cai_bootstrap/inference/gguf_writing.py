"""A merged model as one GGUF file, for the architecture of the embedded model (Gemma 3, text).

`gguf` names the tensors and packs them; what is written here is what llama.cpp cannot see in a name: which numbers it
takes from the metadata, and that Gemma's norms are stored with 1 added. Whatever llama.cpp has no number for must be as
its code has it, so a model that differs is refused: llama.cpp's own converter knows many more.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cai_bootstrap.inference.gguf_reading import read_once
from cai_bootstrap.inference.gguf_vocabulary import Vocabulary, sentencepiece_vocabulary
from cai_bootstrap.inference.weight_files import read_header, weight_files

Stored = Literal["f16", "q8_0"]
STORED: tuple[Stored, ...] = ("f16", "q8_0")
BLOCK = 32  # numbers that share a scale in q8_0
BYTES_A_NUMBER: dict[Stored, float] = {"f16": 2.0, "q8_0": 34 / BLOCK}
MODEL_TYPE = "gemma3_text"
GLOBAL_LAYER_EVERY = 6
SLIDING_THETA = 10_000.0
LARGEST_F16 = 65_504.0


@dataclass(frozen=True)
class Plan:
    """What a GGUF file of a model will say besides its tensors; `config` is transformers' of the base."""

    config: Any
    vocabulary: Vocabulary
    tokenizer: Any


@dataclass(frozen=True)
class Content:
    """What a GGUF file says of itself. `eos`: the id of the token that ends an answer."""

    architecture: str
    tensors: int
    stored: str
    eos: int | None
    chat_template: str | None


def plan_gguf(base: Path, tokenizer: Any) -> Plan:
    """Look whether models trained from the one in the folder `base` can be written. Raises ValueError if not, saying
    why; no weights are read."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    if config.model_type != MODEL_TYPE:
        raise ValueError(f"a model of type {config.model_type!r} is not written; {MODEL_TYPE} is")
    if differences := list(_differences(config)):
        raise ValueError(f"llama.cpp has no number for this: {'; '.join(differences)}")
    vocabulary = sentencepiece_vocabulary(base, rows=config.vocab_size)
    if vocabulary.adds_bos and tokenizer("x")["input_ids"][0] != tokenizer.bos_token_id:
        raise ValueError("the token that the tokenizer puts before a text is not its BOS")
    return Plan(config, vocabulary, tokenizer)


def _differences(config: Any) -> Iterator[str]:
    """What of a configuration llama.cpp's code for Gemma 3 takes to be otherwise."""
    fixed = {
        "attention_bias": False, "attn_logit_softcapping": None, "hidden_activation": "gelu_pytorch_tanh",
        "use_bidirectional_attention": False,
    }  # fmt: skip
    for name, value in fixed.items():
        if getattr(config, name, value) != value:
            yield f"{name}: {getattr(config, name)}"
    every = GLOBAL_LAYER_EVERY
    layers = [f"{'sliding' if (n + 1) % every else 'full'}_attention" for n in range(config.num_hidden_layers)]
    if config.layer_types != layers:
        yield f"layer_types: other than one global layer of {every}"
    sliding, whole = (config.rope_parameters[f"{kind}_attention"] for kind in ("sliding", "full"))
    if sliding.get("rope_type") != "default" or sliding["rope_theta"] != SLIDING_THETA:
        yield f"rope_parameters of sliding layers: {sliding}"
    if whole.get("rope_type") not in ("default", "linear"):
        yield f"rope_parameters of global layers: {whole}"
    largest = config.num_hidden_layers == 62  # the 27B model, which llama.cpp knows by its layers
    scalar = config.hidden_size // config.num_attention_heads if largest else config.head_dim
    if config.query_pre_attn_scalar != scalar:
        yield f"query_pre_attn_scalar: {config.query_pre_attn_scalar}, not {scalar}"


def write_gguf(
    plan: Plan, merged: Path, path: Path, *, stored: Stored, name: str, ends: list[int], chat_template: str | None
) -> None:
    """Write the safetensors in the folder `merged` to `path`, one tensor after the other.

    `ends`: the ids of the tokens that end an answer, one or two, for which GGUF has names. Matrices are stored as
    `stored`, vectors in 32 bits. Raises ValueError for weights that do not fit: a tensor that Gemma 3 has not, or a
    number too large for 16 bits. What was written by then stays; give a path in a temporary folder.
    """
    import gguf

    if not 1 <= len(ends) <= 2:
        raise ValueError(f"{len(ends)} tokens end an answer; a GGUF file has names for one or two")
    tensors = list(_tensors(merged, plan.config.num_hidden_layers, stored))
    writer = gguf.GGUFWriter(path, _architecture())
    try:
        _write_settings(writer, plan.config, stored, name)
        _write_vocabulary(writer, plan, ends, chat_template)
        for tensor in tensors:
            shape, dtype, size = _packed_as(tensor)
            writer.add_tensor_info(tensor.name, shape, dtype, size, raw_dtype=_type_of(tensor))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(_packed(tensor))
    finally:
        writer.close()


def read_gguf(path: Path) -> Content:
    """What a GGUF file says of itself. Raises ValueError for one that is not whole."""
    import gguf

    try:
        with read_once():
            reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, OSError) as error:
        raise ValueError(f"{path.name} is no whole GGUF file: {error}") from error

    def field(name: str) -> Any:
        return reader.fields[name].contents() if name in reader.fields else None

    architecture, number = field("general.architecture"), field("general.file_type")
    files = {gguf.LlamaFileType.MOSTLY_F16: "f16", gguf.LlamaFileType.MOSTLY_Q8_0: "q8_0"}
    return Content(
        architecture=str(architecture),
        tensors=len(reader.tensors),
        stored=files.get(number, str(number)),
        eos=field("tokenizer.ggml.eos_token_id"),
        chat_template=field("tokenizer.chat_template"),
    )


class _Tensor(NamedTuple):
    """A tensor under its name in GGUF (`blk.0.attn_q.weight`), and where it stands. `packing`: F32, F16 or Q8_0."""

    name: str
    source: str
    file: Path
    shape: tuple[int, ...]
    packing: str


def _architecture() -> str:
    import gguf

    return str(gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GEMMA3])


def _tensors(folder: Path, layers: int, stored: Stored) -> Iterator[_Tensor]:
    """The tensors of a folder's weight files. As llama.cpp does: what is no matrix, and what no block of 32 divides,
    is not packed to 8 bits."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, layers)
    for file in weight_files(folder):
        for source, tensor in read_header(file).items():
            name = names.get_name(source, try_suffixes=(".weight",))
            if name is None:
                raise ValueError(f"Gemma 3 has no tensor {source!r} in a GGUF file")
            blocks = stored == "q8_0" and tensor.shape[-1] % BLOCK == 0
            matrix = len(tensor.shape) > 1
            yield _Tensor(name, source, file, tensor.shape, ("Q8_0" if blocks else "F16") if matrix else "F32")


def _type_of(tensor: _Tensor) -> Any:
    import gguf

    return gguf.GGMLQuantizationType[tensor.packing]


def _packed_as(tensor: _Tensor) -> tuple[tuple[int, ...], Any, int]:
    """Shape and numpy type of a packed tensor, and its bytes."""
    import gguf
    import numpy

    if tensor.packing == "Q8_0":
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, _type_of(tensor))
        return shape, numpy.dtype("uint8"), math.prod(shape)
    dtype = numpy.dtype("float16" if tensor.packing == "F16" else "float32")
    return tensor.shape, dtype, math.prod(tensor.shape) * dtype.itemsize


def _packed(tensor: _Tensor) -> Any:
    """A tensor's numbers as they stand in the file. Raises ValueError for one that 16 bits do not hold."""
    import gguf
    import numpy
    from safetensors import safe_open

    with safe_open(tensor.file, framework="np") as weights:
        numbers = weights.get_tensor(tensor.source).astype(numpy.float32)
    if tensor.source.endswith("norm.weight"):
        numbers = numbers + 1.0  # transformers adds it when it computes, llama.cpp does not
    largest = float(numpy.abs(numbers).max())
    if tensor.packing != "F32" and not largest <= LARGEST_F16:
        raise ValueError(f"{tensor.source} holds {largest:g}, more than 16 bits hold ({LARGEST_F16:g})")
    return gguf.quantize(numbers, _type_of(tensor))


def _write_settings(writer: Any, config: Any, stored: Stored, name: str) -> None:
    import gguf

    files = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(files[stored])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sliding_window(config.sliding_window)
    rope = config.rope_parameters["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_freq_base_swa(SLIDING_THETA)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _write_vocabulary(writer: Any, plan: Plan, ends: list[int], chat_template: str | None) -> None:
    vocabulary, tokenizer = plan.vocabulary, plan.tokenizer
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(False)
    writer.add_eos_token_id(ends[0])
    for add, token in (
        (writer.add_eot_token_id, ends[1] if len(ends) > 1 else None),
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(token)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
