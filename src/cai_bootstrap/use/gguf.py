"""The merged model as one GGUF file with its Modelfile: written here, or by llama.cpp's own converter.

What is written here is Gemma 3; llama.cpp's `convert_hf_to_gguf.py` knows many models more, and comes with every
checkout of llama.cpp. It is run where the user names it, as a process of its own that is handed no key or token.
"""

import math
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import CaiError, UsageError
from cai_bootstrap.files import read_json, sha256_file, write_atomic
from cai_bootstrap.inference.gguf_checking import compare_weights
from cai_bootstrap.inference.gguf_writing import BYTES_A_NUMBER, Content, Plan, Stored, plan_gguf, read_gguf, write_gguf
from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.inference.plain_chat import GENERATION_FILE, TEMPLATE_FILE
from cai_bootstrap.inference.weight_files import read_headers
from cai_bootstrap.interpreter import python_environment, script_command
from cai_bootstrap.use import bound_command
from cai_bootstrap.use.ollama import MODELFILE, modelfile

WEIGHTS = "model.gguf"
CONVERTER = "convert_hf_to_gguf.py"
HOW_TO_CONVERT = (
    f"for other models give llama.cpp's own converter, --converter llama.cpp/{CONVERTER} (from a checkout of "
    "github.com/ggml-org/llama.cpp, or from the folder vendor/llama.cpp of llama-cpp-python's source archive)"
)
# What a converter may see of the environment: nothing that could be a key.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
GIB = 1024**3
SPARE = GIB // 4  # tokenizer, vocabulary and what else is written beside the weights
TOLD = 15  # lines of a failed converter's output


@dataclass(frozen=True)
class Wanted:
    """What was asked for: how numbers are stored, and the converter to use instead of the writer here."""

    stored: Stored
    converter: Path | None


@dataclass(frozen=True)
class Job:
    """A GGUF file that can be written. `plan` is None where the converter does it."""

    wanted: Wanted
    plan: Plan | None


def plan_file(prepared: PreparedModel, tokenizer: Any, wanted: Wanted, target: Path) -> Job:
    """Look whether the file can be written to `target`, before anything is merged.

    Raises UsageError if neither the writer here nor a converter that was named can do it, or the disk has no room.
    """
    _must_have_room(prepared, wanted.stored, target)
    if wanted.converter is not None:
        if not wanted.converter.is_file() or wanted.converter.suffix != ".py":
            raise UsageError(f"--converter {wanted.converter}: no such Python file; give llama.cpp's {CONVERTER}")
        return Job(wanted, None)
    try:
        return Job(wanted, plan_gguf(prepared.path, tokenizer))
    except ValueError as error:
        raise UsageError(
            f"--gguf: {prepared.name} cannot be written as GGUF here: {error}; {HOW_TO_CONVERT}"
        ) from error


def _unwritable(name: str, error: ValueError) -> UsageError:
    return UsageError(f"--gguf: {name} cannot be written as GGUF here: {error}; {HOW_TO_CONVERT}")


