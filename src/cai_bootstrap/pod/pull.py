"""Fetch what a run left on the pod: hashes there, transfer, hashes here; only verified files reach their place.

Files arrive in `TARGET/.cai-pull/` and are moved into place once their hash is right, so a killed pull leaves whole,
true files and goes on where it was. Nothing is deleted on the pod, and no run that was made here is replaced. Paths
that would leave the target are refused; symlinks are neither sent nor followed.
"""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.files import JsonObject, read_json, sha256_file, write_atomic
from cai_bootstrap.pod.answers import excerpt
from cai_bootstrap.pod.errors import PodError, UnreachableError, UnreadableError
from cai_bootstrap.pod.listing import LIMIT_SECONDS, RECORD, Listed, listing_of, safe_name, shown_name
from cai_bootstrap.pod.onpod.files import FOLDERS
from cai_bootstrap.pod.push import raise_transfer
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.ssh import Remote, clean_environment, rsync_host, rsync_shell
from cai_bootstrap.run.folder import STAGES, RunFolder
from cai_bootstrap.run.lock import hold

ROUNDS = 4
PATIENCE_SECONDS = 60.0  # a limit stops the pod after a pull that failed, so a lock held for a moment must not fail it
STAGING = ".cai-pull"
MOST_COMPLAINTS = 10
__all__ = ["FOLDERS", "RECORD", "Pulled", "check_rental", "check_target", "pull", "safe_name"]


@dataclass
class Pulled:
    """What a pull did: counts of files, and names (with reasons) of those that need a look."""

    target: Path
    job: str | None = None
    job_state: str = "none"
    files: int = 0
    bytes: int = 0
    fetched: int = 0
    unchanged: int = 0
    fetched_again: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether every file of the pod is here with the hash it has there."""
        return not self.differing and not self.unreadable

    def record(self) -> JsonObject:
        """As plain data for --json."""
        return {**self.__dict__, "target": str(self.target), "verified": self.verified}


def pull(remote: Remote, target: Path, say: Callable[[str], None]) -> Pulled:
    """Bring results, adapters, data and logs into `target`, verified.

    Tells the pod that a finished job's files are fetched. Raises PodError for a path that leaves the target or a full
    disk here; UnreachableError if the connection breaks (what has come stays and is resumed from); and, before
    anything is fetched, what `check_target` raises: LockedError after a minute, UsageError also for files of another
    rental under the same name.
    """
    target.mkdir(parents=True, exist_ok=True)
    with _held(target, remote.settings, PATIENCE_SECONDS):
        return _pull(remote, target, say)


def check_target(target: Path, settings: PodSettings) -> None:
    """See that this pod's files may be written into `target`; makes no folder.

    Raises UsageError if it holds a run that was made here or that of a pod of another name, LockedError if a run holds
    it now.
    """
    if target.is_dir():
        with _held(target, settings, 0.0):
            pass


def check_rental(remote: Remote, target: Path) -> None:
    """See that `target` holds no files of another rental under this pod's name. Raises UsageError."""
    pod_id = remote.call("noted", "id")
    if pod_id is not None and not isinstance(pod_id, str):
        raise UnreadableError(f"{remote.settings.address}: the pod's id is unreadable; the pod sent {excerpt(pod_id)}")
    _refuse_other_rental(target, remote.settings.name, pod_id)


@contextlib.contextmanager
def _held(target: Path, settings: PodSettings, patience: float) -> Iterator[None]:
    with hold(RunFolder.at(target), f"cai pod pull ({settings.name})", patience=patience):
        pod, _ = _pulled_from(target)
        if pod != settings.name and _holds_run(target):
            whose = "a run that was made here" if pod is None else f"what was pulled from the pod '{pod}'"
            raise UsageError(
                f"{target}: holds {whose}, which the files of the pod '{settings.name}' would replace; name another "
                "folder with --into"
            )
        yield


def _refuse_other_rental(target: Path, name: str, pod_id: str | None) -> None:
    """Names are not enough: by default every rental is called `pod`. An older record has no id; its name decides."""
    _, known_id = _pulled_from(target)
    if known_id is not None and known_id != pod_id and _holds_run(target):
        raise UsageError(
            f"{target}: holds what was pulled from an earlier rental, also named '{name}', which the files of this one "
            "would replace; name another folder with --into"
        )


