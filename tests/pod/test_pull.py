"""What comes back is what was there: verified by hash, resumed after a break, kept inside the target."""

import io
import json
import os
import shutil
import signal
import tarfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cai_bootstrap.errors import LockedError, UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.pod import pull as pulling
from cai_bootstrap.pod.errors import PodError
from cai_bootstrap.pod.onpod.state import Control
from cai_bootstrap.pod.settings import load_settings
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.lock import hold

from .loopback import Pod, until


@pytest.fixture
def done(ready: Pod) -> Pod:
    """A pod whose job has ended, its results there."""
    for name, content in {
        "results/run.json": b'{"verdict": "passed", "steps": {"train": {"status": "done", "seconds": 12.5}}}',
        "results/name with 'quotes', $HOME and spaces\n.json": b"{}",
        "checkpoints/stage1/run/adapter.bin": bytes(range(256)) * 4096,
        "data/stage1/preference_pairs.jsonl": b'{"prompt": "p"}\n' * 50,
        "logs/a.jsonl": b"",
        "secret elsewhere.txt": b"not fetched",
    }.items():
        (ready.base / name).parent.mkdir(parents=True, exist_ok=True)
        (ready.base / name).write_bytes(content)
    ready.write(job=["/bin/sh", "-c", "exit 0"])
    ready.cai("run")
    until(lambda: (ready.job_folder() / "exit.json").exists(), "the job has ended")
    return ready


def files(folder: Path) -> dict[str, str]:
    """Every file of the fetched folders, with its hash."""
    return {
        os.path.relpath(Path(top) / name, folder): sha256_file(Path(top) / name)
        for part in pulling.FOLDERS
        for top, _, names in os.walk(folder / part)
        for name in names
        if name != pulling.RECORD
    }


def test_pull_brings_everything_back_verified_and_deletes_nothing(done: Pod) -> None:
    before = files(done.base)
    found = done.json("pull", "--into", str(done.target))
    assert found["verified"]
    assert found["fetched"] == len(before) == 5
    assert files(done.target) == before == files(done.base)
    assert not (done.target / ".cai-pull").exists()
    assert not (done.target / "secret elsewhere.txt").exists()
    assert done.json("status")["fetched"]
    assert done.json("pull", "--into", str(done.target))["unchanged"] == 5


def test_a_fetched_file_corrupted_at_equal_size_and_time_is_found_and_fetched_again(done: Pod) -> None:
    done.cai("pull", "--into", str(done.target))
    victim = done.target / "checkpoints/stage1/run/adapter.bin"
    kept = victim.stat()
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert victim.stat().st_size == kept.st_size
    found = done.json("pull", "--into", str(done.target))
    assert found["fetched"] == 1
    assert found["verified"]
    assert files(done.target) == files(done.base)


def test_a_file_corrupted_on_the_way_is_fetched_again_and_never_reaches_its_place(done: Pod) -> None:
    transfer, spoilt = pulling._transfer, []

    def spoil(remote: object, staging: Path, names: list[str], *, again: bool, by_rsync: bool) -> None:
        transfer(remote, staging, names, again=again, by_rsync=by_rsync)  # type: ignore[arg-type]
        if not spoilt:
            victim = staging / "checkpoints/stage1/run/adapter.bin"
            kept = victim.stat()
            victim.write_bytes(b"\xff" + victim.read_bytes()[1:])
            os.utime(victim, ns=(kept.st_atime_ns, kept.st_mtime_ns))
            spoilt.append(victim)

    with mock.patch.object(pulling, "_transfer", spoil):
        found = done.json("pull", "--into", str(done.target))
    assert spoilt
    assert found["fetched_again"] == ["checkpoints/stage1/run/adapter.bin"]
    assert files(done.target) == files(done.base)


def test_a_file_that_stays_wrong_is_reported_and_not_called_fetched(done: Pod) -> None:
    def spoil(_: object, staging: Path, names: list[str], **__: object) -> None:
        for name in names:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(b"wrong")

    with mock.patch.object(pulling, "_transfer", spoil):
        said = done.cai("pull", "--into", str(done.target), code=1)
    assert "STILL DIFFERENT" in said.stdout
    assert files(done.target) == {}
    assert not done.json("status")["fetched"]


