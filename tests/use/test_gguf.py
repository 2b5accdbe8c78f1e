"""A GGUF file holds the model that was trained, and asks it as `cai ask` does."""

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
from finished import Finished, make_trained
from tiny import make_gemma

from cai_bootstrap.files import read_json, sha256_file, write_json
from cai_bootstrap.inference.gguf_vocabulary import sentencepiece_vocabulary
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.inference.plain_chat import plain_template
from cai_bootstrap.inference.transformers_engine import load
from cai_bootstrap.use.hub import _must_be_export

Cai = Callable[..., tuple[int, str, str]]
WRITTEN = {"model.gguf", "Modelfile", "README.md", "NOTICE", "provenance.json"}
# A stand-in for llama.cpp's converter: its arguments, a module beside it, and a file of the kind that it writes.
CONVERTER = """\
import argparse, os, sys
from pathlib import Path
from beside import ARCHITECTURE
import gguf, numpy
from safetensors.numpy import load_file

parser = argparse.ArgumentParser()
parser.add_argument("model", type=Path)
for name in ("outfile", "outtype", "model-name"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
assert (args.model / "model.safetensors").is_file()
writer = gguf.GGUFWriter(args.outfile, ARCHITECTURE)
writer.add_file_type({"f16": 1, "q8_0": 7}[args.outtype])
writer.add_eos_token_id(EOS)
writer.add_chat_template((args.model / "chat_template.jinja").read_text())
writer.add_string("test.environment", " ".join(sorted(os.environ)))
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI2, 2)
for source, numbers in load_file(args.model / "model.safetensors").items():
    name = names.get_name(source, (".weight", ".bias"))
    kind = gguf.GGMLQuantizationType["F32" if numbers.ndim == 1 else args.outtype.upper()]
    data = gguf.quantize(numbers, kind)
    writer.add_tensor(name, data, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
"""


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A trained, unmeasured model of the family that is written."""
    folder = tmp_path_factory.mktemp("gemma")
    return make_trained(folder, make_gemma(folder / "gemma"))


@pytest.fixture
def cai_gemma(cai: Cai, gemma: Finished, monkeypatch: pytest.MonkeyPatch) -> Cai:
    """The `cai` command, pointed at the run of that model."""
    for name, value in gemma.environment.items():
        monkeypatch.setenv(name, value)
    return cai


@pytest.fixture
def converter(tmp_path: Path) -> Path:
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / "beside.py").write_text('ARCHITECTURE = "phi2"\n')
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER.replace("EOS", "2"))
    return folder / "convert_hf_to_gguf.py"


def _exported(cai: Cai, folder: Path, stored: str, *flags: str) -> Path:
    code, _, err = cai("export", "--to", str(folder / "out"), "--gguf", stored, *flags)
    assert code == 0, err
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    return folder / "out" / "model"


def _refused(cai: Cai, folder: Path, *flags: str, code: int = 2) -> str:
    """What is said of an export that is refused; nothing may be left of it."""
    before = set(folder.iterdir())
    status, _, err = cai("export", "--to", str(folder / "out"), *flags)
    assert status == code, err
    assert set(folder.iterdir()) == before
    return err


def _read(folder: Path) -> Any:
    import gguf

    return gguf.GGUFReader(folder / "model.gguf")


def _merged(run: Finished) -> dict[str, Any]:
    """The trained weights in 32 bits, by transformers' names."""
    loaded = load(run.prepared, precision="fp32", adapter=run.checkpoint.path)
    return {name: tensor.numpy() for name, tensor in loaded.model.merge_and_unload().state_dict().items()}


@pytest.mark.parametrize(("stored", "error"), [("f16", 1e-3), ("q8_0", 8e-3)])
def test_the_file_holds_every_weight_of_the_trained_model(
    cai_gemma: Cai, gemma: Finished, tmp_path: Path, stored: str, error: float
) -> None:
    import gguf
    import numpy

    folder = _exported(cai_gemma, tmp_path, stored)
    assert {path.name for path in folder.iterdir()} == WRITTEN
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, gemma_layers := 6)
    weights = {names.get_name(n, (".weight",)): (n, w) for n, w in _merged(gemma).items() if n != "lm_head.weight"}
    tensors = {tensor.name: tensor for tensor in _read(folder).tensors}
    assert tensors.keys() == weights.keys()
    assert len(tensors) == 2 + gemma_layers * 13
    for name, (source, weight) in weights.items():
        numbers = gguf.dequantize(tensors[name].data, tensors[name].tensor_type).reshape(weight.shape)
        wanted = weight + 1 if source.endswith("norm.weight") else weight
        assert numpy.abs(numbers - wanted).max() <= error * numpy.abs(wanted).max(), name
        kind = "F32" if weight.ndim == 1 else stored.upper()
        assert tensors[name].tensor_type.name == kind, name


