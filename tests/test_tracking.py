"""Telling a run to a tracker while it goes on: each step once, in one place after a kill, never in the run's way."""

import html
import json
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_run import fake_step_command
from processes import wait_for
from recorder import Recorder
from stubs import Cai

from cai_bootstrap.config import RunConfig, dump_yaml, resolve
from cai_bootstrap.events import (
    Elicited,
    Event,
    EventLog,
    Notice,
    RunFinished,
    RunStarted,
    StepFinished,
    StepSkipped,
    StepStarted,
    TrainingStarted,
    TrainStep,
    Watch,
    read_events,
)
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.run.markers import write_marker
from cai_bootstrap.tracking import follow, live
from cai_bootstrap.tracking.follow import Follower
from cai_bootstrap.tracking.live import Tracking
from cai_bootstrap.tracking.openness import public_settings, without_paths, without_secrets

FIRST, SECOND, THIRD = "20260101T000000Z", "20260102T000000Z", "20260103T000000Z"
TRAIN = StepStarted(step="train", timeout=9)
DONE = StepFinished(step="train", status="done", seconds=1.0, skipped=False, exit_code=0)
PASSED = RunFinished(exit_code=0, verdict="passed", message="Stage 1 passed: 96.0% of 500")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder().install(monkeypatch)


@pytest.fixture
def workspace(tmp_path: Path) -> RunFolder:
    return RunFolder.at(tmp_path / "work").create()


def emit(workspace: RunFolder, run: str, *events: Event) -> None:
    log = EventLog(workspace.events(run), run)
    for event in events:
        log.emit(event)


def losses(*numbers: int, phase: int = 0) -> list[Event]:
    return [TrainStep(step="train", number=n, phase=phase, figures={"loss": 1.0 / n, "nll": None}) for n in numbers]


def told_to_the_end(
    workspace: RunFolder, run: str, config: RunConfig | None = None, report: Path | None = None, name: str = "trackio"
) -> tuple[int, str]:
    """Tell a run whose events are there; the exit code and what is said of it."""
    follower = Follower(name, workspace, config or RunConfig(), run)
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as line:
        line.write(json.dumps({"report": None if report is None else str(report)}).encode() + b"\n")
    with os.fdopen(reading, "rb") as line:
        code = follower.follow(line)
    return code, read_json(workspace.tracking(name))["sentence"]


# --- what is told


def test_losses_margins_and_dev_rates_are_told_as_they_come(workspace: RunFolder, recorder: Recorder) -> None:
    follower = Follower("trackio", workspace, RunConfig(), FIRST)
    emit(workspace, FIRST, RunStarted(), Elicited(step="baseline", rendering="six-shot", rate=0.25), TRAIN)
    follower.tell()
    assert recorder.curve("dev/six-shot") == [(0, 0.25)]
    emit(workspace, FIRST, TrainStep(step="train", number=1, figures={"loss": 0.7, "rewards/margins": 0.1}))
    follower.tell()
    emit(workspace, FIRST, Watch(step="train", number=1, strict_rate=0.5, eos_rate=1.0))
    with workspace.events(FIRST).open("ab") as log:
        log.write(b'{"event": "train_st')  # half of an event, as a reader may find it
    follower.tell()
    assert recorder.curve("train/loss") == [(1, 0.7)]
    assert recorder.curve("train/rewards/margins") == [(1, 0.1)]
    assert recorder.curve("watch/strict_rate") == [(1, 0.5)]
    assert recorder.closed == 0


def test_phases_and_rounds_follow_on_and_a_look_stands_at_its_step(workspace: RunFolder, recorder: Recorder) -> None:
    look = Watch(step="train", number=0, strict_rate=0.0, eos_rate=0.0)
    later = StepStarted(step="train", timeout=9, round=2)
    emit(workspace, FIRST, TRAIN, TrainingStarted(step="train", adapter="a"), look, *losses(1, 2))
    emit(workspace, FIRST, *losses(1, 2, phase=1), look.model_copy(update={"number": 2, "phase": 1}))
    emit(workspace, FIRST, later, TrainingStarted(step="train", adapter="b"), *losses(1), PASSED)
    code, said = told_to_the_end(workspace, FIRST)
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2, 3, 4, 5]
    assert [step for step, _ in recorder.curve("watch/eos_rate")] == [0, 4]
    assert (code, said) == (0, f"told trackio: project cai-bootstrap, run {FIRST}, 5 training steps")
    assert recorder.verdicts == [{"verdict": "passed", "exit_code": 0, "message": "Stage 1 passed: 96.0% of 500"}]


