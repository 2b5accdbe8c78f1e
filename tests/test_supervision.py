"""C2.4 and C5 in real processes without a model: time-outs, signals, a parent that dies, two runs at once."""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from processes import alive, processes_of, run, run_json, start, wait_for

from cai_bootstrap.supervise import leaving_cleanly

QUICK = ("--preset", "quick-test")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "base"


def ready(base: Path, parent: "subprocess.Popen[str]") -> list[int]:
    """Wait for a fake step that waits; the ids of the step and of its child."""
    path = base / "ready.json"
    wait_for(lambda: path.exists() or parent.poll() is not None, what="the step")
    assert path.exists(), parent.communicate()[0]
    pids: list[int] = json.loads(path.read_text())["pids"]
    return pids


def test_c2_4_a_step_ends_at_its_limit_with_124_its_name_and_its_limit(base: Path) -> None:
    code, said = run("run", "--base-dir", base, "--timeout", "generate=1", fake=True, FAKE_GENERATE="polite")
    assert code == 124
    assert "the step 'generate' was ended at its time limit of 1 s" in said
    assert "--timeout generate=SECONDS" in said
    ended = run_json(base)
    assert (ended["verdict"], ended["exit_code"]) == ("error", 124)
    assert ended["steps"]["generate"]["status"] == "failed"
    assert ended["steps"]["baseline"]["status"] == "done"
    assert (base / "data/stage1/kept.txt").exists()
    assert processes_of(base) == []


def test_a_crash_in_a_later_round_names_that_rounds_own_log(base: Path) -> None:
    """The step's process knows nothing of who started it; the name that it tells is the one under which it is kept."""
    config = base / "config.yaml"
    base.mkdir()
    config.write_text(json.dumps({"paths": {"base_dir": str(base)}}))
    code, _ = run("step", "nonsense", "--config", config, "--run", "R2", "--round", "2")
    assert code == 1
    (event,) = map(json.loads, (base / "logs/R2.jsonl").read_text().splitlines())
    assert f"{base}/logs/R2.nonsense-2.log has more" in event["message"]


def test_run_and_ablate_keep_what_a_step_prints_where_the_step_says(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stubs import config_of

    from cai_bootstrap import pipeline
    from cai_bootstrap.ablation import one
    from cai_bootstrap.ablation.outcome import Outcome
    from cai_bootstrap.config import Resolved
    from cai_bootstrap.errors import CaiError
    from cai_bootstrap.run.folder import RunFolder
    from cai_bootstrap.supervise import Ended

    workspace = RunFolder.at(base).create()
    logs: list[Path] = []

    def crash(_: list[str], *, log: Path, **__: object) -> Ended:
        logs.append(log)
        log.write_text("Segmentation fault")
        return Ended(139, 0.1)

    monkeypatch.setattr(pipeline, "supervise", crash)
    monkeypatch.setattr(one, "supervise", crash)
    outcome = pipeline.run_pipeline(Resolved(config=config_of(), origins={}), workspace, ["train"])
    assert outcome.message is not None
    assert f"{logs[0]} ends with:\nSegmentation fault" in outcome.message
    assert outcome.as_json() == {
        "verdict": "error", "exit_code": 1, "results_file": None, "message": outcome.message,
        "steps": {"train": {"status": "failed", "seconds": 0.1, "skipped": False}},
    }  # fmt: skip
    run_id = logs[0].name.partition(".")[0]
    assert logs == [workspace.step_log(run_id, "train", 1)]
    job = one._Job(None, config_of(), workspace, base, Outcome("v", "done"), "R")
    for number in (1, 2):
        with pytest.raises(CaiError, match=r"logs/R\.train.* says why"):
            job.steps([("train", number)])
    assert logs[1:] == [workspace.step_log("R", "train", number) for number in (1, 2)]


def test_c2_4_a_step_that_ignores_term_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    from cai_bootstrap.supervise import Signals, supervise

    code = (
        "import signal, subprocess\nsignal.signal(15, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\nsignal.pause()"
    )
    command = ["python3", "-c", code]
    ended = supervise(command, timeout=3, log=tmp_path / "log", signals=Signals(), grace=0.3)
    assert ended.code == 124
    assert 3.3 <= ended.seconds < 15
    assert not alive(int((tmp_path / "pid").read_text()))


def test_c2_4_the_limit_holds_for_a_step_that_does_not_heed_an_interrupt(tmp_path: Path) -> None:
    from cai_bootstrap.supervise import Signals, supervise

    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on', flush=True)\nsignal.pause()"
    signals = Signals()

    def interrupt() -> None:
        if not signals.received and "on" in (tmp_path / "log").read_text():
            signals.received.append(signal.SIGINT)

    ended = supervise(
        ["python3", "-c", code], timeout=2, log=tmp_path / "log", signals=signals, on_tick=interrupt, grace=0.3
    )
    assert ended.code == 130
    assert 2 <= ended.seconds < 15


def test_c2_4_the_default_limits() -> None:
    from cai_bootstrap.config import resolve

    limits = resolve({}, environment={}).config.timeouts
    assert (limits.baseline, limits.generate, limits.train, limits.evaluate) == (3600, 7200, 10800, 3600)


def test_c2_4_a_step_dies_with_a_parent_that_is_killed_and_the_next_run_starts_at_once(base: Path) -> None:
    """The parent gets SIGKILL, so nothing of it can clean up; the step is one that would never end."""
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="stubborn")
    pids = ready(base, parent)
    assert len(processes_of(base)) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    code, _ = run("generate", "--base-dir", base, fake=True)
    assert code == 0
    assert processes_of(base) == []
    assert not any(alive(pid) for pid in pids)


