"""The CUDA image: what can be read of it here, where it cannot be built; its start-up runs, with a real client."""

import getpass
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pod.loopback import free_port, make_key, until

CHECKOUT = Path(__file__).parents[1]
DOCKERFILE = CHECKOUT / "docker" / "cuda.Dockerfile"
START = CHECKOUT / "docker" / "start.sh"


def instructions() -> list[tuple[str, str]]:
    """The image's instructions in order, each with its arguments on one line."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole.splitlines() if line.strip()]


def test_every_library_of_the_image_comes_in_the_tested_version() -> None:
    installs = [text for kind, text in instructions() if kind == "RUN" and "pip install" in text]
    assert installs == [
        """pip install "$(grep '^torch==' constraints.txt)\"""",
        'pip install -c constraints.txt ".[demo]"',
    ]
    pins = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^torch==\d+\.\d+\.\d+$", pins, re.M), "a local version such as +cpu would leave CUDA out"


def test_the_image_names_no_secret_and_no_host_of_a_registry() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8") + START.read_text(encoding="utf-8")
    assert re.findall(r"https?://\S+", text) == []
    assert re.findall(r"(?i)--(?:extra-)?index-url|PIP_INDEX|PIP_EXTRA|(?:token|api_key|secret|password)=", text) == []
    assert not [text for kind, text in instructions() if kind == "ARG"], "a build argument stays in the image's history"


def copied() -> list[str]:
    """The paths of the checkout that the image copies."""
    words = [text.split() for kind, text in instructions() if kind == "COPY"]
    return [word for line in words for word in line[:-1] if not word.startswith("--")]


def test_what_is_copied_is_what_the_ignore_file_lets_through_and_enough_to_install(tmp_path: Path) -> None:
    ignored = DOCKERFILE.with_name("cuda.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())
    for name in copied():
        source, target = CHECKOUT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert len(list((tmp_path / "dist").glob("*.whl"))) == 1


def test_the_image_has_what_a_pod_needs_and_stays_without_a_command() -> None:
    every = instructions()
    (packages,) = (text for kind, text in every if kind == "RUN" and "apt-get install" in text)
    assert {"git", "openssh-server", "rsync"} <= set(packages.split())
    assert "ssh_host_" in packages, "host keys of the image would be those of all its containers"
    assert "ENTRYPOINT" not in {kind for kind, _ in every}
    assert every[-1] == ("CMD", '["cai-start"]')
    assert "exec /usr/sbin/sshd -D" in START.read_text(encoding="utf-8")
    assert os.access(START, os.X_OK)


@pytest.mark.skipif(
    not Path("/usr/sbin/sshd").exists() or os.geteuid() != 0, reason="needs sshd, and root as in the image"
)
def test_the_start_up_lets_the_owner_of_the_key_in_and_nobody_else(tmp_path: Path) -> None:
    key, other, port = make_key(tmp_path / "client"), make_key(tmp_path / "other"), free_port()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_KEY_FOLDER": str(tmp_path / "keys"),
        "SSH_PORT": str(port), "PUBLIC_KEY": key.with_suffix(".pub").read_text().strip(),
        "RUNPOD_POD_ID": "abc123", "RUNPOD_API_KEY": "hidden",
    }  # fmt: skip
    # A home under /tmp, which everybody may write to, is one that sshd distrusts.
    command = ["bash", START, "-o", "ListenAddress=127.0.0.1", "-o", "StrictModes=no"]
    log = tmp_path / "log"
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as server:
        try:
            until(lambda: "Server listening" in log.read_text(), "sshd listens")
            assert _asked(key, port, tmp_path, "echo $RUNPOD_POD_ID${RUNPOD_API_KEY:-}") == (0, "abc123\n")
            assert _asked(other, port, tmp_path, "true")[0] == 255
            assert server.poll() is None
        finally:
            server.terminate()
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "keys" / "ssh_host_ed25519_key.pub"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert fingerprint in log.read_text()


def _asked(key: Path, port: int, folder: Path, command: str) -> tuple[int, str]:
    options = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new",
               f"UserKnownHostsFile={folder / 'known'}")  # fmt: skip
    words = ["ssh", "-F", "/dev/null", "-i", str(key), "-p", str(port)]
    words += [part for option in options for part in ("-o", option)]
    done = subprocess.run(
        [*words, f"{getpass.getuser()}@127.0.0.1", command], capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode, done.stdout