def test_the_file_says_how_it_is_computed_and_where_an_answer_ends(
    cai_gemma: Cai, gemma: Finished, tmp_path: Path
) -> None:
    fields = _read(_exported(cai_gemma, tmp_path, "q8_0")).fields
    tokenizer = load_tokenizer(gemma.prepared)
    said = {name: fields[name].contents() for name in fields}
    wanted = {
        "general.architecture": "gemma3", "general.file_type": 7, "gemma3.block_count": 6,
        "gemma3.embedding_length": 64, "gemma3.feed_forward_length": 96, "gemma3.context_length": 256,
        "gemma3.attention.head_count": 2, "gemma3.attention.head_count_kv": 1, "gemma3.attention.key_length": 256,
        "gemma3.attention.value_length": 256, "gemma3.attention.sliding_window": 8, "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.freq_base_swa": 1e4, "tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False, "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": plain_template(tokenizer),
    }  # fmt: skip
    assert {name: said.get(name) for name in wanted} == wanted
    assert math.isclose(said["gemma3.attention.layer_norm_rms_epsilon"], 1e-6, rel_tol=1e-6)
    tokens, types = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tokens[len(tokenizer) :] == [f"[PAD{len(tokenizer) + n}]" for n in range(3)]
    assert [types[0], types[4], types[300], types[-1]] == [3, 6, 1, 5]
    scores = dict(zip(tokens, said["tokenizer.ggml.scores"], strict=True))
    assert scores["th"] > scores["the"] > scores["▁the"] > scores["▁a"] > scores["oo"] > scores["x"]


