"""Weights are what they are said to be: whole, those that config.json describes, finite, and of the recorded hash."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.inference import weight_files
from cai_bootstrap.inference.engine_choice import weights_of
from cai_bootstrap.inference.loading import load_reported, refuse_misfit
from cai_bootstrap.inference.models import PreparedModel, prepare
from cai_bootstrap.inference.transformers_engine import load
from cai_bootstrap.inference.weight_files import folder_content, read_headers, weights_fingerprint
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.run import run_step

Tensors = dict[str, Any]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path, tiny: Path) -> Path:
    """A model folder that a test may harm."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return folder


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def under_another_prefix(tensors: Tensors) -> Tensors:
    return {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}


def with_a_third_layer(tensors: Tensors) -> Tensors:
    third = {name.replace("layers.1.", "layers.2."): t.clone() for name, t in tensors.items() if "layers.1." in name}
    return {**tensors, **third}


def of_another_shape(tensors: Tensors) -> Tensors:
    return {**tensors, QUERY: tensors[QUERY][:-2].contiguous()}


def packed(tensors: Tensors) -> Tensors:
    import torch

    unpacked = {name: tensor for name, tensor in tensors.items() if name != QUERY}
    return {**unpacked, QUERY.replace("weight", "qweight"): torch.zeros(2, 2, dtype=torch.int32)}


def in_eight_bits(tensors: Tensors) -> Tensors:
    import torch

    return {**tensors, QUERY: tensors[QUERY].to(torch.int8)}


def with_an_adapter(tensors: Tensors) -> Tensors:
    import torch

    return {**tensors, f"base_model.model.{QUERY.replace('weight', 'lora_A.weight')}": torch.zeros(2, 64)}


def with_old_buffers_and_other_heads(tensors: Tensors) -> Tensors:
    import torch

    names = ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.masked_bias", "v_head.weight")
    return {**tensors, **{name: torch.zeros(2) for name in names}}