def _must_have_room(prepared: PreparedModel, stored: Stored, target: Path) -> None:
    """The merged model lies there for a while, in 32 bits, beside the file that is made of it."""
    numbers = sum(math.prod(tensor.shape) for tensor in read_headers(prepared.path).values())
    needed = int(numbers * (4 + BYTES_A_NUMBER[stored])) + SPARE
    there = next(folder for folder in target.absolute().parents if folder.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UsageError(
            f"{there}: {free / GIB:.1f} GiB are free, and --gguf {stored} needs {needed / GIB:.1f} GiB meanwhile; "
            "make room, or give another place with --to"
        )


def write_file(job: Job, tokenizer: Any, merged: Path, folder: Path, *, name: str) -> dict[str, object]:
    """Write `model.gguf` and `Modelfile` into `folder`, of the safetensors, tokenizer and settings in `merged`.

    Returns what the record says of it: who wrote it, in which version. Raises UsageError if the weights cannot be
    written so, and CaiError if the converter fails, or its file's settings or numbers are not the trained model's
    (`compare_weights` says which numbers are compared).
    """
    settings = read_json(merged / GENERATION_FILE)
    eos = settings["eos_token_id"]
    ends: list[int] = [eos] if isinstance(eos, int) else eos
    path, stored = folder / WEIGHTS, job.wanted.stored
    template = (merged / TEMPLATE_FILE).read_text(encoding="utf-8") if (merged / TEMPLATE_FILE).exists() else None
    if job.plan is None:
        assert job.wanted.converter is not None
        _convert(job.wanted.converter, merged, path, stored=stored, name=name)
        by = _converter(job.wanted.converter)
    else:
        try:
            write_gguf(job.plan, merged, path, stored=stored, name=name, ends=ends, chat_template=template)
        except ValueError as error:
            raise _unwritable(name, error) from error
        by = {"gguf": version("gguf")}
    content = _checked(path, stored, ends, template)
    compared = {} if job.plan is not None else {"weights": _compared(path, merged)}
    path.chmod(0o644)
    texts = [str(text) for text in tokenizer.convert_ids_to_tokens(ends)]
    write_atomic(folder / MODELFILE, modelfile(WEIGHTS, ends=texts, max_new_tokens=settings["max_new_tokens"]))
    return {
        "stored": stored, "architecture": content.architecture, "tensors": content.tensors, "written_by": by,
        "sha256": sha256_file(path), **compared,
    }  # fmt: skip


def _compared(path: Path, merged: Path) -> dict[str, int]:
    """How many numbers a converter's file was to hold, and how many were compared. Raises CaiError for others."""
    try:
        return asdict(compare_weights(path, merged))
    except ValueError as error:
        raise CaiError(f"{path.name}: {error}; nothing was exported. Try another version of the converter") from error


def _convert(converter: Path, merged: Path, path: Path, *, stored: Stored, name: str) -> None:
    """Run llama.cpp's converter. It finds the code beside it, and nothing of this package's environment; it ends with
    this process."""
    script = [str(converter.absolute()), str(merged), "--outfile", str(path), "--outtype", stored, "--model-name", name]
    command = script_command(bound_command.__file__, str(os.getpid()), *script)
    variables = python_environment({"PYTHONPATH": str(converter.absolute().parent)})
    environment = {key: value for key, value in variables.items() if key in PASSED_ON or key.startswith("PYTHON")}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=merged, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0 or not path.is_file():
        output = "\n".join((done.stderr or done.stdout).strip().splitlines()[-TOLD:])
        raise CaiError(
            f"{converter}: the converter ended with exit code {done.returncode}, and nothing was exported. It may not "
            f"know this model or its tokenizer; what it said last:\n{output}"
        )


def _converter(script: Path) -> dict[str, object]:
    """Which converter it was: its hash, and the commit of its checkout, if it lies at the top of one."""
    folder = script.resolve().parent
    commit = None
    if shutil.which("git"):
        asked = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        top, _, head = asked.stdout.strip().partition("\n")
        commit = head if asked.returncode == 0 and Path(top).resolve() == folder else None
    return {"converter": script.name, "sha256": sha256_file(script), "commit": commit}


def _checked(path: Path, stored: Stored, ends: list[int], template: str | None) -> Content:
    """What a file says of itself, read back. Raises CaiError if that is not what was to be written."""
    try:
        content = read_gguf(path)
    except ValueError as error:
        raise CaiError(f"--gguf: {error}; nothing was exported") from error
    for fits, fault in (
        (content.tensors > 0, "it holds no tensors"),
        (content.stored == stored, f"its numbers are stored as {content.stored}, not {stored}"),
        (content.eos in ends, f"token {content.eos} ends its answers, not one of {ends}"),
        (content.chat_template == template, "its chat template is not the one that asks as `cai ask` does"),
    ):
        if not fits:
            raise CaiError(f"{path.name}: {fault}; nothing was exported. Try another version of the converter")
    return content