def test_transformers_reads_the_file_as_the_trained_model(cai_gemma: Cai, gemma: Finished, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = _exported(cai_gemma, tmp_path, "f16")
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32).eval()
    trained = load(gemma.prepared, precision="fp32", adapter=gemma.checkpoint.path).model.eval()
    base = AutoModelForCausalLM.from_pretrained(gemma.prepared.path).eval()
    ids = load_tokenizer(gemma.prepared)("the other tooth, a cat?\n", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        read, wanted, untrained = (m(input_ids=ids).logits.log_softmax(-1) for m in (model, trained, base))
    assert (read - wanted).abs().max() < 0.05
    assert (untrained - wanted).abs().max() > 1


def test_record_and_card_say_what_the_file_is(cai_gemma: Cai, gemma: Finished, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    folder = _exported(cai_gemma, tmp_path, "q8_0")
    _must_be_export(folder, "model")
    record = read_json(folder / "provenance.json")
    assert (record["kind"], record["adapter_sha256"]) == ("gguf", gemma.checkpoint.sha256)
    assert record["gguf"] | {"written_by": None} == {
        "stored": "q8_0", "architecture": "gemma3", "tensors": 80, "written_by": None,
        "sha256": sha256_file(folder / "model.gguf"),
    }  # fmt: skip
    assert record["asked_by"] == {"Modelfile": sha256_file(folder / "Modelfile")}
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "gguf"
    assert "gguf" in card.data.tags
    assert "stored as q8_0 in one GGUF file" in card.text
    assert "this file itself was not measured" in card.text
    assert "ollama create gemma-cai-stage1 -f Modelfile" in card.text


def test_the_modelfile_asks_greedily_and_ends_where_the_model_was_taught_to(cai_gemma: Cai, tmp_path: Path) -> None:
    text = (_exported(cai_gemma, tmp_path, "f16") / "Modelfile").read_text()
    outside = text.replace(_template_of(text), "").splitlines()
    assert outside[1:] == [
        "FROM ./model.gguf", 'TEMPLATE """"""', "PARAMETER temperature 0", "PARAMETER top_k 1",
        "PARAMETER repeat_penalty 1", "PARAMETER presence_penalty 0", "PARAMETER frequency_penalty 0",
        "PARAMETER num_predict 12", 'PARAMETER stop "<eos>"',
    ]  # fmt: skip


def _template_of(text: str) -> str:
    return text.split('"""')[1]


def test_what_cannot_be_written_is_refused_before_anything_is_done(
    cai: Cai, gemma: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _refused(cai, tmp_path, "--gguf", "f16")
    assert "a model of type 'phi' is not written; gemma3_text is" in said
    assert "--converter llama.cpp/convert_hf_to_gguf.py" in said
    assert "vendor/llama.cpp of llama-cpp-python's source archive" in said
    assert "say which with --gguf" in _refused(cai, tmp_path, "--converter", "x.py")
    assert "leave out --merge" in _refused(cai, tmp_path, "--gguf", "f16", "--merge")
    assert "no such Python file" in _refused(cai, tmp_path, "--gguf", "f16", "--converter", str(tmp_path / "x.py"))
    assert "'q4_0' is not one of" in _refused(cai, tmp_path, "--gguf", "q4_0")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    for name, value in gemma.environment.items():
        monkeypatch.setenv(name, value)
    assert "0.0 GiB are free, and --gguf f16 needs 0.3 GiB" in _refused(cai, tmp_path, "--gguf", "f16")


def test_no_file_is_overwritten(cai_gemma: Cai, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.gguf").write_text("mine")
    assert "not empty" in _refused(cai_gemma, tmp_path, "--gguf", "f16")
    assert (tmp_path / "out" / "model.gguf").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query_pre_attn_scalar": 64}, "query_pre_attn_scalar: 64, not 256"),
        ({"attention_bias": True}, "attention_bias: True"),
        ({"layer_types": ["full_attention"] * 6}, "layer_types: other than one global layer of 6"),
        ({"model_type": "gemma2"}, "a model of type 'gemma2' is not written"),
    ],
)
def test_a_gemma_that_llama_cpp_would_compute_otherwise_is_refused(
    gemma: Finished, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    from cai_bootstrap.inference.gguf_writing import plan_gguf

    folder = shutil.copytree(gemma.prepared.path, tmp_path / "other")
    write_json(folder / "config.json", read_json(folder / "config.json") | changes)
    with pytest.raises(ValueError, match=said):
        plan_gguf(folder, load_tokenizer(gemma.prepared))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("model", {"byte_fallback": False}, "does not fall back to bytes"),
        ("model", {"merges": [["t", "h"], ["o", "o"]]}, "does not join 'th' and 'e', though 'the' is a piece"),
        ("model", {"merges": [["t", "h"], ["th", "e"], ["t", "h"]]}, "merges of 'th' do not stand together"),
        ("normalizer", {"type": "NFC"}, "otherwise than by writing"),
        ("pre_tokenizer", {"type": "Whitespace"}, "splits a text"),
        ("post_processor", {"type": "ByteLevel"}, "puts other tokens around a text"),
    ],
)
def test_a_tokenizer_that_sentencepiece_would_not_match_is_refused(
    gemma: Finished, tmp_path: Path, part: str, value: dict[str, Any], said: str
) -> None:
    content = read_json(gemma.prepared.path / "tokenizer.json", foreign=True)
    content[part] = {**content["model"], **value} if part == "model" else value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        sentencepiece_vocabulary(tmp_path, rows=1000)


def test_an_embedding_with_too_few_rows_is_refused(gemma: Finished) -> None:
    with pytest.raises(ValueError, match="the embedding 100 rows"):
        sentencepiece_vocabulary(gemma.prepared.path, rows=100)


def test_the_converter_is_run_without_keys_and_is_named_in_the_record(
    cai: Cai, tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    folder = _exported(cai, tmp_path, "q8_0", "--converter", str(converter))
    names = _read(folder).fields["test.environment"].contents().split()
    assert "PATH" in names
    assert not [name for name in names if "TOKEN" in name or name.startswith(("CAI_", "RUNPOD"))]
    record = read_json(folder / "provenance.json")["gguf"]
    assert record["written_by"] == {"converter": converter.name, "sha256": sha256_file(converter), "commit": None}
    assert record["weights"]["compared"] == record["weights"]["numbers"] > 0
    assert 'PARAMETER stop "<eos>"' in (folder / "Modelfile").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("writer = gguf", "sys.exit('Model PhiForCausalLM is not supported')\nwriter = gguf", "is not supported"),
        ('"q8_0": 7', '"q8_0": 1', "stored as f16, not q8_0"),
        ("add_eos_token_id(2)", "add_eos_token_id(9)", "token 9 ends its answers"),
        (".read_text())", ".read_text() + 'x')", "its chat template is not the one"),
        ("    data =", "    numbers = numbers * 1.01\n    data =", "holds other numbers than lm_head.bias"),
        ("    data =", "    if name.startswith('blk.1.'): continue\n    data =", "numbers, and the trained model has"),
        (
            "    data =",
            "    numbers = numbers[:2, :32] if numbers.ndim > 1 else numbers\n    data =",
            "has the shape [2, 32]",
        ),
        (
            "    data =",
            "    if name == 'token_embd.weight': name = 'token_types.weight'\n    data =",
            "no token embedding",
        ),
        ("writer.write_kv_data_to_file()\nwriter.write_tensors_to_file()", "", "is no whole GGUF file"),
    ],
)
def test_a_converter_that_fails_or_writes_another_model_leaves_nothing(
    cai: Cai, tmp_path: Path, converter: Path, old: str, new: str, said: str
) -> None:
    text = converter.read_text()
    assert old in text
    converter.write_text(text.replace(old, new))
    assert said in _refused(cai, tmp_path, "--gguf", "q8_0", "--converter", str(converter), code=1)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_export_that_is_ended_leaves_neither_weights_nor_a_converter(
    finished: Finished, tmp_path: Path, converter: Path, number: signal.Signals
) -> None:
    started = tmp_path / "started"
    (converter.parent / "beside.py").write_text(
        f"import os, time\nopen({str(started) + '~'!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(started) + '~'!r}, {str(started)!r})\ntime.sleep(600)\n"
    )
    target = tmp_path / "target" / "out"
    process = processes.start(
        "export", "--to", target, "--gguf", "f16", "--converter", converter, **finished.environment
    )
    try:
        processes.wait_for(started.exists, seconds=processes.PATIENCE_SECONDS)
        assert list(target.parent.glob(".out.*/merged/model.safetensors"))
        process.send_signal(number)
        process.communicate(timeout=processes.PATIENCE_SECONDS)
    finally:
        process.kill()
    pid = int(started.read_text())
    processes.wait_for(lambda: not processes.alive(pid), what="the converter's end")
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert list(target.parent.iterdir()) == []