def _holds_run(target: Path) -> bool:
    stages = [RunFolder.at(target, stage=stage) for stage in STAGES.values()]
    folders = {folder for stage in stages for folder in (stage.results, stage.data, stage.checkpoints)}
    return any(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def _pulled_from(target: Path) -> tuple[str | None, str | None]:
    """Name and id of the pod whose files lie here, by the record of the last pull; None for what is not known."""
    try:
        record = read_json(target / "logs" / RECORD)
        return str(record["pod"]), record.get("pod_id")
    except (DataError, KeyError, TypeError):
        return None, None


def _pull(remote: Remote, target: Path, say: Callable[[str], None]) -> Pulled:
    staging = target / STAGING
    staging.mkdir(exist_ok=True)
    has_rsync = shutil.which("rsync") is not None and remote.run(["/bin/sh", "-c", "command -v rsync"]).code == 0
    report = Pulled(target)
    tried: set[str] = set()
    for turn in range(ROUNDS):
        listed = listing_of(remote)
        pod = (remote.settings.name, listed.pod_id)
        _refuse_other_rental(target, *pod)
        report.job, report.job_state = listed.job, listed.state
        report.left_out, report.unreadable = listed.left_out, listed.unreadable
        if turn == 0:
            _complain(listed, say)
        hashes = {name: entry.sha256 for name, entry in listed.files.items()}
        report.files, report.bytes = len(hashes), sum(entry.size for entry in listed.files.values())
        lacking = [name for name, sha256 in hashes.items() if not _is_here(target, name, sha256)]
        if turn == 0:
            report.unchanged = len(hashes) - len(lacking)
            if _pulled_from(target) != pod:
                # First of all, so that what a killed pull leaves is known as this pod's.
                _record(target, pod, None, {})
        report.differing = lacking
        if not lacking:
            break
        report.fetched_again = sorted({*report.fetched_again, *tried.intersection(lacking)})
        arrived = [name for name in lacking if _settle(target, name, hashes[name])]
        remaining = [name for name in lacking if name not in arrived]
        if remaining:
            say(f"fetching {len(remaining)} of {len(hashes)} files")
            _transfer(remote, staging, remaining, again=bool(tried.intersection(remaining)), by_rsync=has_rsync)
            arrived += [name for name in remaining if _settle(target, name, hashes[name])]
        tried.update(remaining)
        report.fetched += len(arrived)
        report.differing = [name for name in lacking if name not in arrived]
        if not report.differing:
            break
        report.fetched_again = sorted({*report.fetched_again, *report.differing})
    if not report.differing:
        shutil.rmtree(staging, ignore_errors=True)
        _record(target, pod, report.job if report.verified else None, hashes)
    if report.verified and report.job and report.job_state in ("finished", "lost"):
        remote.call("fetched", report.job)
    return report


def _complain(listed: Listed, say: Callable[[str], None]) -> None:
    """Name the entries that cannot be fetched; the good ones are."""
    for problem in listed.unreadable[:MOST_COMPLAINTS]:
        say(problem)
    if len(listed.unreadable) > MOST_COMPLAINTS:
        say(f"and {len(listed.unreadable) - MOST_COMPLAINTS} more entries of the listing are unreadable")


def _record(target: Path, pod: tuple[str, str | None], job: str | None, hashes: dict[str, str]) -> None:
    _refuse_symlinks(target, f"logs/{RECORD}")
    record = {"job": job, "pod": pod[0], "pod_id": pod[1], "files": hashes}
    (target / "logs").mkdir(parents=True, exist_ok=True)
    write_atomic(target / "logs" / RECORD, json.dumps(record, indent=2) + "\n")  # ASCII: names may be no UTF-8


def _is_here(target: Path, name: str, sha256: str) -> bool:
    path = target / name
    _refuse_symlinks(target, name)
    try:
        return stat.S_ISREG(path.lstat().st_mode) and sha256_file(path) == sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _refuse_symlinks(target: Path, name: str) -> None:
    """A symlink in a fetched path would carry the file out of the target."""
    path = target
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            raise PodError(
                f"{shown_name(str(path))}: is a symlink here; fetched files do not go through symlinks: remove it, or "
                "use --into"
            )


def _settle(target: Path, name: str, sha256: str) -> bool:
    """Move a fetched file into place if its hash is right; throw a wrong one away."""
    arrived = target / STAGING / name
    _refuse_symlinks(target / STAGING, name)
    if not arrived.is_file():
        return False
    if sha256_file(arrived) != sha256:
        return False
    _refuse_symlinks(target, name)
    place = target / name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(arrived, 0o644)
        os.replace(arrived, place)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        return False  # a folder here where the pod has a file, or the other way round: named as still different
    return True


def _transfer(remote: Remote, staging: Path, names: list[str], *, again: bool, by_rsync: bool) -> None:
    if by_rsync:
        _by_rsync(remote, staging, names, again)
    else:
        _by_tar(remote, staging, names)


def _by_rsync(remote: Remote, staging: Path, names: list[str], again: bool) -> None:
    command = [
        "rsync", "-rt", "--partial", "--protect-args", "--no-links", "--safe-links", "--from0", "--files-from=-",
        *(["--ignore-times"] if again else []), "-e", rsync_shell(remote), "--",
        f"{rsync_host(remote.settings)}:{remote.settings.remote_base}/", f"{staging}/",
    ]  # fmt: skip
    listing = b"".join(os.fsencode(name) + b"\0" for name in names)
    process = subprocess.run(
        command, input=listing, capture_output=True, env=clean_environment(), timeout=LIMIT_SECONDS, check=False
    )
    vanished = process.returncode in (23, 24) and "No space left" not in process.stderr.decode("utf-8", "replace")
    if process.returncode and not vanished:
        errors = process.stderr.decode("utf-8", "replace")
        if "No space left" in errors:
            raise PodError(f"{staging}: no space left here; free some, then run `cai pod pull` again, it resumes")
        if process.returncode in (10, 12, 20, 30, 35):
            raise UnreachableError(
                f"{remote.settings.address}: the connection broke while fetching; run it again, it resumes"
            )
        raise_transfer(remote, process.returncode, errors)


def _by_tar(remote: Remote, staging: Path, names: list[str]) -> None:
    packed = staging / ".archive.tar"
    command = remote.command(remote.pod_argv("pack"))
    with packed.open("wb") as target:
        process = subprocess.run(
            command, input=json.dumps(names).encode(), stdout=target, stderr=subprocess.PIPE, check=False
        )
    try:
        if process.returncode:
            raise remote.failure(process.stderr.decode("utf-8", "replace"))
        unpack_expected(packed, staging, names)
    finally:
        packed.unlink(missing_ok=True)


def unpack_expected(archive: Path, staging: Path, names: Iterable[str]) -> None:
    """Write those members of a tar that were asked for and are regular files; anything else is passed over."""
    expected = set(names)
    try:
        with tarfile.open(archive, mode="r:") as members:
            for member in members:
                content = members.extractfile(member) if member.isreg() and member.name in expected else None
                if content is None:
                    continue
                _refuse_symlinks(staging, member.name)
                path = staging / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as target:
                    shutil.copyfileobj(content, target)
    except tarfile.TarError:
        return
