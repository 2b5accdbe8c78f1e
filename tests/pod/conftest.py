"""The loopback pod as fixtures."""

import getpass
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .loopback import Pod, RunPodStandIn, Sshd, stand_in_checkout

LIGHT_PYTHON = str(Path(sys.base_prefix) / "bin" / "python3")  # without torch, whose import takes seconds


MADE: list[Pod] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().end_processes()


@pytest.fixture(scope="session")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    sshd = Sshd(tmp_path_factory.mktemp("sshd"))
    sshd.stays = True
    sshd.start()
    yield sshd
    sshd.stop()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_checkout(tmp_path_factory.mktemp("source") / "a checkout")


def make_pod(folder: Path, sshd: Sshd, checkout: Path, *, pinned: bool = False) -> Pod:
    """A pod whose base directory has quotes, blanks and a dollar in its name; nobody has connected to it."""
    home, base = folder / "home of $USER", folder / 'pod\'s "base" $HOME'
    (home / "state").mkdir(parents=True)
    base.mkdir()
    if pinned:
        (home / "state" / "known_hosts").write_text(sshd.known_hosts_line())
    pod = Pod(home, sshd, base, {}, checkout, folder / "back here")
    pod.write(
        name="loop", host="127.0.0.1", port=sshd.port, user=getpass.getuser(), key=str(sshd.client_key),
        host_key=sshd.fingerprint(), hourly_price=1.74, remote_base=str(base), gpu="none", python=LIGHT_PYTHON,
        job=["{python}", "{code}/src/job.py", "{args}", "--base-dir", "{base}"], setup={"commands": ["true"]},
        stop={"check_seconds": 0.1, "job_grace_seconds": 5, "connected_seconds": 1, "retry_seconds": 0.2,
              "limit_seconds": 5},
    )  # fmt: skip
    MADE.append(pod)
    return pod


@pytest.fixture
def pod(tmp_path: Path, shared_sshd: Sshd, checkout: Path) -> Pod:
    """A pod with its host key pinned."""
    made = make_pod(tmp_path, shared_sshd, checkout, pinned=True)
    return made


@pytest.fixture(scope="session")
def pushed_base(tmp_path_factory: pytest.TempPathFactory, shared_sshd: Sshd, checkout: Path) -> Path:
    """The base directory of a pod after `push`."""
    pod = make_pod(tmp_path_factory.mktemp("pushed"), shared_sshd, checkout)
    pod.cai("push", "--source", str(checkout))
    return pod.base


@pytest.fixture
def ready(pod: Pod, pushed_base: Path) -> Pod:
    """A pod with the code on it."""
    shutil.copytree(pushed_base, pod.base, dirs_exist_ok=True)
    return pod


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd that a test may stop and change."""
    (tmp_path / "own").mkdir()
    sshd = Sshd(tmp_path / "own")
    sshd.start()
    yield sshd
    sshd.stop()


@pytest.fixture
def runpod() -> Iterator[RunPodStandIn]:
    api = RunPodStandIn()
    yield api
    api.close()


@pytest.fixture
def rented(pod: Pod, runpod: RunPodStandIn) -> Pod:
    """A pod whose provider is the stand-in."""
    pod.environment["RUNPOD_API_KEY"] = runpod.key
    pod.write(provider={"pod_id": "pod123", "api_url": runpod.url})
    return pod
