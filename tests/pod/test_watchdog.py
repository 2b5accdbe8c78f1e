"""The watchdog on the pod keeps deadline and budget and stops the pod, with nobody connected."""

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from cai_bootstrap.pod.onpod import state, watchdog

from .loopback import Pod, RunPodStandIn, until

LONG_JOB = ("run", "--", "--lines", "2000", "--pause", "0.1")


def spend(pod: Pod, dollars: float, **budget: float) -> None:
    """Make the rental look as if so many dollars were spent."""
    pod.cai("status")
    path = pod.home / "state" / "pods.json"
    ledger = json.loads(path.read_text())
    ledger["rentals"][0]["started"] = time.time() - dollars / pod.config["hourly_price"] * 3600
    path.write_text(json.dumps(ledger))
    pod.write(**budget)


def let_time_pass(pod: Pod, hours: float) -> None:
    """Make the watchdog's rental as old as if so many more hours had gone by."""
    path = pod.base / ".pod" / "watchdog.json"
    config = json.loads(path.read_text())
    config["started_at"] -= hours * 3600
    if config["deadline_at"] is not None:
        config["deadline_at"] -= hours * 3600
    path.with_suffix(".new").write_text(json.dumps(config))
    path.with_suffix(".new").rename(path)


def begun(pod: Pod) -> bool:
    """Whether the job runs and has set its handlers."""
    try:
        return "line 0" in (pod.job_folder() / "output.log").read_text()
    except FileNotFoundError:
        return False


def run_long(pod: Pod, **limits: float) -> None:
    """Start a long job within its limits, and wait until it is under way."""
    pod.write(**limits)
    pod.cai(*LONG_JOB)
    until(lambda: begun(pod), "the job has begun")


def with_stop_command(pod: Pod) -> Path:
    stopped = pod.home / "stopped"
    pod.write(stop={"command": f"touch '{stopped}'"})
    return stopped


def test_the_budget_ends_the_job_cleanly_and_stops_the_pod_with_nobody_connected(ready: Pod) -> None:
    stopped = with_stop_command(ready)
    run_long(ready, budget=10)
    let_time_pass(ready, 10)
    until(stopped.exists, "the pod was stopped")
    assert json.loads((ready.job_folder() / "exit.json").read_text())["exit_code"] == 143
    assert json.loads((ready.job_folder() / "exit.json").read_text())["reason"] == "budget"
    assert (ready.base / "checkpoints/stage1/run/half.bin").read_bytes() == b"kept"
    acts = until(lambda: "stop_command" in ready.acts() and ready.acts(), "the act is recorded")
    assert acts == ["armed", "warning", "budget", "not_fetched", "stopping", "stop_command"]


@pytest.mark.slow
def test_the_deadline_ends_the_job_and_stops_the_pod_with_the_client_gone(ready: Pod) -> None:
    stopped = with_stop_command(ready)
    run_long(ready, deadline_hours=2)
    client = ready.start("watch")
    until(lambda: (ready.base / ".pod" / "client").exists(), "the client is connected")
    client.kill()
    client.communicate()
    let_time_pass(ready, 2)
    until(stopped.exists, "the pod was stopped")
    assert json.loads((ready.job_folder() / "exit.json").read_text())["reason"] == "deadline"
    assert "deadline" in ready.acts()


@pytest.mark.usefixtures("rented")
def test_the_watchdog_stops_the_pod_through_the_provider(ready: Pod, runpod: RunPodStandIn) -> None:
    runpod.pod["startedAt"] = None
    runpod.faults = [("POST", 409, b"{}", {}), ("POST", 500, b"oops", {})]
    run_long(ready, budget=10)
    let_time_pass(ready, 10)
    until(lambda: runpod.pod["status"] == "EXITED", "the provider stopped the pod")
    until(lambda: "stopped" in ready.acts(), "the watchdog has seen it")


@pytest.mark.usefixtures("rented")
def test_a_provider_that_refuses_leaves_the_stop_command(ready: Pod, runpod: RunPodStandIn) -> None:
    stopped = with_stop_command(ready)
    runpod.pod["startedAt"] = None
    runpod.key = "another"
    run_long(ready, budget=10)
    let_time_pass(ready, 10)
    until(stopped.exists, "the stop command ran")
    assert "problem" in ready.acts()
    assert runpod.pod["status"] == "RUNNING"


def test_done_and_fetched_stops_the_pod(ready: Pod) -> None:
    stopped = with_stop_command(ready)
    ready.write(stop={"fetched_minutes": 0.001})
    ready.cai("run", "--", "--lines", "2")
    ready.cai("watch")
    ready.cai("pull", "--into", str(ready.target))
    until(stopped.exists, "the pod was stopped")
    assert "fetched" in (ready.base / ".pod/watchdog.jsonl").read_text()


