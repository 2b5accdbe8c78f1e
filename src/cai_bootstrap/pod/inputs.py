"""What a run reads beside the pushed checkout: your own files, and the Stage 1 run it goes on from, sent by content.

Each lies on the pod in `BASE/inputs/KEY-HASH/` under its own name, so that what is there already is not sent again, and
a changed file never takes the place of the one that a running job reads. The run is told the new path.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.pod.answers import Tree, read
from cai_bootstrap.pod.errors import PodError
from cai_bootstrap.pod.push import LIMIT_SECONDS, choose, looks_secret, send_rsync, send_tar
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.ssh import Remote
from cai_bootstrap.run.folder import SUCCESS, RunFolder
from cai_bootstrap.run.markers import SuccessMarker, read_typed

INPUTS = "inputs"
AGAIN = "give a base directory whose Stage 1 run is whole"


@dataclass(frozen=True)
class Input:
    """Local files for one key of the run's configuration: `names` below the folder `root`.

    `{"key": "prompts", "root": "/home/me", "names": ["questions.jsonl"], "sha256": "4c…"}`. A folder's input stands for
    the folder, any other for its first file. `sha256` covers names and contents.
    """

    key: str
    root: Path
    names: tuple[str, ...]
    sha256: str
    is_folder: bool

    @property
    def folder(self) -> str:
        """Where it lies on the pod, below the base directory."""
        return f"{INPUTS}/{self.key.rpartition('.')[2]}-{self.sha256[:12]}"

    @property
    def local(self) -> Path:
        """What was named here."""
        return self.root if self.is_folder else self.root / self.names[0]

    def place(self, settings: PodSettings) -> str:
        """The path by which the run finds it on the pod."""
        folder = PurePosixPath(settings.remote_base) / self.folder
        return str(folder if self.is_folder else folder / self.names[0])

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum((self.root / name).stat().st_size for name in self.names)


def file_input(key: str, path: Path, beside: Sequence[str] = ()) -> Input:
    """One file, with the files that it names by paths relative to itself (its own scorers).

    Raises UsageError for what looks like a key or a secret.
    """
    return _input(key, path.absolute().parent, [path.name, *beside], is_folder=False)


def adapter_input(key: str, folder: Path) -> Input:
    """A trained adapter: its marker, and the files that the marker names."""
    folder = folder.absolute()
    return _input(key, folder, _adapter_files(folder), is_folder=True)


def stage1_input(key: str, base: Path) -> Input:
    """What a run reads of the Stage 1 run in a base directory: adapters, newest evaluation, pairs of all rounds.

    Raises UsageError if no training ended there, UntrustedResultError for a marker that cannot be read.
    """
    workspace = RunFolder.at(base)
    markers = workspace.success_markers()
    if not markers:
        raise UsageError(
            f"--from {base}: {workspace.checkpoints} holds no finished Stage 1 training; give the base directory of a "
            "Stage 1 run, or one on the pod by its absolute path"
        )
    files = [marker.parent / name for marker in markers for name in _adapter_files(marker.parent)]
    files += workspace.evaluations()[:1]
    files += [data.pairs for data in workspace.rounds() if data.pairs.exists()]
    return _input(key, workspace.base, [str(path.relative_to(workspace.base)) for path in files], is_folder=True)


def _adapter_files(folder: Path) -> list[str]:
    listed = read_typed(folder / SUCCESS, SuccessMarker, AGAIN).files
    names = [SUCCESS, *sorted(listed)]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise UsageError(f"{folder / SUCCESS}: names the file {name!r}, which is not there; {AGAIN}")
    return names


def _input(key: str, root: Path, names: Sequence[str], *, is_folder: bool) -> Input:
    for name in names:
        if looks_secret(root / name):
            raise UsageError(f"{root / name}: looks like a key or a secret, which never travels; name another file")
    digest = sha256()
    for name in sorted(names):  # the same sum as the pod's `tree`
        digest.update(f"{sha256_file(root / name)}  {name}\n".encode("utf-8", "surrogateescape"))
    return Input(key, root, tuple(names), digest.hexdigest(), is_folder)


def send_inputs(remote: Remote, inputs: Sequence[Input], say: Callable[[str], None]) -> None:
    """Put the inputs on the pod, each compared by hash; what is there already is not sent.

    Raises PodError for one that did not arrive whole (as of a file that changes meanwhile), and what a transfer raises.
    """
    for given in inputs:
        if _there(remote, given):
            say(f"{given.key}: {given.local} is on the pod already")
            continue
        say(f"{given.key}: sending {given.local} ({len(given.names)} files, {given.bytes / 1e6:.1f} MB)")
        if shutil.which("rsync") and remote.settings.via != "tar" and choose(remote, given.root) == "rsync":
            send_rsync(remote, given.root, given.names, given.folder)
        else:
            send_tar(remote, given.root, given.names, given.folder)
        if not _there(remote, given):
            raise PodError(f"{remote.settings.address}: {given.local} did not arrive as it is here; run it again")


def _there(remote: Remote, given: Input) -> bool:
    answer = remote.call("tree", given.folder, stdin=list(given.names), timeout=LIMIT_SECONDS)
    tree = read(Tree, answer, f"{remote.settings.address}: what lies in {given.folder}")
    return tree.sha256 == given.sha256
