"""Send the code: what git would track (or the folder's files), never secrets or results; or exactly one commit by
git.
"""

import fnmatch
import io
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import JsonObject
from cai_bootstrap.pod.answers import Tree, read
from cai_bootstrap.pod.errors import PodError
from cai_bootstrap.pod.ssh import TRANSPORT_FAILED, Remote, clean_environment, rsync_host, rsync_shell
from cai_bootstrap.printable import message, one_line

PUSHED = "pushed.json"
CODE = "code"
LIMIT_SECONDS = 1800.0
NEVER_FOLDERS = {
    ".git", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".tox", "node_modules",
    ".ssh", ".aws", ".gnupg", "results", "checkpoints", "logs", "cai-work", ".cai-pull", ".pod",
}  # fmt: skip
NEVER_TOP = {"data", "models", "wandb"}
NEVER_FILES = (
    ".env", ".env.*", "*.env", ".envrc", "pod.yaml", "*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", "*_rsa", "*_ed25519", "*_ecdsa", ".netrc", ".pypirc", ".npmrc", "credentials",
    "credentials.json", "credentials.y*ml", "secrets.json", "secrets.y*ml", "secrets.toml", "known_hosts",
    "authorized_keys", "*.pyc", "*.safetensors", "*.gguf", "*.swp",
)  # fmt: skip
KEY_MARK = b"PRIVATE KEY-----"


@dataclass(frozen=True)
class Pushed:
    """What lies on the pod now: how it came, how much, its tree hash, and the commit it is or is based on."""

    via: str
    files: int
    sha256: str
    commit: str | None
    dirty: bool

    def record(self) -> JsonObject:
        """As plain data for the pod's note and --json."""
        return {name: getattr(self, name) for name in ("via", "files", "sha256", "commit", "dirty")}


def push(remote: Remote, source: Path, via: str, say: Callable[[str], None]) -> Pushed:
    """Make the pod's code folder equal to `source`; `via` is rsync, git, tar or auto (rsync, else git, else tar).

    Raises UsageError for a source that is not there or is dirty where git is asked for; PodError if the copy differs.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder; name the checkout to push with --source")
    if via == "auto":
        via = choose(remote, source)
        say(f"pushing by {via}")
    remote.call("forget", PUSHED)
    if via == "git":
        return _push_git(remote, source)
    names = list(pushed_files(source))
    if not names:
        raise UsageError(f"{source}: holds no files to push")
    if via == "rsync":
        send_rsync(remote, source, names)
    else:
        send_tar(remote, source, names)
    tree = _tree(remote, names)
    if tree.missing:
        first = one_line(repr(tree.missing[0]), 300)
        raise PodError(f"{remote.settings.address}: {len(tree.missing)} files did not arrive, {first} first")
    commit, dirty = commit_of(source), is_dirty(source)
    return _note(remote, Pushed(via, tree.files, tree.sha256, commit, dirty))


def _tree(remote: Remote, names: list[str]) -> Tree:
    answer = remote.call("tree", stdin=names, timeout=LIMIT_SECONDS)
    return read(Tree, answer, f"{remote.settings.address}: what lies in the code folder")


def choose(remote: Remote, source: Path) -> str:
    """The best way that both sides can go: rsync, then git (clean checkout only), then tar."""
    answer = remote.run(["/bin/sh", "-c", "command -v rsync; command -v git; true"]).output.decode("utf-8", "replace")
    there = {Path(line).name for line in answer.split()}
    if "rsync" in there and shutil.which("rsync"):
        return "rsync"
    if "git" in there and commit_of(source) is not None and not is_dirty(source):
        return "git"
    return "tar"


def pushed_files(source: Path) -> Iterator[str]:
    """The files to send, relative to `source`: git's tracked and untracked-but-not-ignored ones, or all of the folder.

    Left out always: keys and environment files (by name and by content), version control, results, caches, symlinks.
    """
    for name in _candidates(source):
        parts = Path(name).parts
        path = source / name
        if parts[0] in NEVER_TOP or NEVER_FOLDERS.intersection(parts[:-1]):
            continue
        if path.is_symlink() or not path.is_file() or _named_as_secret(path) or _holds_key(path):
            continue
        yield name


def looks_secret(path: Path) -> bool:
    """Whether a file that was named to be sent is a key or an environment file, by its name or content.

    Weights are none, though no push sends them.
    """
    weights = path.suffix.lower() in {".safetensors", ".gguf"}
    return (not weights and _named_as_secret(path)) or _holds_key(path)


def _named_as_secret(path: Path) -> bool:
    return any(fnmatch.fnmatch(path.name.lower(), pattern) for pattern in NEVER_FILES)


def _candidates(source: Path) -> Iterator[str]:
    listed = _git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", ".")
    if listed is not None:
        yield from (os.fsdecode(name) for name in sorted(listed.split(b"\0")) if name)
        return
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if name not in NEVER_FOLDERS)
        for name in sorted(files):
            yield os.path.relpath(os.path.join(folder, name), source)


def _holds_key(path: Path) -> bool:
    if path.stat().st_size > 65536:
        return False
    return any(line.startswith(b"-----BEGIN") and line.rstrip().endswith(KEY_MARK) for line in path.open("rb"))


def _git(source: Path, *arguments: str) -> bytes | None:
    try:
        process = subprocess.run(
            ["git", "-C", str(source), *arguments],
            capture_output=True,
            env=clean_environment(),
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        return None
    return process.stdout if process.returncode == 0 else None


def commit_of(source: Path) -> str | None:
    """The checked-out commit, or None if this is no git checkout."""
    commit = _git(source, "rev-parse", "--verify", "HEAD")
    return commit.decode().strip() if commit else None


def is_dirty(source: Path) -> bool:
    """Whether the folder differs from its commit, untracked files included."""
    changes = _git(source, "status", "--porcelain", ".")
    return bool(changes is None or changes.strip())


def send_rsync(remote: Remote, source: Path, names: Sequence[str], folder: str = CODE) -> None:
    """Send files, named relative to `source`, into a folder below the pod's base directory."""
    place = f"{remote.settings.remote_base}/{folder}"
    remote.run(["mkdir", "-p", "--", place])
    command = [
        "rsync", "-a", "--partial", "--protect-args", "--no-links", "--from0", "--files-from=-",
        "-e", rsync_shell(remote), "--", f"{source}/", f"{rsync_host(remote.settings)}:{place}/",
    ]  # fmt: skip
    listing = b"".join(os.fsencode(name) + b"\0" for name in names)
    process = subprocess.run(
        command, input=listing, capture_output=True, env=clean_environment(), timeout=LIMIT_SECONDS, check=False
    )
    raise_transfer(remote, process.returncode, process.stderr.decode("utf-8", "replace"))