def test_a_pull_that_was_killed_is_resumed(done: Pod) -> None:
    big = done.base / "checkpoints/stage1/run/big.bin"
    big.write_bytes(os.urandom(1 << 20) * 24)
    pulling_now = done.start("pull", "--into", str(done.target))
    staging = done.target / ".cai-pull"
    until(lambda: any(path.is_file() for path in staging.rglob("*")), "something has come")
    pulling_now.send_signal(signal.SIGKILL)
    pulling_now.communicate()
    for name in files(done.target):
        assert sha256_file(done.target / name) == sha256_file(done.base / name)
    found = done.json("pull", "--into", str(done.target))
    assert found["verified"]
    assert files(done.target) == files(done.base)


def test_symlinks_on_the_pod_are_named_and_not_followed(done: Pod) -> None:
    (done.base / "results" / "passwd").symlink_to("/etc/passwd")
    (done.base / "logs" / "etc").symlink_to("/etc")
    found = done.json("pull", "--into", str(done.target))
    assert sorted(found["left_out"]) == ["logs/etc", "results/passwd"]
    assert not os.path.lexists(done.target / "results" / "passwd")
    assert not os.path.lexists(done.target / "logs" / "etc")


def test_a_symlink_in_the_target_is_not_followed(done: Pod, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    done.target.mkdir()
    (done.target / "checkpoints").symlink_to(outside)
    assert "symlink" in done.cai("pull", "--into", str(done.target), code=1).stderr
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", [
    "../escape", "/etc/passwd", "results/../../escape", "results/./x", "elsewhere/x", "results", "", "results//x", 7,
    None, "results/x\0y", ".cai-pull/x",
])  # fmt: skip
def test_a_path_that_would_leave_the_target_is_refused(name: object) -> None:
    with pytest.raises(PodError, match="not inside"):
        pulling.safe_name(name)


def test_a_lying_pod_gets_nothing_written_outside(done: Pod, tmp_path: Path) -> None:
    from cai_bootstrap.pod.ssh import Remote

    call = Remote.call

    def lie(self: Remote, verb: str, *arguments: str, **more: object) -> object:
        answer = call(self, verb, *arguments, **more)  # type: ignore[arg-type]
        if verb == "manifest":
            answer["files"].append({"path": "results/../../../owned", "size": 1, "sha256": "0" * 64})
        return answer

    with mock.patch.object(Remote, "call", lie):
        assert "not inside" in done.cai("pull", "--into", str(done.target), code=1).stderr
    assert files(done.target) == {}
    assert not (tmp_path / "owned").exists()


def test_a_tar_stream_brings_only_what_was_asked_for(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as members:
        for name in ("results/good", "../evil", "/tmp/evil", "results/unasked"):
            member = tarfile.TarInfo(name)
            member.size = 4
            members.addfile(member, io.BytesIO(b"text"))
        link = tarfile.TarInfo("results/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        members.addfile(link)
    target = tmp_path / "t"
    target.mkdir()
    pulling.unpack_expected(archive, target, ["results/good", "results/link"])
    assert [str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()] == ["results/good"]


def test_without_rsync_here_a_tar_stream_brings_the_same(done: Pod) -> None:
    which = shutil.which
    with mock.patch.object(pulling.shutil, "which", lambda name: None if name == "rsync" else which(name)):
        assert done.json("pull", "--into", str(done.target))["verified"]
    assert files(done.target) == files(done.base)


def test_files_of_a_running_job_are_pulled_without_calling_it_fetched(ready: Pod) -> None:
    ready.cai("run", "--", "--lines", "300", "--pause", "0.1")
    until(lambda: (ready.base / "logs/stand-in.jsonl").exists(), "the job has begun")
    ready.cai("pull", "--into", str(ready.target), code=None)
    assert not ready.json("status")["fetched"]
    assert (ready.job_folder()).exists()


def test_the_pulled_runs_steps_come_into_the_ledger(done: Pod) -> None:
    done.cai("pull", "--into", str(done.target))
    rental = json.loads((done.home / "state" / "pods.json").read_text())["rentals"][0]
    assert rental["steps"] == {"train": 12.5}
    assert "12 s" in done.cai("cost").stdout


def test_a_run_that_was_made_here_is_not_replaced(done: Pod) -> None:
    mine = done.target / "data" / "stage1" / "preference_pairs.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    said = done.cai("pull", "--into", str(done.target), code=2).stderr
    assert "holds a run that was made here" in said
    assert "--into" in said
    assert mine.read_text() == "mine"
    assert list(files(done.target)) == ["data/stage1/preference_pairs.jsonl"]


def test_what_was_pulled_from_another_pod_is_not_replaced(done: Pod) -> None:
    done.cai("pull", "--into", str(done.target))
    before = files(done.target)
    (done.base / "results/run.json").write_text("{}")
    done.write(name="other")
    assert "from the pod 'loop'" in done.cai("pull", "--into", str(done.target), code=2).stderr
    assert files(done.target) == before


def test_what_was_pulled_from_another_rental_of_the_same_name_is_not_replaced(done: Pod) -> None:
    done.cai("pull", "--into", str(done.target))
    before, record = files(done.target), done.target / "logs" / pulling.RECORD
    id_file, known = done.base / ".pod" / "id", record.read_text()
    (done.base / "results/run.json").write_text("{}")
    mine = id_file.read_text()
    id_file.unlink()  # another rental has another volume
    said = done.cai("pull", "--into", str(done.target), code=2).stderr
    assert "an earlier rental, also named 'loop'" in said
    assert "--into" in said
    assert files(done.target) == before
    assert record.read_text() == known
    assert id_file.read_text() != mine
    id_file.write_text(mine)
    assert done.json("pull", "--into", str(done.target))["fetched"] == 1


def test_a_record_from_before_pods_had_an_id_is_known_by_its_name(done: Pod) -> None:
    done.cai("pull", "--into", str(done.target))
    record = done.target / "logs" / pulling.RECORD
    written = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in written.items() if key != "pod_id"}))
    assert done.json("pull", "--into", str(done.target))["verified"]
    assert json.loads(record.read_text()) == written
    assert written["pod_id"]


