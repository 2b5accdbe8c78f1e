"""Code gets to the pod whole and alone: no secrets, no results, exactly the commit that was asked for."""

import os
import shutil
from pathlib import Path

import pytest

from cai_bootstrap.pod.push import pushed_files

from .conftest import make_pod
from .loopback import Pod, Sshd, git, mounted_small_disk, stand_in_checkout

SECRETS = {
    ".env": "TOKEN=abc", "sub/.env.local": "X=1", "prod.env": "X=1", "id_rsa": "key", "sub/server.pem": "pem",
    "a.key": "k",
    "deploy_ed25519": "key", ".netrc": "machine", "credentials.json": "{}", "pod.yaml": "host: x",
    "innocent.txt": "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n",
}  # fmt: skip
RESULTS = {"results/a.json": "{}", "logs/l.jsonl": "", "checkpoints/x/adapter.bin": "w", "data/stage1/p.jsonl": "",
           ".venv/bin/python": "", "src/__pycache__/m.pyc": "", "cai-work/results/r.json": ""}  # fmt: skip
WANTED = {"src/job.py", "pyproject.toml", "src/new module.py", "src/data/facts.json", "it's $HOME.txt"}


@pytest.fixture
def full_checkout(tmp_path: Path) -> Path:
    """A checkout with everything in it that must and must not travel."""
    folder = stand_in_checkout(tmp_path / "full")
    for name, text in {**SECRETS, **RESULTS, "src/new module.py": "x = 1", "src/data/facts.json": "{}",
                       "it's $HOME.txt": "t"}.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "src" / "link").symlink_to("/etc/passwd")
    return folder


def there(pod: Pod) -> set[str]:
    """The files of the code folder on the pod."""
    code = pod.base / "code"
    return {os.path.relpath(Path(top) / name, code) for top, _, names in os.walk(code) for name in names}


@pytest.mark.parametrize("via", ["rsync", "tar"])
@pytest.mark.parametrize("versioned", [True, False])
def test_push_sends_the_code_and_never_secrets_or_results(
    pod: Pod, full_checkout: Path, via: str, versioned: bool
) -> None:
    if not versioned:
        shutil.rmtree(full_checkout / ".git")
    found = pod.json("push", "--via", via, "--source", str(full_checkout))
    assert there(pod) == WANTED
    assert found["files"] == len(WANTED)
    assert (pod.base / "code/src/job.py").read_bytes() == (full_checkout / "src/job.py").read_bytes()


def test_even_a_tracked_secret_does_not_travel_by_rsync(pod: Pod, full_checkout: Path) -> None:
    git(full_checkout, "add", "-f", ".env", "sub/server.pem")
    pod.cai("push", "--via", "rsync", "--source", str(full_checkout))
    assert there(pod) == WANTED


def test_every_tracked_file_of_this_very_checkout_travels() -> None:
    checkout = Path(__file__).parents[2]
    tracked = {name for name in git(checkout, "ls-files").splitlines() if (checkout / name).is_file()}
    assert tracked - set(pushed_files(checkout)) == set()


@pytest.mark.parametrize("via", ["rsync", "tar"])
def test_pushing_again_removes_what_is_gone_and_changes_what_changed(pod: Pod, tmp_path: Path, via: str) -> None:
    source = stand_in_checkout(tmp_path / "s")
    (source / "src" / "old.py").write_text("old = 1")
    first = pod.json("push", "--via", via, "--source", str(source))
    (source / "src" / "old.py").unlink()
    (source / "src" / "job.py").write_text("changed")
    second = pod.json("push", "--via", via, "--source", str(source))
    assert there(pod) == {"src/job.py", "pyproject.toml"}
    assert (pod.base / "code/src/job.py").read_text() == "changed"
    assert first["sha256"] != second["sha256"]
    assert second["dirty"]


def test_git_puts_exactly_the_commit_there(pod: Pod, tmp_path: Path) -> None:
    source = stand_in_checkout(tmp_path / "s")
    pod.cai("push", "--via", "rsync", "--source", str(source))
    (pod.base / "code" / "stray.py").write_text("left over")
    (source / "src" / "job.py").write_text("committed")
    git(source, "commit", "-qam", "second")
    found = pod.json("push", "--via", "git", "--source", str(source))
    assert found["commit"] == git(source, "rev-parse", "HEAD").strip()
    assert there(pod) == {"src/job.py", "pyproject.toml"}
    assert (pod.base / "code/src/job.py").read_text() == "committed"
    git(source, "checkout", "-q", "HEAD~1")
    pod.cai("push", "--via", "git", "--source", str(source))
    assert "stand-in" in (pod.base / "code/src/job.py").read_text()


