"""What comes back of a constitution stage is known as a run, told to the ledgers, and shown while it goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod import deploy
from cai_bootstrap.pod.answers import EventLine
from cai_bootstrap.pod.deploy import note_openings, record_steps
from cai_bootstrap.pod.pull import check_target
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.watch import View


@pytest.mark.parametrize("folder", ["data/constitution", "checkpoints/constitution", "results"])
def test_a_constitution_made_here_is_not_replaced_by_a_pods(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "kept").touch()
    with pytest.raises(UsageError, match="a run that was made here"):
        check_target(tmp_path, PodSettings(host="203.0.113.1"))


@pytest.mark.parametrize(("stage1", "constitution", "seconds"), [
    ("20261129T100000Z", "20261129T110000Z", 20.0), ("20261129T120000Z", "20261129T110000Z", 10.0),
    (None, "20261129T110000Z", 20.0), ("20261129T120000Z", None, 10.0),
])  # fmt: skip
def test_the_steps_of_the_newest_run_of_either_stage_stand_beside_what_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage1: str | None, constitution: str | None, seconds: float
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(deploy.ledger, "update", lambda *_, **values: told.append(values))
    (tmp_path / "results").mkdir()
    for name, run, took in (("run.json", stage1, 10.0), ("constitution_run.json", constitution, 20.0)):
        if run is not None:
            record = {"run": run, "steps": {"train": {"seconds": took, "skipped": False}}}
            (tmp_path / "results" / name).write_text(json.dumps(record))
    record_steps("pod", "me@there:22", tmp_path)
    assert [values["steps"] for values in told] == [{"train": seconds}]


@pytest.mark.parametrize("sha256", ["../../outside", "/tmp/x", 7, "", "A" * 64, None])
def test_the_prompts_hash_from_a_pod_names_no_file_outside_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sha256: object
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "run" / "results").mkdir(parents=True)
    claimed = {"prompts": {"name": "mine", "sha256": sha256}, "conditions": {"base_model": "m"}, "arms": {},
               "run": {"ledger_opening": 1}}  # fmt: skip
    (tmp_path / "run" / "results" / "constitution_evaluation_1.json").write_text(json.dumps(claimed))
    note_openings(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_watch_shows_the_stages_progress_and_the_money_to_its_end() -> None:
    view = View({"train": 60.0, "evaluate": 60.0})

    def tell(**event: Any) -> None:
        view.take(EventLine(k="ev", f="r.jsonl", o=1, t=json.dumps({"at": "now", "run": "r", **event})))

    tell(event="step_started", step="generate", timeout=7200)
    tell(event="progress", step="generate", done=1791, total=3000, tokens_per_second=1206.0, eta_seconds=12.0)
    assert view.progress_text() == "generate 1791/3000, 1206 tokens/s, 12 s left"
    tell(event="step_finished", step="generate", seconds=104.0, status="done", skipped=False, exit_code=0)
    tell(event="step_started", step="train", timeout=10800)
    tell(event="training_started", step="train", adapter="9f01")
    assert (view.step, view.steps) == ("train", {"generate": 104.0})
