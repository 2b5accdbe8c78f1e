"""All of it in order: whatever way the job ends, its files come back and its exit code is handed on."""

import json
import os
import signal
from pathlib import Path

import pytest

from cai_bootstrap.measuring.ledger import openings
from cai_bootstrap.pod.deploy import note_openings

from .loopback import Pod, RunPodStandIn, until


def words(pod: Pod, *job: str) -> list[str]:
    return ["deploy", "--yes", "--source", str(pod.source), "--into", str(pod.target), "--", *job]


def test_deploy_runs_the_job_and_brings_verified_results_back(pod: Pod) -> None:
    done = pod.cai(*words(pod, "--lines", "20"))
    assert (pod.target / "results" / "name with 'quotes', $HOME and spaces.json").read_text() == "{}"
    assert "all verified" in done.stderr
    assert "STOP THE POD" in done.stderr
    assert "A RENTED POD MAY STILL BE RUNNING" in done.stderr


def test_nothing_is_started_where_a_run_that_was_made_here_would_be_replaced(ready: Pod) -> None:
    (ready.target / "results").mkdir(parents=True)
    (ready.target / "results" / "run.json").write_text("{}")
    assert "--into" in ready.cai(*words(ready, "--lines", "2"), code=2).stderr
    assert ready.json("status")["state"] == "none"


def test_nothing_is_started_where_an_earlier_rentals_run_would_be_replaced(ready: Pod) -> None:
    ready.cai(*words(ready, "--lines", "2"))
    job = ready.job_folder()
    (ready.base / ".pod/id").write_text('"another"')
    assert "an earlier rental" in ready.cai(*words(ready, "--lines", "3"), code=2).stderr
    assert ready.job_folder() == job


def test_a_failed_job_is_pulled_too_and_its_exit_code_handed_on(ready: Pod) -> None:
    done = ready.cai(*words(ready, "--lines", "2", "--exit", "3"), code=3)
    assert json.loads((ready.target / "results" / "run.json").read_text())["exit_code"] == 3
    assert "  | line 1" in done.stderr
    assert ready.json("status")["fetched"]


def test_deploy_follows_a_job_that_runs_already(ready: Pod) -> None:
    ready.cai("run", "--", "--lines", "60", "--pause", "0.1")
    first = ready.job_folder()
    assert "following it" in ready.cai(*words(ready, "--lines", "60", "--pause", "0.1")).stderr
    assert ready.job_folder() == first


def test_deploy_fetches_a_job_that_was_done_while_nobody_looked_instead_of_running_it_again(ready: Pod) -> None:
    ready.cai(*words(ready, "--lines", "2"))
    ready.cai("run", "--", "--lines", "2")
    until(lambda: (ready.job_folder() / "exit.json").exists(), "the job has ended")
    first = ready.job_folder()
    assert "its files were not fetched yet" in ready.cai(*words(ready, "--lines", "2")).stderr
    assert ready.job_folder() == first
    ready.cai(*words(ready, "--lines", "3"))
    assert ready.job_folder() != first


def test_a_lost_job_is_pulled_and_is_no_success(ready: Pod) -> None:
    deploying = ready.start(*words(ready, "--lines", "5000", "--pause", "0.1"))
    until(lambda: (ready.base / ".pod" / "current.json").exists(), "a job was started")
    until(
        lambda: (
            (ready.job_folder() / "output.log").exists() and "line 0" in (ready.job_folder() / "output.log").read_text()
        ),
        "the job has begun",
    )
    os.kill(json.loads((ready.job_folder() / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    _, said = deploying.communicate(timeout=60)
    assert deploying.returncode == 1
    assert "lost" in said
    assert (ready.target / "logs" / "stand-in.jsonl").exists()


def test_stop_when_done_without_a_key_says_that_the_pod_was_not_stopped(ready: Pod) -> None:
    done = ready.cai("deploy", "--stop-when-done", *words(ready, "--lines", "2")[1:])
    assert "NOT stopped" in done.stderr
    assert "A RENTED POD MAY STILL BE RUNNING" in done.stderr


def test_a_stop_command_that_ends_the_connection_does_not_take_the_jobs_exit_code_away(ready: Pod) -> None:
    ready.write(stop={"command": "kill $PPID; sleep 5"})
    words = ("deploy", "--yes", "--stop-when-done", "--source", str(ready.source), "--into", str(ready.target))
    done = ready.cai(*words, "--", "--exit", "3", code=3)
    assert "nobody has confirmed that it costs no more" in done.stderr


@pytest.mark.usefixtures("rented")
def test_stop_when_done_stops_only_what_is_fetched(ready: Pod, runpod: RunPodStandIn) -> None:
    ready.target.mkdir()
    (ready.target / "results").symlink_to("/nowhere")
    done = ready.cai("deploy", "--stop-when-done", *words(ready, "--lines", "2")[1:], code=1)
    assert "NOT ALL WAS BROUGHT BACK" in done.stderr
    assert runpod.pod["status"] == "RUNNING"
    (ready.target / "results").unlink()
    ready.cai("deploy", "--stop-when-done", *words(ready, "--lines", "2")[1:])
    assert runpod.pod["status"] == "EXITED"


@pytest.mark.parametrize("sha256", ["../../outside", "/tmp/x", 7, "", "A" * 64, "0" * 63])
@pytest.mark.parametrize("field", ["sha256", "asked_sha256"])
def test_a_suites_hash_from_a_pod_names_no_file_outside_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, sha256: object
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "run" / "results").mkdir(parents=True)
    measured = json.loads((Path(__file__).parents[2] / "docs" / "measured" / "gemma-270m-gpu.json").read_bytes())
    measured["suite"][field] = sha256
    (tmp_path / "run" / "results" / "stage1_evaluation_1.json").write_text(json.dumps(measured), encoding="utf-8")
    note_openings(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_a_pod_opened_stands_in_this_ledger_once_and_what_is_no_results_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    results = tmp_path / "run" / "results"
    results.mkdir(parents=True)
    measured = Path(__file__).parents[2] / "docs" / "measured" / "gemma-270m-gpu.json"
    (results / "stage1_evaluation_1.json").write_bytes(measured.read_bytes())
    (results / "stage1_evaluation_2.json").write_text("[]", encoding="utf-8")
    (results / "baseline_assessment.json").write_text('{"run": {"led', encoding="utf-8")
    for _ in range(2):
        note_openings(tmp_path / "run")
    (found,) = openings(json.loads(measured.read_bytes())["suite"]["sha256"])
    assert (found.number, found.what, found.elsewhere and found.elsewhere.number) == (1, "evaluation", 4)