def test_a_control_is_told_under_a_name_of_its_own(workspace: RunFolder, recorder: Recorder) -> None:
    emit(workspace, FIRST, TRAIN, TrainingStarted(step="train", adapter="a"), *losses(1, 2))
    emit(workspace, FIRST, TrainingStarted(step="train", adapter="b", control=True), *losses(1), PASSED)
    told_to_the_end(workspace, FIRST)
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2]
    assert [step for step, _ in recorder.curve("control/train/loss")] == [3]


def results_at(workspace: RunFolder) -> None:
    """What baseline, generation and evaluation of Stage 1 leave of their figures."""
    base = {"base": {"success_rate": 0.125}, "trained": {"success_rate": None}}
    write_json(workspace.baseline, {"statistics": {"rates": base}})
    data = workspace.round_data(1)
    write_json(data.summary, {"pairs": 12})
    path = workspace.evaluation("2026-01-01T00:00:00Z")
    write_json(path, {"statistics": {"rates": {**base, "trained": {"success_rate": 0.5}}}})
    write_marker(workspace, "evaluate", 1, fingerprint="f", outputs={"results": path})


def test_rates_are_told_when_their_step_ends_and_once(workspace: RunFolder, recorder: Recorder) -> None:
    results_at(workspace)
    ends = {name: DONE.model_copy(update={"step": name}) for name in ("baseline", "generate", "evaluate")}
    emit(workspace, FIRST, ends["baseline"], ends["generate"], *losses(1, 2), ends["evaluate"], PASSED)
    told_to_the_end(workspace, FIRST)
    assert recorder.points[0].figures == {"success_rate/base": 0.125}
    assert recorder.curve("data/pairs") == [(0, 12.0)]
    assert recorder.curve("success_rate/trained") == [(2, 0.5)]
    emit(workspace, SECOND, *ends.values(), PASSED)
    told_to_the_end(workspace, SECOND)
    assert len(recorder.curve("success_rate/base")) == len(recorder.curve("success_rate/trained")) == 1
    assert len(recorder.verdicts) == 2


def test_principles_are_told_with_their_rates_and_pairs(tmp_path: Path, recorder: Recorder) -> None:
    workspace = RunFolder.at(tmp_path / "work", stage=CONSTITUTION).create()
    rates: dict[str, Any] = {"base": {"rate": 0.0}, "trained": None}
    write_json(workspace.baseline, {"principles": {"thanks": rates}})
    turn = {"asked": 8, "changed": 6, "pairs": 5}
    write_json(workspace.round_data(1).summary, {"pairs": 5, "by_principle": {"thanks": turn}})
    results = workspace.evaluation("2026-01-01T00:00:00Z")
    write_json(results, {"principles": {"thanks": {**rates, "trained": {"rate": 0.9}, "control": {"rate": 0.1}}}})
    write_marker(workspace, "evaluate", 1, fingerprint="f", outputs={"results": results})
    for step in ("baseline", "generate", "evaluate"):
        emit(workspace, FIRST, DONE.model_copy(update={"step": step}))
    told_to_the_end(workspace, FIRST)
    together = {key: value for point in recorder.points for key, value in point.figures.items()}
    assert together == {
        "thanks/base": 0.0, "data/pairs": 5.0, "thanks/pairs": 5.0, "thanks/changed": 0.75, "thanks/trained": 0.9,
        "thanks/control": 0.1,
    }  # fmt: skip


def test_a_file_that_cannot_be_read_is_no_figure(workspace: RunFolder, recorder: Recorder) -> None:
    workspace.baseline.write_text('{"statistics": {')
    emit(workspace, FIRST, *(DONE.model_copy(update={"step": step}) for step in ("baseline", "generate", "evaluate")))
    assert told_to_the_end(workspace, FIRST)[0] == 0
    assert recorder.points == []


# --- once each