BROKEN = {
    "a tensor is missing": (
        without(QUERY),
        rf"1 tensor is missing, which would be drawn at random: {QUERY}\. Download",
    ),
    "the head is missing": (without("lm_head"), r"2 tensors are missing.*: lm_head\.bias, lm_head\.weight\. "),
    "too few layers": (without("layers.1."), r"14 tensors are missing.*: model\.layers\.1\..* and 11 more"),
    "too many layers": (
        with_a_third_layer,
        r"14 tensors are there that the model has no place for: model\.layers\.2\.",
    ),
    "other names": (under_another_prefix, "PEFT: save the model after `merge_and_unload"),
    "an adapter in it": (with_an_adapter, "1 tensor is there that the model has no place for.*PEFT"),
    "another shape": (
        of_another_shape,
        rf"of another shape: {QUERY} \(\[62, 64\] in the file, \[64, 64\] in the model",
    ),
    "GPTQ": (packed, "quantised already"),
    "eight bits": (in_eight_bits, r"quantised already \(.*: I8\), though config\.json has no quantization_config"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_weights_that_do_not_fit_are_refused_when_prepared_and_named(folder: Path, case: str) -> None:
    change, sentence = BROKEN[case]
    with pytest.raises(UsageError, match=sentence) as caught:
        prepare(str(rewrite(folder, change)), say=lambda _: None)
    assert caught.value.exit_code == 2


def unjudged(folder: Path) -> PreparedModel:
    """A model as if it had been prepared by a version that did not judge it."""
    return PreparedModel("m", folder, "local", weights_fingerprint(folder_content(folder)), "0" * 64)


@pytest.mark.parametrize("case", [case for case in BROKEN if case != "eight bits"])
def test_weights_that_do_not_fit_are_refused_at_every_load(folder: Path, case: str) -> None:
    change, sentence = BROKEN[case]
    with pytest.raises(UsageError, match=sentence):
        load(unjudged(rewrite(folder, change)), precision="fp32")


def context(folder: Path, base: Path) -> StepContext:
    """What a step of a run with this model is given."""
    workspace = RunFolder.at(base / "base").create()
    progress = Progress(EventLog(workspace.logs / "x.jsonl", "x"), "prepare")
    return StepContext(RunConfig.model_validate({"model": str(folder)}), workspace, progress, lambda: False, "x")


def test_training_refuses_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    from cai_bootstrap.training.train import TrainingRun

    prepared, state = unjudged(rewrite(folder, without("lm_head"))), context(folder, tmp_path)
    training = TrainingRun(state.config, prepared, tmp_path / "t", "f", state.progress, state.stopping)
    with pytest.raises(UsageError, match=r"2 tensors are missing.*lm_head"):
        training._load()


def test_constants_of_old_versions_and_parts_beside_the_language_model_do_no_harm(folder: Path) -> None:
    prepared = prepare(str(rewrite(folder, with_old_buffers_and_other_heads)), say=lambda _: None)
    assert load(prepared, precision="fp32").device


SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "num_experts_per_tok": 2, "head_dim": 8},
    "gemma3": {
        "text_config": {**SMALL, "head_dim": 8},
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
            "image_size": 28, "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_headers_alone_judge_as_the_loader_does(tmp_path: Path, family: str) -> None:
    """Sound, with tied weights, fused experts or a wrapper; without one matrix of the last layer; with one cut."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = FAMILIES[family] if family == "gemma3" else {**SMALL, **FAMILIES[family]}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).save_pretrained(tmp_path)
    assert refuse_misfit(tmp_path, read_headers(tmp_path)) is None
    load_reported(tmp_path)
    one = max(name for name, tensor in read_headers(tmp_path).items() if ".1." in name and len(tensor.shape) > 1)
    for change in (lambda t: {**t, one: t[one][:-1].contiguous()}, without(one)):
        rewrite(tmp_path, change)
        for judge in (lambda: refuse_misfit(tmp_path, read_headers(tmp_path)), lambda: load_reported(tmp_path)):
            with pytest.raises(UsageError, match="the weights do not fit"):
                judge()


def test_an_expert_of_another_shape_is_named(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mixtral", **{**SMALL, "num_local_experts": 4})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    expert = next(name for name in read_headers(tmp_path) if "layers.1" in name and "experts.2.w1" in name)
    rewrite(tmp_path, lambda tensors: {**tensors, expert: tensors[expert][:-1].contiguous()})
    with pytest.raises(UsageError, match=rf"unlike the others of their kind: {expert} \[47, 32\]"):
        load_reported(tmp_path)


def cut(content: bytes) -> bytes:
    return content[:-100]


FILES = {
    "pointer": (lambda _: POINTER, r"a git-lfs pointer \(\d+ bytes\), not the file itself; run `git lfs pull`"),
    "empty": (lambda _: b"", r"the file is empty \(0 bytes\); download it again"),
    "cut off": (cut, r"the file is cut off: [\d,]+ bytes, [\d,]+ by its header"),
    "cut off in the header": (lambda content: content[:300], "cut off in its header"),
    "longer": (lambda content: content + b"\0" * 8, "longer than its header lists"),
    "a web page": (lambda _: b"<!DOCTYPE html><html>404</html>", "not a safetensors file"),
    "no header": (lambda _: struct.pack("<Q", 9) + b"[1, 2, 3]", "its header cannot be read"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_weight_file_that_is_not_whole_is_refused(folder: Path, case: str) -> None:
    change, sentence = FILES[case]
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UsageError, match=sentence) as caught:
        prepare(str(folder), say=lambda _: None)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"])
def test_a_pointer_in_place_of_another_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(POINTER)
    with pytest.raises(UsageError, match=rf"{name}: a git-lfs pointer"):
        prepare(str(folder), say=lambda _: None)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_cut_off_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(UsageError, match=rf"{name}: not readable as JSON.*download it again"):
        prepare(str(folder), say=lambda _: None)


@pytest.mark.parametrize("content", ["[]", "{", "3", '{"architectures": 3}', '{"architectures": null}'])
def test_a_config_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(UsageError, match=r"config\.json"):
        prepare(str(folder), say=lambda _: None)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": []}', '{"weight_map": {"a": "../../x.safetensors"}}'])
def test_an_index_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UsageError, match=r"model\.safetensors\.index\.json: "):
        prepare(str(folder), say=lambda _: None)


def test_weights_under_a_name_that_the_loader_does_not_read_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(UsageError, match=r"not complete, without model\.safetensors"):
        prepare(str(folder), say=lambda _: None)


def test_a_copy_in_another_layout_beside_the_weights_does_no_harm(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    alone = weights_of(folder).parameters
    (folder / "consolidated.safetensors").unlink()
    assert weights_of(folder).parameters == alone
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert prepare(str(folder), say=lambda _: None).path == folder


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_weights_that_are_no_numbers_are_refused(folder: Path, number: float, kind: str) -> None:
    import torch

    def spoilt(tensors: Tensors) -> Tensors:
        tensors = {name: tensor.to(getattr(torch, kind)) for name, tensor in tensors.items()}
        tensors[QUERY][3, 5] = number
        return tensors

    with pytest.raises(UsageError, match=rf"model\.safetensors: {QUERY} holds NaN or infinity"):
        prepare(str(rewrite(folder, spoilt)), say=lambda _: None)


def test_weights_that_fp16_turns_into_infinity_are_refused(folder: Path) -> None:
    def large(tensors: Tensors) -> Tensors:
        tensors[QUERY][3, 5] = 1e6
        return tensors

    prepared = prepare(str(rewrite(folder, large)), say=lambda _: None)
    with pytest.raises(UsageError, match=rf"{QUERY} holds numbers that fp16 cannot; use --precision bf16"):
        load(prepared, precision="fp16")


def test_an_adapter_beside_full_weights_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"lies beside the full weights and would be applied to them.*--adapter"):
        prepare(str(folder), say=lambda _: None)
    with pytest.raises(UsageError, match="lies beside the full weights"):
        load(unjudged(folder), precision="fp32")


def test_an_adapter_in_place_of_a_model_is_called_one(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"this is an adapter \(adapter_model.safetensors\), not a model;.*--adapter"):
        prepare(str(folder), say=lambda _: None)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"x"), "distributed training"),
        (lambda f: amend(f / "config.json", transformers_weights="other.safetensors"), "names other weights"),
    ],
)
def test_weights_that_would_be_loaded_from_elsewhere_are_refused(
    folder: Path, spoil: Callable[[Path], Any], sentence: str
) -> None:
    spoil(folder)
    with pytest.raises(UsageError, match=sentence):
        prepare(str(folder), say=lambda _: None)


def amend(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def test_a_folder_that_broke_after_it_was_prepared_is_not_skipped(folder: Path, tmp_path: Path) -> None:
    state = context(folder, tmp_path)
    assert run_step("prepare", state)
    assert not run_step("prepare", state)
    rewrite(folder, without(QUERY))
    with pytest.raises(UsageError, match="1 tensor is missing"):
        run_step("prepare", state)


@pytest.fixture
def remembered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose hash is remembered, by another process as it were, though its file is seconds old."""
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(weight_files, "SETTLED_SECONDS", -60.0)
    monkeypatch.setattr(weight_files, "_PROVEN", {})
    prepare(str(folder), say=lambda _: None)
    weight_files._PROVEN.clear()
    return folder


def sha(folder: Path) -> str:
    return prepare(str(folder), say=lambda _: None).weights_sha256


def put_time_back(path: Path, before: os.stat_result) -> None:
    """Set the times of before, as `cp -p` and `rsync -t` do, once the file system's clock has gone on."""
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_hash_is_remembered_and_costs_no_reading(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "_read", lambda _: pytest.fail("the file was read again"))
    assert len(sha(remembered)) == 64


@pytest.mark.parametrize("way", ["in place", "another file"])
def test_the_hash_is_that_of_the_bytes_whatever_size_and_time_say(remembered: Path, way: str) -> None:
    path = remembered / "model.safetensors"
    first, before, content = sha(remembered), path.stat(), bytearray(path.read_bytes())
    content[-2] ^= 1
    if way == "in place":
        with path.open("r+b") as target:
            target.write(content)
    else:
        other = path.with_name("other")
        other.write_bytes(content)
        other.replace(path)
    put_time_back(path, before)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = sha(remembered)
    assert second != first
    content[-2] ^= 1
    path.write_bytes(content)
    put_time_back(path, before)
    assert sha(remembered) == first


def test_a_file_that_has_just_changed_is_not_remembered(
    remembered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could change again within one tick of the file system's clock."""
    monkeypatch.undo()
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "other cache"))
    path = remembered / "model.safetensors"
    path.write_bytes(path.read_bytes())
    sha(remembered)
    assert not (tmp_path / "other cache/hashes").exists()


@pytest.mark.parametrize("content", ["0" * 64, "", "[]", '{"content": 3, "seal": ""}', "edited"])
def test_an_edited_memory_is_not_believed(remembered: Path, tmp_path: Path, content: str) -> None:
    first = sha(remembered)
    (entry,) = (tmp_path / "cache/hashes").iterdir()
    if content == "edited":
        known = json.loads(entry.read_text())
        known["content"]["sha256"] = "0" * 64
        content = json.dumps(known)
    entry.write_text(content)
    assert sha(remembered) == first


def test_loading_believes_the_bytes_alone(remembered: Path, tmp_path: Path) -> None:
    """Even a memory that was forged whole, seal and all: nothing is measured under its hash."""
    path = remembered / "model.safetensors"
    honest = sha(remembered)
    identity = weight_files._identity(path)
    forged = weight_files.Content("0" * 64, "0" * 32, None)
    (entry,) = (tmp_path / "cache/hashes").iterdir()
    entry.write_text(json.dumps({"content": weight_files.asdict(forged), "seal": weight_files._seal(identity, forged)}))
    believed = prepare(str(remembered), say=lambda _: None)
    assert believed.weights_sha256 != honest
    with pytest.raises(UntrustedResultError, match=r"not true\. Start again: they are hashed anew"):
        load(believed, precision="fp32")
    assert sha(remembered) == honest


def test_weights_that_change_between_prepare_and_load_are_not_measured(remembered: Path) -> None:
    prepared = prepare(str(remembered), say=lambda _: None)
    load(prepared, precision="fp32")
    rewrite(remembered, lambda tensors: {**tensors, QUERY: tensors[QUERY] * 2})
    with pytest.raises(UntrustedResultError, match="they changed meanwhile"):
        load(prepared, precision="fp32")
    with pytest.raises(UntrustedResultError):
        load(replace(prepared, weights_sha256="0" * 64), precision="fp32")