def test_a_pod_has_one_id_that_is_its_own(tmp_path: Path) -> None:
    pods = [Control(str(tmp_path / name)) for name in ("a", "b")]
    assert pods[0].pod_id() is None  # no folder to keep it in
    for pod in pods:
        pod.create()
    ids = [pod.pod_id() for pod in pods]
    assert None not in ids
    assert ids[0] != ids[1]
    assert [Control(str(pod.base)).pod_id() for pod in pods] == ids


def test_a_target_is_checked_without_being_made(done: Pod) -> None:
    pulling.check_target(done.target, load_settings(done.path))
    assert not done.target.exists()
    RunFolder.at(done.target).create()  # empty folders hold no run
    pulling.check_target(done.target, load_settings(done.path))
    (done.target / "results" / "baseline_assessment.json").write_text("{}")
    with pytest.raises(UsageError, match="--into"):
        pulling.check_target(done.target, load_settings(done.path))


def test_a_run_that_goes_on_in_the_target_is_not_written_into(done: Pod) -> None:
    done.target.mkdir()
    with hold(RunFolder.at(done.target), "cai run here"), mock.patch.object(pulling, "PATIENCE_SECONDS", 0.1):
        assert "held by cai run here" in done.cai("pull", "--into", str(done.target), code=75).stderr
    assert files(done.target) == {}


def test_a_target_held_for_a_moment_is_waited_for_before_a_pull_and_not_before_a_job(done: Pod) -> None:
    workspace = RunFolder.at(done.target)
    workspace.create()
    held, ended = threading.Event(), threading.Event()

    def work() -> None:
        with hold(workspace, "cai run here"):
            held.set()
            ended.wait(30)

    def hold_soon(*arguments: Any, **more: Any) -> Any:
        threading.Timer(0.3, ended.set).start()  # long after a pull without patience would have failed
        return hold(*arguments, **more)

    threading.Thread(target=work, daemon=True).start()
    assert held.wait(30)
    with pytest.raises(LockedError, match="cai run here"):
        pulling.check_target(done.target, load_settings(done.path))
    with mock.patch.object(pulling, "hold", hold_soon):
        assert done.json("pull", "--into", str(done.target))["verified"]


def test_a_full_disk_here_is_named(done: Pod, tmp_path: Path) -> None:
    from .loopback import mounted_small_disk

    (done.base / "checkpoints/stage1/run/big.bin").write_bytes(os.urandom(2_000_000))
    with mounted_small_disk(tmp_path / "small", "1m") as disk:
        assert "no space left here" in done.cai("pull", "--into", str(disk), code=1).stderr
    shutil.rmtree(tmp_path / "small")