def test_c5_a_step_that_is_killed_alone_is_told_and_kept(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_TRAIN="stubborn")
    pids = ready(base, parent)
    os.kill(pids[0], signal.SIGKILL)
    said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "the step 'train' ended with code 137 (killed; the machine may be out of memory)" in said
    assert not any(alive(pid) for pid in pids)  # its child too


def test_ctrl_c_once_finishes_the_record_and_ends_with_130(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="polite")
    pids = ready(base, parent)
    os.kill(parent.pid, signal.SIGINT)
    said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert "generate stopped after its record" in said
    assert (base / "data/stage1/kept.txt").exists()
    assert (run_json(base)["verdict"], run_json(base)["exit_code"]) == ("error", 130)
    assert not any(alive(pid) for pid in pids)


def test_ctrl_c_twice_ends_at_once_with_130(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="stubborn")
    pids = ready(base, parent)
    os.kill(parent.pid, signal.SIGINT)
    os.kill(parent.pid, signal.SIGINT)
    # Two equal signals may reach a process as one; a person presses again.
    wait_for(lambda: not alive(pids[0]) or os.kill(parent.pid, signal.SIGINT), seconds=15, what="the end")
    parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert not any(alive(pid) for pid in pids)


def test_term_ends_with_143_and_keeps_the_record(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="polite")
    ready(base, parent)
    os.kill(parent.pid, signal.SIGTERM)
    parent.communicate(timeout=60)
    assert parent.returncode == 143
    assert (base / "data/stage1/kept.txt").exists()


def test_ctrl_c_after_a_term_ends_at_once(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="stubborn")
    pids = ready(base, parent)
    os.kill(parent.pid, signal.SIGTERM)
    wait_for((base / "asked").exists, what="the request")
    wait_for(lambda: not alive(pids[0]) or os.kill(parent.pid, signal.SIGINT), seconds=15, what="the end")
    parent.communicate(timeout=60)
    assert parent.returncode == 143


def test_c5_two_runs_at_once_the_second_ends_with_75_and_names_the_holder(base: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="polite")
    ready(base, parent)
    code, said = run("generate", "--base-dir", base, fake=True)
    assert code == 75
    assert f"process {parent.pid}" in said
    assert "held by cai run" in said
    assert not (base / "results/run.json").exists()  # the first run's to write
    os.kill(parent.pid, signal.SIGINT)
    parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert run("generate", "--base-dir", base, fake=True)[0] == 0


def test_c5_another_base_directory_is_not_locked(base: Path, tmp_path: Path) -> None:
    parent = start("run", "--base-dir", base, fake=True, FAKE_GENERATE="polite")
    ready(base, parent)
    assert run("generate", "--base-dir", tmp_path / "other", fake=True)[0] == 0
    os.kill(parent.pid, signal.SIGINT)
    parent.communicate(timeout=60)


@pytest.mark.parametrize("code", [1, 2, 4])
def test_a_steps_own_exit_code_and_message_become_the_runs(base: Path, code: int) -> None:
    ended, said = run("run", "--base-dir", base, fake=True, FAKE_TRAIN=f"fail:{code}")
    assert ended == code
    assert "error: train failed as told" in said
    assert run_json(base)["steps"]["train"]["status"] == "failed"
    assert "evaluate" not in run_json(base)["steps"]


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_a_single_step_that_fails_leaves_the_record_of_a_finished_run(base: Path, step: str) -> None:
    record = base / "results/run.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"verdict": "passed"}')
    code, said = run(step, "--base-dir", base, fake=True, **{f"FAKE_{step.upper()}": "fail:1"})
    assert code == 1
    assert f"{step} failed as told" in said
    assert run_json(base) == {"verdict": "passed"}
    assert run("run", "--base-dir", base, fake=True, FAKE_TRAIN="fail:1")[0] == 1
    assert run_json(base)["verdict"] == "error"


def test_events_tell_the_run(base: Path) -> None:
    run("run", "--base-dir", base, fake=True, FAKE_TRAIN="fail:1")
    log = next(path for path in (base / "logs").glob("*.jsonl"))
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[0]["event"] == "run_started"
    assert [e["step"] for e in events if e["event"] == "step_started"] == ["prepare", "baseline", "generate", "train"]
    assert events[-1] == {**events[-1], "event": "run_finished", "exit_code": 1, "verdict": "error"}
    assert all({"at", "event", "run"} <= set(event) for event in events)


def test_a_base_that_prompting_brings_to_the_threshold_is_not_trained_unless_asked_for(base: Path) -> None:
    results = base / "results"
    results.mkdir(parents=True)
    measured = {"suite": {"name": "stage1", "sha256": "0" * 64}, "conditions": {}, "models": {},
                "run": {"gap": {"nothing_to_teach": True}}}  # fmt: skip
    (results / "baseline_assessment.json").write_text(json.dumps(measured))
    code, said = run("run", "--base-dir", base, fake=True)
    ended = run_json(base)
    assert (code, ended["verdict"], ended["exit_code"]) == (0, "nothing_to_teach", 0)
    assert set(ended["steps"]) & {"generate", "train", "evaluate"} == set()
    assert "already reaches the threshold on dev; nothing was trained" in said
    run("run", "--base-dir", base, "--train-anyway", fake=True, FAKE_GENERATE="fail:1")
    assert run_json(base)["steps"]["generate"]["status"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_left_on_request_leaves_no_scratch_folder(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left, leaving_cleanly(), tempfile.TemporaryDirectory(dir=tmp_path):
        signal.raise_signal(number)
    assert left.value.code == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with leaving_cleanly():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