@pytest.mark.parametrize("keeps", [True, False])
def test_a_resumed_run_goes_on_in_the_same_place_and_tells_again_only_what_may_be_lost(
    workspace: RunFolder, recorder: Recorder, keeps: bool
) -> None:
    recorder.keeps = keeps
    begins = TrainingStarted(step="train", adapter="a")
    emit(workspace, FIRST, TRAIN, begins, *losses(*range(1, 31)))
    Follower("trackio", workspace, RunConfig(), FIRST).tell()  # then all is killed
    emit(workspace, SECOND, TRAIN, begins, *losses(*range(26, 41)), PASSED)
    told_to_the_end(workspace, SECOND, RunConfig(timeouts={"train": 99}))
    assert [opening.run for opening in recorder.opened] == [FIRST, FIRST]
    lost = [] if keeps else list(range(1, 31))
    assert [step for step, _ in recorder.curve("train/loss")] == [*lost, *range(1, 41)]


def test_what_a_tracker_took_but_did_not_send_counts_as_not_told(workspace: RunFolder, recorder: Recorder) -> None:
    for run in (FIRST, SECOND):
        workspace.config(run).write_text(dump_yaml(RunConfig()))
    recorder.closes = False
    success = workspace.checkpoints / "a" / "TRAINING_SUCCESS"
    begins = TrainingStarted(step="train", adapter="a")
    emit(workspace, FIRST, RunStarted(), Elicited(step="baseline", rendering="plain", rate=0.5))
    emit(workspace, FIRST, TRAIN, begins, *losses(1, 2), PASSED)
    code, said = told_to_the_end(workspace, FIRST)
    assert (code, said) == (1, "the run could not be told to trackio (ConnectionError: nothing of the queue was sent)")
    assert read_json(workspace.tracking("trackio"))["parts"] == []

    recorder.closes = True
    recorder.points.clear()
    write_json(success, {})
    write_marker(workspace, "train", 1, fingerprint="f", outputs={"success": success})
    emit(workspace, SECOND, RunStarted(), TRAIN, StepSkipped(step="train"), PASSED)
    said = told_to_the_end(workspace, SECOND)[1]
    assert said == f"told trackio: project cai-bootstrap, run {FIRST}, 2 training steps"
    assert recorder.curve("dev/plain") == [(0, 0.5)]
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2]


@pytest.mark.parametrize("changed", [{"seed": 7}, {"force_data": True}])
def test_a_run_with_other_settings_or_data_is_another_one(
    workspace: RunFolder, recorder: Recorder, changed: dict[str, Any]
) -> None:
    for run, config in ((FIRST, RunConfig()), (SECOND, RunConfig(**changed))):
        emit(workspace, run, TRAIN, TrainingStarted(step="train", adapter=run), *losses(1, 2), PASSED)
        told_to_the_end(workspace, run, config)
    assert [opening.run for opening in recorder.opened] == [FIRST, SECOND]
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2, 1, 2]


def test_a_training_of_other_data_follows_on(workspace: RunFolder, recorder: Recorder) -> None:
    for run in (FIRST, SECOND):
        emit(workspace, run, TRAIN, TrainingStarted(step="train", adapter=run), *losses(1, 2), PASSED)
        told_to_the_end(workspace, run)
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2, 3, 4]


def test_what_was_trained_before_anybody_tracked_it_is_told_too(workspace: RunFolder, recorder: Recorder) -> None:
    begins = TrainingStarted(step="train", adapter="a")
    emit(workspace, FIRST, TRAIN, begins, *losses(*range(1, 8)))
    emit(workspace, SECOND, TRAIN, begins, *losses(6, 7, 8, 9), PASSED)
    told_to_the_end(workspace, SECOND)
    assert [step for step, _ in recorder.curve("train/loss")] == list(range(1, 10))


def test_a_training_that_is_skipped_is_told_from_the_run_that_did_it(workspace: RunFolder, recorder: Recorder) -> None:
    success = workspace.checkpoints / "a" / "TRAINING_SUCCESS"
    write_json(success, {})
    write_marker(workspace, "train", 1, fingerprint="f", outputs={"success": success})
    emit(workspace, FIRST, TRAIN, TrainingStarted(step="train", adapter="a"), *losses(1, 2))
    emit(workspace, SECOND, TRAIN, TrainingStarted(step="train", adapter="another"), *losses(1))
    emit(workspace, THIRD, TRAIN, StepSkipped(step="train"), PASSED)
    told_to_the_end(workspace, THIRD)
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2]