def test_who_comes_back_to_a_pod_whose_job_was_fetched_long_ago_finds_it_running(ready: Pod) -> None:
    ready.cai("run", "--", "--lines", "2")
    ready.cai("watch")
    ready.cai("pull", "--into", str(ready.target))
    os.kill(json.loads((ready.base / ".pod/watchdog.pid.json").read_text())["pid"], signal.SIGKILL)
    fetched = ready.base / ".pod/fetched.json"
    fetched.write_text(json.dumps({**json.loads(fetched.read_text()), "time": time.time() - 86400}))
    stopped = with_stop_command(ready)
    ready.cai("deploy", "--yes", "--source", str(ready.source), "--into", str(ready.target), "--", "--lines", "20")
    assert not stopped.exists()
    assert "stopping" not in ready.acts()


@pytest.mark.usefixtures("rented")
def test_a_shell_without_the_key_takes_neither_the_watchdogs_key_nor_the_budget_away(
    ready: Pod, runpod: RunPodStandIn
) -> None:
    runpod.pod["startedAt"] = None
    ready.cai("run", "--budget", "10", "--", *LONG_JOB[2:])
    until(lambda: begun(ready), "the job has begun")
    del ready.environment["RUNPOD_API_KEY"]
    ready.cai("run", code=75)
    assert ready.json("status")["watchdog"]["can_stop"]
    assert ready.json("status")["watchdog"]["money"]["budget"] == 10
    let_time_pass(ready, 10)
    until(lambda: runpod.pod["status"] == "EXITED", "the provider stopped the pod")


def test_a_pod_that_nobody_can_stop_is_named_when_a_job_is_deployed(ready: Pod) -> None:
    done = ready.cai("deploy", "--yes", "--source", str(ready.source), "--into", str(ready.target))
    assert "nobody can stop this pod" in done.stderr


def test_a_stop_command_finds_the_variables_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "environ"
    given.write_bytes(b"PATH=/nowhere\0RUNPOD_POD_ID=abc=1\0")
    monkeypatch.setattr(watchdog, "CONTAINER_ENVIRONMENT", str(given))
    monkeypatch.delenv("RUNPOD_POD_ID", raising=False)
    assert watchdog.run_stop_command(f"test \"$RUNPOD_POD_ID\" = abc=1 && touch '{tmp_path}/done'") == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("job", [["--lines", "2"], ["--lines", "2", "--kill-self"]])
def test_done_for_a_while_stops_the_pod_without_a_pull(ready: Pod, job: list[str]) -> None:
    stopped = with_stop_command(ready)
    ready.write(stop={"idle_minutes": 0.02})
    ready.cai("run", "--", *job)
    until(stopped.exists, "the pod was stopped")
    assert "idle" in (ready.base / ".pod/watchdog.jsonl").read_text()


def test_a_running_job_within_its_limits_is_left_alone(ready: Pod) -> None:
    stopped = with_stop_command(ready)
    ready.write(stop={"idle_minutes": 0.005}, budget=10)
    ready.cai("run", "--", "--lines", "20", "--pause", "0.1")
    ready.cai("watch")
    assert json.loads((ready.job_folder() / "exit.json").read_text()).get("reason") is None
    until(stopped.exists, "the pod was stopped after the job")


def test_without_a_way_to_stop_the_watchdog_ends_the_job_and_says_so(ready: Pod) -> None:
    run_long(ready, budget=10)
    let_time_pass(ready, 10)
    until(lambda: "cannot_stop" in ready.acts(), "the watchdog has given up on stopping")
    assert json.loads((ready.job_folder() / "exit.json").read_text())["exit_code"] == 143
    assert "cannot_stop" in ready.cai("logs", "--watchdog").stdout


@pytest.mark.slow
@pytest.mark.usefixtures("rented")
def test_deploy_reaching_its_budget_warns_ends_pulls_and_stops(ready: Pod, runpod: RunPodStandIn) -> None:
    ready.write(budget=10)
    runpod.pod["startedAt"] = None
    deploying = ready.start(
        "deploy", "--yes", "--source", str(ready.source), "--into", str(ready.target), "--", *LONG_JOB[2:]
    )
    until(lambda: begun(ready), "the job has begun")
    let_time_pass(ready, 4.7)
    until(lambda: "warning" in ready.acts(), "80% are spent")
    let_time_pass(ready, 5.3)
    _, said = deploying.communicate(timeout=60)
    assert deploying.returncode == 143
    assert "WARNING" in said
    assert "ended because of budget" in said
    assert "all verified" in said
    assert "the pod is stopped: the provider says EXITED" in said
    assert (ready.target / "checkpoints/stage1/run/half.bin").read_bytes() == b"kept"
    assert "A RENTED POD" not in said


def test_a_client_enforces_the_budget_where_the_watchdog_was_killed(ready: Pod) -> None:
    import os
    import signal

    run_long(ready, budget=10)
    os.kill(json.loads((ready.base / ".pod/watchdog.pid.json").read_text())["pid"], signal.SIGKILL)
    assert "watchdog: NOT RUNNING" in ready.cai("status").stdout
    let_time_pass(ready, 10)
    done = ready.cai("watch", code=143)
    assert "the budget of 10.00 $ is spent" in done.stdout + done.stderr