def raise_transfer(remote: Remote, code: int, errors: str) -> None:
    """Raise for a failed rsync or git, in words: the connection, the disk, or what the tool said."""
    if code == 0:
        return
    errors = message(errors)
    if code == TRANSPORT_FAILED or "Permission denied (publickey" in errors or "Host key verification failed" in errors:
        raise remote.failure(errors)
    if "No space left" in errors:
        raise remote.disk_full()
    raise PodError(
        f"{remote.settings.address}: the transfer failed ({errors.strip()[-600:] or f'exit code {code}'}); run it again"
    )


def send_tar(remote: Remote, source: Path, names: Sequence[str], folder: str = CODE) -> None:
    """The same without rsync, as one archive that is held in memory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            archive.add(str(source / name), arcname=name, recursive=False)
    try:
        remote.call("unpack", folder, stdin=packed.getvalue(), timeout=LIMIT_SECONDS)
    except PodError as error:
        raise_transfer(remote, 1, str(error))


def _push_git(remote: Remote, source: Path) -> Pushed:
    commit = commit_of(source)
    if commit is None:
        raise UsageError(f"{source}: not a git checkout with a commit; push with --via rsync")
    if is_dirty(source):
        raise UsageError(f"{source}: has changes that are in no commit; commit them, or push with --via rsync")
    store, code = f"{remote.settings.remote_base}/code.git", remote.settings.code
    _must(remote, ["/bin/sh", "-c", 'mkdir -p -- "$1" && git init -q --bare -- "$0"', store, code])
    environment = clean_environment() | {"GIT_SSH_COMMAND": shlex.join(remote.ssh()), "GIT_SSH_VARIANT": "simple"}
    process = subprocess.run(
        ["git", "-C", str(source), "push", "-q", "--force", "--no-verify", f"{rsync_host(remote.settings)}:{store}",
         f"{commit}:refs/heads/pod"],
        capture_output=True, env=environment, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    raise_transfer(remote, 1 if process.returncode else 0, process.stderr.decode("utf-8", "replace"))
    git = ["git", f"--git-dir={store}", f"--work-tree={code}"]
    _must(remote, [*git, "checkout", "-q", "--force", commit])
    _must(remote, ["/bin/sh", "-c", 'cd -- "$0" && exec "$@"', code, *git, "clean", "-ffdxq"])
    there = _must(remote, [*git, "rev-parse", "HEAD"]).decode("utf-8", "replace").strip()
    tracked = _must(remote, [*git, "ls-files", "-z"]).split(b"\0")
    names = [os.fsdecode(name) for name in tracked if name]
    differs = _must(remote, [*git, "status", "--porcelain"]).strip()
    if there != commit or differs:
        raise PodError(f"{remote.settings.address}: the checkout is not exactly {commit}; run the push again")
    tree = _tree(remote, names)
    return _note(remote, Pushed("git", tree.files, tree.sha256, commit, False))


def _must(remote: Remote, argv: list[str]) -> bytes:
    answer = remote.run(argv, timeout=LIMIT_SECONDS)
    if answer.code != 0:
        raise_transfer(remote, answer.code, answer.errors)
    return answer.output


def _note(remote: Remote, pushed: Pushed) -> Pushed:
    remote.call("note", PUSHED, stdin=pushed.record())
    return pushed