# --- a tracker that fails


def test_a_tracker_that_fails_is_said_once_and_told_the_rest_later(
    workspace: RunFolder, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.fails_at = 2
    follower = Follower("trackio", workspace, RunConfig(), FIRST)
    emit(workspace, FIRST, TRAIN, *losses(1, 2, 3, 4))
    follower.tell()
    notices = [event for event in read_events(workspace.events(FIRST))[0] if event.event == "notice"]
    assert [notice.message for notice in notices] == [
        "WARNING: the run could not be told to trackio (ConnectionError: no route to https://***@example.org/api); "
        "the run goes on, and this is tried again"
    ]
    assert recorder.curve("train/loss") == [(1, 1.0), (2, 0.5)]
    monkeypatch.setattr(follow, "open_tracker", lambda *_: (_ for _ in ()).throw(OSError("still away")))
    follower.tell()
    assert sum(event.event == "notice" for event in read_events(workspace.events(FIRST))[0]) == 1
    monkeypatch.setattr(follow, "open_tracker", recorder.open)
    follower.tell()
    assert [step for step, _ in recorder.curve("train/loss")] == [1, 2, 3, 4]


def test_a_tracker_that_never_comes_leaves_a_sentence_and_1(
    workspace: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "open_tracker", lambda *_: (_ for _ in ()).throw(OSError("away\nand more")))
    emit(workspace, FIRST, PASSED)
    code, said = told_to_the_end(workspace, FIRST)
    assert (code, said) == (1, "the run could not be told to trackio (OSError: away)")


@pytest.mark.parametrize("content", ['{"run": ', '{"run": "x"}', "[]"])
def test_a_torn_record_of_what_was_told_begins_anew(workspace: RunFolder, recorder: Recorder, content: str) -> None:
    workspace.tracking("trackio").write_text(content)
    emit(workspace, FIRST, *losses(1), PASSED)
    assert told_to_the_end(workspace, FIRST)[0] == 0
    assert recorder.curve("train/loss") == [(1, 1.0)]
    assert read_json(workspace.tracking("trackio"))["run"] == FIRST


# --- nothing secret


def test_no_secret_is_told(workspace: RunFolder, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh1234")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "not-a-secret")
    config = RunConfig(model="https://me:hunter22@example.org/m?api_key=k1k2k3&x=1", paths={"base_dir": "/home/me"})
    secret = "evaluate: 401 for hf_abcdefgh1234, not-a-secret\nthe step's own output"
    emit(workspace, FIRST, RunFinished(exit_code=1, verdict="error", message=secret))
    report = workspace.report
    report.write_text("<title>hf_abcdefgh1234</title>")
    told_to_the_end(workspace, FIRST, config, report)
    assert recorder.verdicts[0]["message"] == "evaluate: 401 for ***, not-a-secret"
    assert recorder.opened[0].settings["model"] == "https://***@example.org/m?api_key=***&x=1"
    assert "paths" not in recorder.opened[0].settings
    assert recorder.reports == [None]
    assert public_settings(RunConfig(seed=3), environment={})["seed"] == 3
    assert without_secrets("a short one", {"API_KEY": "short"}) == "a short one"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/data/me/v.yaml: no text (see ~/x/notes.txt)", "v.yaml: no text (see notes.txt)"),
        ("in '/my files/a/b.json', file:///x/y and c:/z/w/", "in 'b.json', y and c:w"),
        ("2/3 and/or https://example.org/a/b?c=/d ../up </p>", "2/3 and/or https://example.org/a/b?c=d ../up </p>"),
    ],
)  # fmt: skip
def test_a_path_in_a_message_is_cut_to_its_last_name(text: str, public: str) -> None:
    assert without_paths(text, {"/my files"}) == public


