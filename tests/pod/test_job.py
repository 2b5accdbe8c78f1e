"""The detached job: one at a time, outliving every connection, its end told truly."""

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from .conftest import make_pod
from .loopback import CuttingProxy, Pod, Sshd, until


def running(pod: Pod) -> bool:
    return bool(pod.json("status")["state"] == "running")


@pytest.mark.slow
def test_watch_loses_and_doubles_no_line_when_the_connection_is_cut_twenty_times(ready: Pod, shared_sshd: Sshd) -> None:
    pod = ready
    chance = random.Random(7)
    proxy = CuttingProxy(shared_sshd.port, cut_after=lambda: 5000 + chance.randrange(2000), cuts=20)
    pod.write(port=proxy.port)
    try:
        pod.cai("run", "--", "--lines", "400", "--pause", "0.02", "--exit", "7")
        proxy.arming.set()
        done = pod.cai("watch", "--json", code=7)
    finally:
        proxy.close()
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    output = [frame["t"] for frame in frames if frame["k"] == "out"]
    progress = [json.loads(frame["t"]) for frame in frames if frame["k"] == "ev"]
    assert proxy.made == 20
    assert output == [*(f"line {i}" for i in range(400)), "TOKEN_LENGTH 0"]
    assert [event["done"] for event in progress if event["event"] == "progress"] == list(range(1, 401))
    assert frames[-1]["k"] == "end"


@pytest.mark.slow
def test_the_job_lives_on_when_the_login_session_is_killed(tmp_path: Path, own_sshd: Sshd, checkout: Path) -> None:
    pod = make_pod(tmp_path / "p", own_sshd, checkout)
    pod.cai("push", "--source", str(checkout))
    pod.cai("run", "--", "--lines", "60", "--pause", "0.1")
    watching = pod.start("watch")
    until(own_sshd.sessions, "a session is open")
    for session in own_sshd.sessions():
        os.kill(session, signal.SIGKILL)
    watching.kill()
    watching.communicate()
    assert running(pod)
    assert pod.cai("stop", "--job-only", "--yes").returncode == 0
    assert pod.json("status")["exit_code"] == 143


@pytest.mark.slow
def test_six_runs_at_once_start_one_job(ready: Pod) -> None:
    started = [ready.start("run", "--", "--lines", "40", "--pause", "0.2") for _ in range(6)]
    ends = [(process.communicate(timeout=60), process.returncode) for process in started]
    codes = sorted(code for _, code in ends)
    assert codes == [0, 75, 75, 75, 75, 75], ends
    assert len(list((ready.base / ".pod" / "jobs").iterdir())) == 1