def test_one_watchdog_per_pod_takes_new_limits(ready: Pod) -> None:
    ready.write(budget=10)
    ready.cai(*LONG_JOB)
    first = (ready.base / ".pod/watchdog.pid.json").read_text()
    ready.write(budget=20)
    ready.cai("run", code=75)
    assert (ready.base / ".pod/watchdog.pid.json").read_text() == first
    assert ready.json("status")["watchdog"]["money"]["budget"] == 20
    assert ready.acts().count("armed") == 1


def test_a_watchdog_that_another_command_is_just_starting_is_waited_for(tmp_path: Path) -> None:
    control = state.Control(str(tmp_path))
    control.create()

    def write() -> None:
        state.write_json(control.watchdog_process, state.identity(os.getpid()))

    with open(control.watchdog_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        soon = threading.Timer(0.5, write)
        soon.start()
        found = watchdog.arm(control, {"price": 1.0})
        soon.join()
    assert found["alive"]


@pytest.mark.parametrize("limit", [{"budget": 10}, {"deadline_hours": 2}])
def test_nothing_is_started_beyond_budget_or_deadline(ready: Pod, limit: dict[str, float]) -> None:
    spend(ready, 11, **limit)
    assert "cai pod stop" in ready.cai("run", code=1).stderr
    assert ready.json("status")["state"] == "none"


def test_a_job_started_after_the_watchdog_could_not_stop_the_pod_is_ended_too(ready: Pod) -> None:
    from cai_bootstrap.pod.shipment import shipment

    run_long(ready, budget=10)
    let_time_pass(ready, 10)
    until(lambda: "cannot_stop" in ready.acts(), "the watchdog has given up on stopping")
    file = ready.home / "file.pyz"
    file.write_bytes(shipment())
    spec = {"slot": "run", "argv": ["sleep", "600"], "cwd": "/", "env": {}}
    argv = [ready.config["python"], str(file), "start", str(ready.base)]
    subprocess.run(argv, input=json.dumps(spec), text=True, check=True, capture_output=True)
    until(lambda: (ready.job_folder() / "exit.json").exists(), "the second job was ended")
    assert ready.acts().count("cannot_stop") == 1


@pytest.mark.parametrize("read", [(500, b""), (403, b"{}"), (200, b"{}"), (200, b'{"status": "RUNNING", "cost": "1"}')])
def test_the_watchdog_asks_for_the_stop_whatever_the_read_answers(
    tmp_path: Path, runpod: RunPodStandIn, read: tuple[int, bytes]
) -> None:
    dog = a_watchdog(tmp_path, runpod)
    runpod.faults = [("GET", *read, {})] * 400
    assert not dog._stop_pod("budget")
    assert runpod.seen[0][0] == "POST"
    assert runpod.pod["status"] == "STOPPING"
    runpod.faults = []
    assert dog._stop_pod("budget")


def a_watchdog(folder: Path, runpod: RunPodStandIn) -> watchdog._Watchdog:
    control = state.Control(str(folder))
    control.create()
    with mock.patch.object(signal, "signal"):
        dog = watchdog._Watchdog(control)
    limits = {"stop_limit_seconds": 0.2, "tick_seconds": 0.02, "retry_seconds": 0.0, "pod_id": "pod123"}
    dog.config = watchdog.DEFAULTS | limits | {"api_url": runpod.url, "price": 1.0, "budget": 1.0}
    dog.key = runpod.key
    return dog


def test_a_job_that_cannot_be_looked_at_does_not_keep_the_pod_beyond_its_budget(
    tmp_path: Path, runpod: RunPodStandIn
) -> None:
    dog = a_watchdog(tmp_path, runpod)
    state.write_json(dog.control.watchdog_config, dog.config | {"job_grace_seconds": -1, "fetch_grace_seconds": 0})
    with mock.patch.object(watchdog.jobs, "status", side_effect=OSError("an unreadable disk")):
        dog.run()
    assert runpod.pod["status"] == "EXITED"
    events = [json.loads(line)["event"] for line in dog.control.watchdog_log.read_text().splitlines()]
    assert events.count("problem") == 1
    assert events[-1] == "stopped"


def test_a_line_without_end_is_followed_in_pieces(tmp_path: Path) -> None:
    from cai_bootstrap.pod.onpod import follow

    log = tmp_path / "output.log"
    log.write_bytes(b"x" * (3 * follow.BLOCK) + b"yz\nnext\nhalf")
    pieces = list(follow._lines(log, 0, over=False))
    assert [len(text) for text, _ in pieces] == [follow.BLOCK] * 3 + [2, 4]
    assert list(follow._lines(log, pieces[-1][1], over=True)) == [("half", log.stat().st_size)]