@pytest.mark.parametrize("change", ["src/job.py", "src/untracked.py"])
def test_git_refuses_a_dirty_tree(pod: Pod, tmp_path: Path, change: str) -> None:
    source = stand_in_checkout(tmp_path / "s")
    (source / change).write_text("dirty")
    assert "in no commit" in pod.cai("push", "--via", "git", "--source", str(source), code=2).stderr
    assert not (pod.base / "code").exists()


@pytest.mark.slow
def test_auto_takes_rsync_then_git_then_tar(own_sshd: Sshd, tmp_path: Path, checkout: Path) -> None:
    """Each time, the pod has one tool less."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "git", "cat", "mkdir", "mv", "rm", "python3", "test", "git-receive-pack", "rsync"):
        (tools / name).symlink_to(str(shutil.which(name)))
    own_sshd.extra = f"SetEnv HOME={own_sshd.folder} PATH={tools}\n"
    own_sshd.restart()
    pod = make_pod(tmp_path / "p", own_sshd, checkout)
    assert pod.json("push", "--source", str(checkout))["via"] == "rsync"
    (tools / "rsync").unlink()
    assert pod.json("push", "--source", str(checkout))["via"] == "git"
    (tools / "git").unlink()
    assert pod.json("push", "--source", str(checkout))["via"] == "tar"
    assert there(pod) == {"src/job.py", "pyproject.toml"}
    pod.cai("run", "--", "--lines", "1")
    pod.cai("watch")
    assert pod.json("pull", "--into", str(pod.target))["verified"]


def test_push_to_a_full_disk_says_so_and_succeeds_after_room_was_made(pod: Pod, tmp_path: Path) -> None:
    source = stand_in_checkout(tmp_path / "s")
    (source / "big.txt").write_text("x" * 3_000_000)
    with mounted_small_disk(tmp_path / "disk", "1m") as disk:
        pod.write(remote_base=str(disk / "base"))
        assert "no space left" in pod.cai("push", "--source", str(source), code=1).stderr
        (source / "big.txt").write_text("x")
        (disk / "base" / "code" / "big.txt").unlink()
        pod.cai("push", "--source", str(source))


def test_a_job_that_fills_the_pods_disk_ends_with_its_own_exit_code(ready: Pod, tmp_path: Path) -> None:
    with mounted_small_disk(tmp_path / "disk", "2m") as disk:
        shutil.copytree(ready.base, disk / "base")
        ready.base = disk / "base"
        ready.write(remote_base=str(ready.base))
        ready.cai("run", "--", "--lines", "3", "--write-lot", "9000000")
        done = ready.cai("watch", code=1)
        assert "No space left" in done.stdout + done.stderr
        assert ready.json("status")["state"] == "finished", (ready.job_folder() / "supervisor.log").read_text()
        assert "space" in ready.cai("run", code=1).stderr
        ready.end_processes()


def test_the_code_of_a_running_job_is_not_changed(ready: Pod) -> None:
    ready.cai("run", "--", "--lines", "300", "--pause", "0.1")
    assert "running job" in ready.cai("push", "--source", str(ready.source), code=75).stderr


@pytest.mark.slow
def test_setup_makes_a_venv_once_and_again_only_when_its_needs_change(pod: Pod, tmp_path: Path) -> None:
    source = stand_in_checkout(tmp_path / "s")
    backend = Path(__file__).with_name("editable_backend.py.txt").read_text()
    (source / "backend.py").write_text(backend)
    package = source / "src" / "cai_bootstrap"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys; print('prepare was called with', sys.argv[1:])")
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'cai-bootstrap'\nversion = '1'\n"
    )
    pod.write(python=None, preset="quick-test", setup={"commands": None, "system_site_packages": False, "extras": []})
    pod.cai("push", "--source", str(source))
    assert pod.json("setup")["done"]
    log = (pod.job_folder() / "output.log").read_text()
    assert f"prepare was called with ['prepare', '--base-dir', {str(pod.base)!r}, '--preset', 'quick-test']" in log
    assert not pod.json("setup")["done"]
    (source / "pyproject.toml").write_text((source / "pyproject.toml").read_text() + "description = 'changed'\n")
    pod.cai("push", "--source", str(source))
    assert pod.json("setup")["done"]


def test_a_failing_setup_shows_why_and_is_not_taken_for_done(pod: Pod) -> None:
    pod.cai("push", "--source", str(pod.source))
    pod.write(setup={"commands": ["echo pip could not find it >&2; exit 9"]})
    for _ in range(2):
        said = pod.cai("setup", code=1).stderr
        assert "exit code 9" in said
        assert "pip could not find it" in said