def test_status_says_lost_when_the_supervisor_was_killed_and_the_job_ends_with_it(ready: Pod) -> None:
    ready.cai("run", "--", "--lines", "1000", "--pause", "0.1")
    folder = ready.job_folder()
    until(lambda: "line 0" in (folder / "output.log").read_text(), "the job has begun")
    os.kill(json.loads((folder / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    found = until(lambda: (now := ready.json("status"))["state"] == "lost" and not now["leftovers"] and now, "lost")
    assert "exit_code" not in found
    assert (ready.base / "checkpoints/stage1/run/half.bin").read_bytes() == b"kept"
    shown = ready.cai("watch", code=1)
    assert "lost" in shown.stderr
    assert ready.json("run", "--json", "--", "--lines", "1")["started"]


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--exit", "3"], 3, "exit code 3"),
    (["--exit", "124"], 124, "a step reached its time limit"),
    (["--kill-self"], 137, "SIGKILL"),
])  # fmt: skip
def test_a_failing_job_shows_its_exit_code_and_last_lines(ready: Pod, words: list[str], code: int, said: str) -> None:
    ready.cai("run", "--", "--lines", "5", *words)
    done = ready.cai("watch", code=code)
    assert said in done.stderr
    status = ready.cai("status")
    assert f"exit code {code}" in status.stdout
    assert "line 4" in status.stderr


def test_a_job_that_does_not_exist_says_so(ready: Pod) -> None:
    ready.write(job=["/no/such/program"])
    assert "could not be started" in ready.cai("run", code=1).stderr


def test_a_job_that_ignores_the_request_to_stop_is_killed(ready: Pod) -> None:
    ready.write(
        job=["/bin/sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.2; done"], stop={"job_grace_seconds": 1}
    )
    ready.cai("run")
    until(lambda: "here" in ready.cai("logs").stdout, "the job has set its trap")
    ready.cai("stop", "--job-only", "--yes")
    assert ready.json("status")["exit_code"] == 137


def test_a_new_run_ends_what_a_lost_job_left_running(ready: Pod) -> None:
    ready.write(
        job=["/bin/sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.2; done"], stop={"job_grace_seconds": 1}
    )
    ready.cai("run")
    folder = ready.job_folder()
    until(lambda: "here" in (folder / "output.log").read_text(), "the job has set its trap")
    leader = json.loads((folder / "job.json").read_text())["pid"]
    os.kill(json.loads((folder / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: ready.json("status")["state"] == "lost", "lost")
    ready.write(job=["/bin/sh", "-c", "echo second"])
    ready.cai("run")
    stat = Path(f"/proc/{leader}/stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_logs_and_status_speak_of_the_job_without_a_guess(pod: Pod) -> None:
    assert pod.json("status")["state"] == "none"
    assert "no job was started" in pod.cai("watch", code=1).stderr
    pod.cai("push", "--source", str(pod.source))
    pod.cai("run", "--", "--lines", "5")
    pod.cai("watch")
    assert pod.json("logs", "-n", "2")["lines"] == ["line 4", "TOKEN_LENGTH 0"]
    assert pod.json("status")["exit_code"] == 0


def test_terminal_escapes_of_the_job_reach_no_terminal(ready: Pod) -> None:
    ready.write(job=["/bin/sh", "-c", r"printf '\033]0;owned\007\033[31mred\n'"])
    ready.cai("run")
    done = ready.cai("watch")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x1b" not in ready.cai("logs").stdout


def test_output_longer_than_a_pipe_arrives_whole(ready: Pod) -> None:
    ready.write(job=["/bin/sh", "-c", "i=0; while test $i -lt 3000; do echo $i-$(printf %0200d $i); i=$((i+1)); done"])
    ready.cai("run")
    done = ready.cai("watch")
    assert [line.split("-")[0] for line in done.stdout.splitlines() if "-" in line] == [str(i) for i in range(3000)]


def test_python_3_8_runs_what_is_sent_to_the_pod() -> None:
    import ast

    package = Path(__file__).parents[2] / "src/cai_bootstrap/pod/onpod"
    for path in package.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for path in package.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else
                     [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }  # fmt: skip
    import sys

    assert imported <= set(sys.stdlib_module_names) - {"tomllib", "zoneinfo", "graphlib"}


def test_the_oom_killers_work_is_named(pod: Pod, tmp_path: Path) -> None:
    """The kernel's counter of this memory group stands in: the job raises it, then dies as the killer leaves it."""
    from cai_bootstrap.pod.shipment import shipment

    counter = tmp_path / "memory.events"
    counter.write_text("oom 0\noom_kill 2\n")
    file = tmp_path / "file.pyz"
    file.write_bytes(shipment())
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from onpod import state, main\n"
        "state._oom_counters = lambda: [Path(sys.argv[2])]\n"
        "sys.exit(main.main(['start', sys.argv[3]]))"
    )
    spec = {
        "slot": "run",
        "argv": ["/bin/sh", "-c", f"printf 'oom_kill 3\\n' > {counter}; kill -9 $$"],
        "cwd": "/",
        "env": {},
    }
    subprocess.run(
        [pod.config["python"], "-c", script, str(file), str(counter), str(pod.base)],
        input=json.dumps(spec), text=True, check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    until(lambda: (pod.job_folder() / "exit.json").exists(), "the job has ended")
    found = pod.cai("status").stdout
    assert "exit code 137" in found
    assert "OOM killer struck" in found


def test_interrupting_watch_leaves_the_job_running(ready: Pod) -> None:
    ready.cai("run", "--", "--lines", "200", "--pause", "0.1")
    watching = ready.start("watch")
    assert watching.stdout is not None
    seen = threading.Thread(target=watching.stdout.readline)
    seen.start()
    seen.join(20)
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert running(ready)


def test_on_a_terminal_watch_shows_step_speed_gpu_and_money(ready: Pod) -> None:
    ready.write(budget=10)
    ready.cai("run", "--", "--lines", "5000", "--pause", "0.1")
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        ready.command("watch"),
        env=ready.env() | {"TERM": "xterm", "COLUMNS": "120"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    wanted = ["generate", "100 tokens/s", "left", "GiB free", "$ so far", "budget 10.00 $", "line 5"]
    shown = ""

    def all_shown() -> bool:
        nonlocal shown
        shown += os.read(ours, 4096).decode(errors="replace")
        return all(word in shown for word in wanted)

    until(all_shown, "everything is on the screen")
    watching.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while os.read(ours, 4096):
            continue
    os.close(ours)
    assert watching.wait(timeout=20) == 130


def test_a_job_that_ends_while_its_files_are_hashed_counts_as_running_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cai_bootstrap.pod.onpod import main

    now = {"state": "running", "job": "j1"}

    def manifest(_: Path) -> dict[str, list[str]]:
        now["state"] = "finished"
        return {"files": []}

    monkeypatch.setattr(main.files, "manifest", manifest)
    monkeypatch.setattr(main.jobs, "status", lambda _: dict(now))
    assert main._verb("manifest", main.Control(str(tmp_path)), []) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [], "job": "j1", "state": "running"}
