"""Is the pod fit for the job: GPU and its memory, disk, Python, torch, and a way to transfer files; in one
connection.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from cai_bootstrap.errors import EXIT_TIMEOUT
from cai_bootstrap.files import JsonObject
from cai_bootstrap.pod.errors import PodError
from cai_bootstrap.pod.estimate import needed_gpu_memory
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.printable import one_line

IMPORT_SECONDS = 18
LIMIT_SECONDS = 30.0
MARGIN_SECONDS = 4.0
MOST_LINES = 64  # of one kind that a pod may say
DISK_GIB_NEEDED = 5
Level = Literal["ok", "warning", "failed"]
NUMBER = re.compile("[0-9]{1,15}")
VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})\b")

# $0: Python for the job, $1: its stand-in before set-up, $2: the remote base, $3: seconds for importing torch
PROBE = r"""
PYTHONSAFEPATH=1; export PYTHONSAFEPATH
say() { printf '%s\t%s\n' "$1" "$2"; }
for tool in rsync git tar; do command -v $tool >/dev/null 2>&1 && say tool $tool; done
python=$0; test -x "$python" || command -v "$python" >/dev/null 2>&1 || { python=$1; say fallback "$python"; }
version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) && say python "$version"
folder=$2; while test ! -e "$folder"; do folder=$(dirname -- "$folder"); done
test -w "$folder" && say writable yes
say disk "$(df -Pk -- "$folder" 2>/dev/null | awk 'NR==2 {print $4}')"
if command -v nvidia-smi >/dev/null 2>&1; then
  timeout 10 nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2>&1 | while IFS= read -r line; do
    say gpu "$line"; done
fi
answer=$(timeout "$3" "$python" -c 'import torch; print(torch.__version__, torch.cuda.is_available())' 2>&1)
code=$?; say torch "$code $(printf %s "$answer" | tail -n 1)"
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it stands, and what to do if it is not well."""

    name: str
    level: Level
    detail: str

    def record(self) -> JsonObject:
        """As plain data for --json."""
        return asdict(self)


@dataclass(frozen=True)
class Checked:
    """All findings, and the tools for transferring files that both sides have."""

    findings: tuple[Finding, ...]
    tools: frozenset[str]

    @property
    def fit(self) -> bool:
        """Whether nothing failed."""
        return all(finding.level != "failed" for finding in self.findings)


def check_pod(remote: Remote, *, preset: str | None, limit: float = LIMIT_SECONDS) -> Checked:
    """Look at the pod within `limit` seconds. Raises PodError kinds when it cannot be reached."""
    settings = remote.settings
    importing = str(max(1, int(min(IMPORT_SECONDS, limit - 2 * MARGIN_SECONDS))))
    argv = ["/bin/sh", "-c", PROBE, settings.job_python, "python3", settings.remote_base, importing]
    answer = remote.run(argv, timeout=max(MARGIN_SECONDS, limit - 1))
    seen: dict[str, list[str]] = {}
    for line in answer.output.decode("utf-8", "replace").splitlines():
        key, tab, value = line.partition("\t")
        if tab and len(seen.setdefault(key, [])) < MOST_LINES:
            seen[key].append(one_line(value, 200))
    if "torch" not in seen:
        raise PodError(f"{settings.address}: the check did not finish: {answer.errors.strip() or 'no /bin/sh?'}")
    tools = frozenset(seen.get("tool", []))
    findings = [
        Finding("connection", "ok", f"{settings.address}, host key pinned"),
        *_gpu(seen.get("gpu", []), settings.gpu == "none", needed_gpu_memory(preset), preset),
        _disk(seen.get("disk", [""])[0], "writable" in seen, settings.remote_base),
        _python(seen.get("python"), "fallback" in seen, settings.python),
        _torch(seen["torch"][0], settings.gpu == "none"),
        _transfer(tools),
    ]
    return Checked(tuple(findings), tools)


def _gpu(lines: Sequence[str], unwanted: bool, need: float | None, preset: str | None) -> list[Finding]:
    if unwanted:
        return [Finding("GPU", "ok", "none wanted (gpu: none)")]
    findings = []
    for line in lines:
        name, _, memory = line.rpartition(",")
        if not NUMBER.fullmatch(memory.strip()):
            return [Finding("GPU", "failed", f"nvidia-smi does not work: {line}; restart the pod or rent another")]
        gib = int(memory) / 1024
        short = need is not None and gib < need
        detail = f"{name}, {gib:.0f} GiB"
        if short:
            detail += f": preset {preset} needs {need:.0f} GiB; rent a larger GPU or choose another preset"
        findings.append(Finding("GPU", "failed" if short else "ok", detail))
    return findings or [Finding("GPU", "failed", "no nvidia-smi on the pod; rent a GPU pod, or set gpu: none")]


def _disk(kib: str, writable: bool, base: str) -> Finding:
    if not writable:
        return Finding("disk", "failed", f"{base} cannot be written; choose another remote_base")
    if not NUMBER.fullmatch(kib):
        return Finding("disk", "warning", f"free space of {base} is unknown")
    gib = int(kib) / (1 << 20)
    if gib < 0.1:
        return Finding("disk", "failed", f"{gib:.2f} GiB free at {base}; free some space or enlarge the volume")
    level: Level = "ok" if gib >= DISK_GIB_NEEDED else "warning"
    return Finding("disk", level, f"{gib:.1f} GiB free at {base}")


def _python(version: list[str] | None, fallback: bool, named: str | None) -> Finding:
    if version is None:
        return Finding("Python", "failed", f"{named or 'python3'} does not run on the pod; install it or set 'python'")
    if fallback and named:
        return Finding("Python", "failed", f"{named} is not on the pod; correct 'python' in pod.yaml")
    numbers = VERSION.match(version[0])
    if numbers is None:
        return Finding("Python", "failed", f"{named or 'python3'} tells no version but {version[0]!r}; set 'python'")
    if (int(numbers[1]), int(numbers[2])) < (3, 11):
        return Finding(
            "Python", "failed", f"{version[0]}; the job needs 3.11 or newer: choose a newer image or set 'python'"
        )
    return Finding("Python", "ok", version[0] + (" (before set-up)" if fallback else ""))


def _torch(text: str, no_gpu: bool) -> Finding:
    code, _, answer = text.partition(" ")
    if code == str(EXIT_TIMEOUT):
        return Finding(
            "torch", "warning", f"import took more than {IMPORT_SECONDS} s; the first import on a cold disk may"
        )
    if code != "0":
        return Finding("torch", "warning", f"does not import yet ({answer.strip()[:120]}); `cai pod setup` installs it")
    version, _, cuda = answer.strip().partition(" ")
    if cuda != "True" and not no_gpu:
        return Finding("torch", "failed", f"{version} sees no GPU; choose an image whose CUDA fits the pod's driver")
    return Finding("torch", "ok", version)


def _transfer(tools: frozenset[str]) -> Finding:
    both = [tool for tool in ("rsync", "git") if tool in tools and shutil.which(tool)]
    if both:
        return Finding("transfer", "ok", " and ".join(both))
    return Finding("transfer", "warning", "neither rsync nor git on both sides: files go as a tar stream over ssh")