def test_no_folder_of_this_machine_is_told(tmp_path: Path, recorder: Recorder) -> None:
    workspace = RunFolder.at(tmp_path / "my <work>").create()
    model, suite = str(tmp_path / "models" / "small one"), str(tmp_path / "suite.jsonl")
    config = RunConfig(model=model, constitution=tmp_path / "mine.yaml", start_from=tmp_path / "other",
                       evaluation={"suite": suite})  # fmt: skip
    emit(workspace, FIRST, RunFinished(exit_code=1, verdict="error", message=f"{workspace.baseline}: torn; {model}"))
    base = str(workspace.base)
    workspace.report.write_text(
        f"<p>A model's words: /etc/hosts</p><code>{html.escape(base)}</code>"
        f"<script>{json.dumps({'at': base + '/data/x.json'})}; /{tmp_path.name}/g</script>"
    )
    told_to_the_end(workspace, FIRST, config, workspace.report)
    settings = recorder.opened[0].settings
    assert (settings["model"], settings["constitution"], settings["start_from"]) == ("small one", "mine.yaml", "other")
    assert str(tmp_path) not in json.dumps(settings)
    assert recorder.verdicts[0]["message"] == f"{workspace.baseline.name}: torn; small one"
    report = recorder.reports[0]
    assert report is not None
    assert report.name == workspace.report.name
    assert report.read_text() == (
        "<p>A model's words: /etc/hosts</p><code>my &lt;work&gt;</code>"
        f'<script>{{"at": "x.json"}}; /{tmp_path.name}/g</script>'
    )
    assert base in html.unescape(workspace.report.read_text())


# --- the process beside the run

