"""What this machine can do with the product, what would not work, and why. Looks only: creates and fetches nothing."""

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from cai_bootstrap import __version__
from cai_bootstrap.inference.devices import visible_gpus
from cai_bootstrap.inference.models import EMBEDDED, EMBEDDED_PACKAGE
from cai_bootstrap.run.folder import resolve_base_dir, resolve_cache_dir
from cai_bootstrap.shipped import shipped

GIB = 1024**3
# Measured with the embedded model on two CPU cores: 3 GB at the peak of training, 1 GB of converted weights.
NEEDED_MEMORY_GIB, NEEDED_DISK_GIB = 4.0, 3.0
OPTIONAL = {
    "vllm": "--engine vllm",
    "bitsandbytes": "--precision int8",
    "tensorboard": "--track tensorboard",
    "trackio": "--track trackio",
    "wandb": "--track wandb",
}
_PIN = re.compile(r"([A-Za-z0-9][\w.\-]*)==([\w.]+)")
Status = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Only a `failure` keeps the product from working at all."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(base: Path | None = None) -> list[Finding]:
    """Look at Python, libraries, device, memory, disk and model cache, in this order."""
    return [*_python(), *_libraries(), *_device(), *_memory(), *_disk(base), *_model(), *_optional()]


def pins() -> dict[str, str]:
    """The tested versions, by normalised name, from the shipped constraints.txt."""
    matches = (_PIN.fullmatch(line.strip()) for line in shipped("constraints.txt").read_text().splitlines())
    return {_plain(match[1]): match[2] for match in matches if match}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    if platform.system() != "Linux":
        yield Finding("system", "warning", platform.system(), "only Linux is tested; steps end with their parent there")


def _libraries() -> Iterator[Finding]:
    """Each declared dependency against its pin."""
    pinned = pins()
    try:
        declared = requires("cai-bootstrap") or []
    except PackageNotFoundError:
        yield Finding("cai-bootstrap", "failure", "not installed", "run: pip install -c constraints.txt -e .")
        return
    yield Finding("cai-bootstrap", "ok", __version__)
    for line in declared:
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        name = re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0]
        pin = pinned.get(_plain(name))
        try:
            here = version(name)
        except PackageNotFoundError:
            yield Finding(name, "failure", "missing", f"run: pip install '{name}=={pin}'" if pin else "install it")
            continue
        if pin is None or here.partition("+")[0] == pin:
            yield Finding(name, "ok", here)
        elif not _in_range(requirement, here):
            advice = f"'{requirement.strip()}' is needed; {pin} is tested"
            yield Finding(name, "failure", here, f"{advice}: pip install '{name}=={pin}'")
        else:
            yield Finding(name, "warning", here, f"{pin} is the tested version; results may differ in their digits")


def _in_range(requirement: str, here: str) -> bool:
    from packaging.requirements import Requirement

    return Requirement(requirement).specifier.contains(here.partition("+")[0], prereleases=True)


def _device() -> Iterator[Finding]:
    try:
        torch_version, gpus = visible_gpus()
    except (ImportError, OSError) as error:
        yield Finding("torch", "failure", str(error), "torch does not load: install it again, by exact version")
        return
    if not gpus:
        advice = "the GPU presets, bf16 at speed and vLLM do not work here; quick-test and gemma-270m-cpu do"
        yield Finding("gpu", "warning", f"none seen by torch {torch_version}", advice)
        return
    for gpu in gpus:
        advice = "" if gpu.memory > 70 * GIB else "qwen2.5-32b-a100 needs a GPU of 80 GB"
        yield Finding("gpu", "ok", f"{gpu.name}, {gpu.memory / GIB:.0f} GiB", advice)


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    figures = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free, {os.cpu_count()} cores"
    if memory.available < NEEDED_MEMORY_GIB * GIB:
        advice = f"training the embedded model wants {NEEDED_MEMORY_GIB:.0f} GiB; it may be killed half-way"
        yield Finding("memory", "warning", figures, advice)
    else:
        yield Finding("memory", "ok", figures)


def _disk(base: Path | None) -> Iterator[Finding]:
    for name, folder in (("base directory", resolve_base_dir(base)), ("cache", resolve_cache_dir())):
        there = next(part for part in (folder, *folder.parents) if part.exists())
        free = shutil.disk_usage(there).free / GIB
        space = f"{folder}, {free:.1f} GiB free"
        if not there.is_dir() or not os.access(there, os.W_OK):
            setting = "--base-dir or CAI_BASE_DIR" if name == "base directory" else "CAI_CACHE_DIR"
            yield Finding(name, "failure", space, f"{there} cannot be written; name another with {setting}")
        elif free < NEEDED_DISK_GIB:
            yield Finding(name, "warning", space, f"a run of the embedded model wants {NEEDED_DISK_GIB:.0f} GiB")
        else:
            yield Finding(name, "ok", space)


def _model() -> Iterator[Finding]:
    models, hub = resolve_cache_dir() / "models", resolve_cache_dir() / "hub"
    cached = sorted(folder.name for folder in models.glob("*") if folder.is_dir() and not folder.name.startswith("."))
    cached += sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in hub.glob("models--*"))
    if cached:
        yield Finding("model cache", "ok", ", ".join(cached))
    elif importlib.util.find_spec(EMBEDDED_PACKAGE) is not None:
        advice = "`cai prepare` converts it once, in one to three minutes"
        yield Finding("model cache", "ok", f"empty; {EMBEDDED} is installed", advice)
    else:
        advice = f"--quick-test does not work: pip install 'cai-bootstrap[demo]' for {EMBEDDED}, or name a --model"
        yield Finding("model cache", "warning", "empty", advice)


def _optional() -> Iterator[Finding]:
    """What only some settings need. Their versions are given as ranges: a GPU machine's own torch decides."""
    ranges = {_plain(re.split(r"[\s<>=!~\[;]", line, maxsplit=1)[0]): line.partition(";")[0] for line in _extras()}
    for name, what in OPTIONAL.items():
        extra = "track" if "track" in what else "gpu"
        range_ = ranges.get(name, name)
        try:
            here = version(name)
        except PackageNotFoundError:
            advice = f"{what} does not work; pip install 'cai-bootstrap[{extra}]'"
            yield Finding(name, "warning", "not installed", advice)
            continue
        if _in_range(range_, here):
            yield Finding(name, "ok", here)
        else:
            yield Finding(name, "warning", here, f"{what} is tested with '{range_.strip()}' and may not work")


def _extras() -> list[str]:
    try:
        return [line for line in requires("cai-bootstrap") or [] if re.search(r"extra == .(gpu|track)", line)]
    except PackageNotFoundError:
        return []