FAKE = """\
import json, os, time

def write(**fields):
    with open(os.environ["FAKE_TRACKER_FILE"], "a") as file:
        file.write(json.dumps(fields) + "\\n")

class Run:
    def log(self, figures, step=None):
        write(step=step, **figures)
    def finish(self):
        if os.environ.get("FAKE_TRACKER") == "sends for ever":
            write(pid=os.getpid())
            time.sleep(600)
        if os.environ.get("FAKE_TRACKER") == "does not close":
            raise ConnectionError("not sent")
        write(finished=True)
    def define_metric(self, *names, **words):
        pass

def teardown():
    pass

class Settings:
    def __init__(self, **words):
        pass

class Markdown(str):
    pass

def save(path, project):
    write(saved=str(path))

def init(**words):
    print("the library prints")
    if os.environ.get("FAKE_TRACKER") == "hangs":
        write(pid=os.getpid())
        time.sleep(600)
    if os.environ.get("FAKE_TRACKER") == "fails":
        raise ConnectionError("no network")
    write(init=words["name"])
    return Run()
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """A trackio and a wandb of the tests' own in every process that is started; gives what it was told."""
    (tmp_path / "fakes").mkdir()
    for name in ("trackio", "wandb"):
        (tmp_path / "fakes" / f"{name}.py").write_text(FAKE)
    told = tmp_path / "told.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))
    monkeypatch.setenv("FAKE_TRACKER_FILE", str(told))
    monkeypatch.setattr(sys, "stdin", None)
    return lambda: [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def begun(workspace: RunFolder, patience: float = 30.0, name: str = "trackio") -> Tracking:
    """The tracking of a run that has begun to train."""
    config = resolve({"track": name, "paths.base_dir": workspace.base}, environment={}).config
    workspace.config(FIRST).write_text(dump_yaml(config))
    emit(workspace, FIRST, RunStarted(), TRAIN, *losses(1, 2))
    tracking = Tracking(config, workspace, patience=patience)
    for event in read_events(workspace.events(FIRST))[0]:
        tracking.see(event)
    return tracking


def test_a_run_is_told_while_it_goes_on_and_its_report_at_the_end(
    workspace: RunFolder, fake: Callable[[], list[dict[str, Any]]]
) -> None:
    with begun(workspace) as tracking:
        wait_for(lambda: len(fake()) == 3, seconds=30, what="two steps told")
        emit(workspace, FIRST, *losses(3))
        wait_for(lambda: len(fake()) == 4, seconds=30, what="the third step told")
        emit(workspace, FIRST, PASSED)
        workspace.report.write_text("<title>report</title>")
        said = tracking.finish(workspace.report)
    assert said == f"told trackio: project cai-bootstrap, run {FIRST}, 3 training steps, the report"
    assert [row["step"] for row in fake()[1:4]] == [1, 2, 3]
    assert fake()[-2:] == [{"saved": str(workspace.tracked_report(FIRST))}, {"finished": True}]
    assert "the library prints" in workspace.tracking_log(FIRST).read_text()


def test_a_tracker_that_hangs_is_ended_after_the_run(
    workspace: RunFolder, fake: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRACKER", "hangs")
    with begun(workspace, patience=0.2) as tracking:
        wait_for(fake, seconds=30, what="the tracker hangs")
        said = tracking.finish(None)
    assert said is not None
    assert said.startswith(
        "WARNING: trackio did not take the run within 0.2 s; what it may have lost is told when the run"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(fake()[0]["pid"], 0)


def test_wandb_that_is_ended_while_it_sends_was_told_nothing_and_its_files_are_named(
    workspace: RunFolder, fake: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRACKER", "sends for ever")
    (workspace.logs / "wandb" / "latest-run").mkdir(parents=True)
    with begun(workspace, patience=0.5, name="wandb") as tracking:
        wait_for(lambda: len(fake()) == 3, seconds=30, what="two steps taken")
        said = tracking.finish(None)
    assert said is not None
    assert f"or now by `wandb sync {workspace.logs / 'wandb' / 'latest-run'}`" in said
    stored = read_json(workspace.tracking("wandb"))
    assert (stored["run"], stored["parts"], stored["sentence"]) == (FIRST, [], "")


def test_a_tracker_that_recovers_and_then_does_not_close_is_said_at_the_end_too(
    workspace: RunFolder, fake: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake() == []
    monkeypatch.setenv("FAKE_TRACKER", "does not close")
    with begun(workspace) as tracking:
        tracking.see(Notice(step=live.STEP, message="WARNING: the run could not be told to trackio (OSError: away)"))
        said = tracking.finish(None)
    assert said is not None
    assert said.startswith("WARNING: the run could not be told to trackio (ConnectionError: not sent); it is told when")


def test_when_the_run_is_killed_its_tracker_is_closed_and_ends(
    workspace: RunFolder, fake: Callable[[], list[dict[str, Any]]]
) -> None:
    tracking = begun(workspace)
    process = tracking._process
    assert process is not None
    assert process.stdin is not None
    wait_for(lambda: len(fake()) == 3, seconds=30, what="two steps told")
    process.stdin.close()  # as the kernel does for a process that is killed
    assert process.wait(30) == 0
    assert fake()[-1] == {"finished": True}
    assert read_json(workspace.tracking("trackio"))["parts"][0]["train"] == 2
    assert signal.getsignal(signal.SIGINT) is not None


def test_a_tracker_that_fails_changes_nothing_of_a_run_and_is_said_once(
    cai: Cai, tmp_path: Path, fake: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap import pipeline

    assert fake() == []
    monkeypatch.setenv("FAKE_TRACKER", "fails")
    monkeypatch.setattr(pipeline, "step_command", fake_step_command)
    code, out, said = cai("generate", "--track", "trackio", "--base-dir", tmp_path / "work")
    assert code == 0, said
    assert (out + said).count("the run could not be told to trackio (ConnectionError: no network)") == 1
    monkeypatch.setattr(live.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("no memory")))
    config, workspace = RunConfig(track="trackio"), RunFolder.at(tmp_path / "work")
    tracking = Tracking(config, workspace)
    tracking.see(RunStarted(run=FIRST))
    assert tracking.finish(None) == "WARNING: the run was not told to trackio: no process could be started for it"


def test_a_missing_tracker_is_an_error_before_anything_starts(
    cai: Cai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    for name in ("wandb", "tensorboard"):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda asked, *rest, name=name: None if asked == name else find(asked, *rest)
        )
        code, _, said = cai("run", "--quick-test", "--track", name, "--base-dir", tmp_path / "work")
        assert code == 2
        assert f"--track {name}: it is not installed; run: pip install 'cai-bootstrap[track]'" in said
        assert not (tmp_path / "work").exists()


def test_an_unknown_tracker_is_refused_by_name(cai: Cai, tmp_path: Path) -> None:
    code, _, said = cai("run", "--track", "mlflow", "--base-dir", tmp_path / "work")
    assert (code, "'tensorboard', 'trackio' or 'wandb'" in said) == (2, True)


# --- the libraries themselves


@pytest.fixture
def run_of_two(workspace: RunFolder) -> RunFolder:
    """Two runs of which the second goes on with the first one's training, and a result."""
    results_at(workspace)
    begins = TrainingStarted(step="train", adapter="a")
    look = Watch(step="train", number=3, strict_rate=0.25, eos_rate=0.5)
    emit(workspace, FIRST, TRAIN, begins, *losses(1, 2, 3))
    end = RunFinished(exit_code=3, verdict="failed", message="Stage 1 FAILED: 25.0% of 8")
    evaluated = DONE.model_copy(update={"step": "evaluate"})
    emit(workspace, SECOND, TRAIN, begins, *losses(2, 3, 4), look, evaluated, end)
    workspace.report.write_text("<title>report</title>")
    return workspace


def both(workspace: RunFolder, name: str) -> str:
    told_to_the_end(workspace, FIRST, name=name)
    return told_to_the_end(workspace, SECOND, report=workspace.report, name=name)[1]


def test_trackio_gets_settings_curves_verdict_and_report_in_one_run(
    run_of_two: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its local database, read back with sqlite itself."""
    import trackio
    from trackio import utils

    for module in [trackio.sqlite_storage, utils, trackio]:
        for name in ("TRACKIO_DIR", "MEDIA_DIR"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / "trackio" / ("media" if name == "MEDIA_DIR" else ""))
    assert "4 training steps, the report" in both(run_of_two, "trackio")
    (database,) = (tmp_path / "trackio").rglob("*.db")
    connection = sqlite3.connect(database)
    logged = [
        (step, json.loads(metrics))
        for step, metrics in connection.execute("select step, metrics from metrics order by step, id")
    ]
    assert [(step, row["train/loss"]) for step, row in logged if "train/loss" in row] == [
        (step, 1.0 / step) for step in (1, 2, 3, 4)
    ]
    together: dict[str, Any] = {}
    for _, metrics in logged:
        together |= metrics
    assert together["success_rate/trained"] == 0.5
    assert together["exit_code"] == 3
    assert "Stage 1 FAILED" in json.dumps(together["verdict"])
    assert {run for (run,) in connection.execute("select distinct run_name from metrics")} == {FIRST}
    configs = connection.execute("select config from configs").fetchall()
    assert json.loads(configs[0][0])["training"]["method"] == "joint"
    assert [path.name for path in (tmp_path / "trackio").rglob("report*.html")]


@pytest.mark.long
def test_wandb_gets_them_offline_under_one_id(run_of_two: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(socket, "gethostname", lambda: "name-of-this-host")
    assert "4 training steps, the report" in both(run_of_two, "wandb")
    folders = sorted(run_of_two.logs.glob("wandb/offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
    assert {folder.name.rpartition("-")[2] for folder in folders} == {FIRST}
    assert [path.read_text() for path in folders[-1].rglob("report.html")] == ["<title>report</title>"]
    sent = [
        path for folder in folders for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts[-2:]
    ]
    assert len(sent) >= 3
    for path in sent:
        for word in ("name-of-this-host", str(run_of_two.base), str(Path.cwd()), sys.executable):
            assert word.encode() not in path.read_bytes(), (path, word)
    kept = next(folders[-1].glob("*.wandb"))
    for expected in (b"train/loss", b"watch/eos_rate", b"success_rate/trained", b"Stage 1 FAILED", b"lora_alpha"):
        wait_for(lambda word=expected: word in kept.read_bytes(), seconds=20, what=f"{expected!r} in {kept}")
    assert wandb.run is None


@pytest.mark.long
def test_tensorboard_reads_back_each_step_once(run_of_two: RunFolder) -> None:
    """Its own reader over the files of both runs."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = both(run_of_two, "tensorboard")
    folder = run_of_two.logs / "tensorboard" / FIRST
    assert said == f"told tensorboard: {folder} (tensorboard --logdir {folder.parent}), 4 training steps"
    assert len(list(folder.iterdir())) == 2
    assert [path.name for path in folder.parent.iterdir()] == [FIRST]
    read = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "watch/strict_rate", "watch/eos_rate", "success_rate/trained", "exit_code"} <= set(
        read.Tags()["scalars"]
    )
    assert [(each.step, each.value) for each in read.Scalars("train/loss")] == [
        (step, pytest.approx(1.0 / step)) for step in (1, 2, 3, 4)
    ]
    assert [each.step for each in read.Scalars("success_rate/trained")] == [4]
    texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    assert "- training.method: joint" in texts["settings"]
    assert "- message: Stage 1 FAILED: 25.0% of 8" in texts["verdict"]
    times = [each.wall_time for each in read.Scalars("train/loss")]
    assert times == sorted(times)
