"""Money: the ledger, the loud reminder, and an estimate that says what was never measured."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod import ledger
from cai_bootstrap.pod.estimate import STEPS, asked_preset, estimate, load_rates, needed_gpu_memory
from cai_bootstrap.pod.reminder import reminder

from .loopback import Pod


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_no_ledger_means_no_reminder_and_costs_under_five_milliseconds() -> None:
    best = min(_timed() for _ in range(20))
    assert reminder() is None
    assert best < 0.005


def _timed() -> float:
    before = time.perf_counter()
    reminder()
    return time.perf_counter() - before


def test_the_reminder_imports_nothing_heavy() -> None:
    code = "import sys; import cai_bootstrap.pod.reminder; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "yaml", "rich", "click", "urllib.request", "subprocess"} & set(shown)


def test_an_open_rental_is_named_with_its_start_and_dollars() -> None:
    ledger.open_rental("a100", "root@203.0.113.1:22", 2.0, time.time() - 3 * 3600 - 5 * 60)
    text = reminder()
    assert text is not None
    assert "pod 'a100' (root@203.0.113.1:22)" in text
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d UTC \(3 h 05 min\): about 6\.17 \$ so far at 2\.00 \$/h", text)


def test_a_closed_rental_is_quiet_and_its_total_stays() -> None:
    ledger.open_rental("a", "x@y:1", 2.0, time.time() - 1800)
    closed = ledger.close("a", "x@y:1", "provider says EXITED, 0 $/h")
    assert reminder() is None
    assert closed == pytest.approx(1.0, abs=0.01)
    assert ledger.dollars(ledger.rentals()[0], now=time.time() + 9999) == closed


def test_a_pod_rented_again_is_a_new_rental() -> None:
    ledger.open_rental("a", "x@y:1", 2.0)
    ledger.close("a", "x@y:1", "test")
    ledger.open_rental("a", "x@y:1", 3.0)
    assert [rental["price"] for rental in ledger.rentals()] == [2.0, 3.0]


def test_a_broken_ledger_is_told_and_breaks_no_command(state: Path) -> None:
    state.mkdir()
    ledger.ledger_path().write_text("{torn")
    assert "cannot be read" in str(reminder())


@pytest.mark.parametrize("content", ["{torn", "[]", '{"rentals": [7]}', '{"rentals": null}'])
def test_a_torn_ledger_is_named_and_never_overwritten(pod: Pod, content: str) -> None:
    path = pod.home / "state" / "pods.json"
    path.write_text(content)
    done = pod.cai("deploy", "--dry-run", "--source", str(pod.source), code=2)
    assert f"error: {path}: not a ledger of rentals" in done.stderr
    assert "move it away" in done.stderr
    pod.cai("status", code=2)
    assert path.read_text() == content


@pytest.mark.parametrize("price", [None, "1.74"])
def test_a_rental_without_a_price_is_reminded_of_and_others_too(state: Path, price: str | None) -> None:
    ledger.open_rental("a", "x@y:1", 2.0, time.time() - 3600)
    ledger.open_rental("b", "x@y:2", 3.0, time.time() - 3600)
    path = state / "pods.json"
    found = json.loads(path.read_text())
    found["rentals"][0]["price"] = price
    path.write_text(json.dumps(found))
    text = str(reminder())
    assert "pod 'a' (x@y:1) since" in text
    assert "at what price is not recorded" in text
    assert "about 3.00 $ so far" in text
    with pytest.raises(UsageError, match="has no price"):
        ledger.close("a", "x@y:1", "test")


def test_nothing_in_the_ledger_ends_a_command() -> None:
    ledger.open_rental("a", "x@y:1", 2.0, 1e300)
    assert "cannot be read" in str(reminder())


def test_writers_at_once_lose_nothing() -> None:
    writers = [threading.Thread(target=ledger.open_rental, args=(f"p{i}", "x@y:1", 1.0)) for i in range(12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(ledger.rentals()) == 12


def test_every_cai_command_ends_with_the_reminder(pod: Pod) -> None:
    pod.cai("status")
    env = pod.env()
    for words in (["suite", "--help"], ["--version"], ["gate", "no-such-file.json"], ["pod", "cost"]):
        done = subprocess.run(
            [sys.executable, "-m", "cai_bootstrap", *words], env=env, cwd=pod.home, capture_output=True, text=True
        )
        assert done.stderr.rstrip().endswith("!" * 78), words
        assert "pod 'loop'" in done.stderr


def test_a_preset_that_was_never_measured_is_estimated_as_such(tmp_path: Path) -> None:
    rates = tmp_path / "rates.yaml"
    rates.write_text("presets:\n  small: {measured: false, gpu_memory_gib: 8, steps: {}}\n")
    found = estimate("small", [], 1.74, rates)
    assert found.source == "not measured"
    assert {step.seconds for step in found.steps} == {None}
    assert found.dollars is None


def test_the_estimate_counts_items_hours_and_dollars(tmp_path: Path) -> None:
    steps = dict.fromkeys(STEPS, 360) | {"generate": {"fixed": 100, "per_item": 2}}
    data = {
        "measured": True,
        "gpu_memory_gib": 8,
        "count": 10,
        "device": "D",
        "date": "2026-01-01",
        "source": "s",
        "steps": steps,
    }
    rates = tmp_path / "rates.yaml"
    rates.write_text(yaml.safe_dump({"presets": {"small": data}}))
    plain = {step.step: step for step in estimate("small", [], 2.0, rates).steps}
    assert plain["train"].dollars == pytest.approx(0.2)
    assert plain["generate"].seconds == 120
    asked = {step.step: step for step in estimate(None, ["--preset=small", "--count", "500"], 2.0, rates).steps}
    assert asked["generate"].seconds == 1100
    assert estimate("small", [], 2.0, rates).seconds == 360 * 4 + 120


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ([], 100 + 20 + 2 * 50), (["--rounds", "1"], 120), (["--set", "training.rounds=2"], 170),
        (["--set=training.rounds=2", "--set", "generation.count=0"], 150), (["--set", "training.epochs=9"], 220),
    ],
)  # fmt: skip
def test_rounds_after_the_first_are_estimated_apart(tmp_path: Path, words: list[str], seconds: float) -> None:
    data = {
        "measured": True, "gpu_memory_gib": 8, "count": 10, "rounds": 3, "device": "D", "date": "2026-01-01",
        "source": "s", "steps": {"generate": {"fixed": 100, "per_item": 2, "later_round": 50}},
    }  # fmt: skip
    rates = tmp_path / "rates.yaml"
    rates.write_text(yaml.safe_dump({"presets": {"small": data}}))
    steps = {step.step: step.seconds for step in estimate("small", words, 2.0, rates).steps}
    assert steps["generate"] == seconds


def test_the_shipped_rates_are_whole() -> None:
    for name, rate in load_rates().items():
        assert needed_gpu_memory(name) is not None
        if rate["measured"]:
            assert set(rate["steps"]) <= set(STEPS)
            assert rate["date"]
            assert rate["device"]
            assert rate["source"]
        else:
            assert not rate["steps"], name


@pytest.mark.parametrize(
    ("words", "preset"),
    [
        ([], "mine"), (["--preset", "other"], "other"), (["--config", "run.yaml"], None), (["--config=run.yaml"], None),
        (["--quick-test", "--preset", "other"], "quick-test"), (["--config", "run.yaml", "--preset", "p"], "p"),
    ],
)  # fmt: skip
def test_the_estimate_is_that_of_what_will_run(words: list[str], preset: str | None) -> None:
    assert asked_preset("mine", words) == preset


def test_a_card_of_24_gb_is_large_enough_for_the_small_model() -> None:
    assert needed_gpu_memory("gemma-270m-gpu") == 22


def test_deploy_asks_before_it_costs_and_starts_nothing_without_a_yes(pod: Pod) -> None:
    done = pod.cai("deploy", "--source", str(pod.source), code=2)
    assert "Estimate" in done.stderr
    assert "nothing was started" in done.stderr
    assert not (pod.base / ".pod").exists()


def test_a_dry_run_prints_plan_and_estimate_and_touches_nothing(pod: Pod) -> None:
    done = pod.json(
        "deploy", "--dry-run", "--stop-when-done", "--json", "--source", str(pod.source), "--", "--count", "5"
    )
    assert [line.split()[0] for line in done["plan"]] == ["check", "push", "setup", "run", "watch", "pull", "stop"]
    assert "--count 5" in done["plan"][3]
    assert {step["step"] for step in done["estimate"]["steps"]} == set(STEPS)
    assert not (pod.base / ".pod").exists()
    assert not (pod.home / "state").joinpath("pods.json").exists()


def test_cost_shows_planned_against_used_per_step(pod: Pod) -> None:
    pod.cai("deploy", "--yes", "--source", str(pod.source), "--into", str(pod.target), "--", "--lines", "3")
    rental = pod.json("cost")["rentals"][0]
    assert rental["steps"]["generate"] == pytest.approx(0.03)
    assert [step["step"] for step in rental["estimate"]["steps"]] == list(STEPS)
    assert rental["price"] == 1.74
    assert rental["total"] > 0
    assert "not measured" in pod.cai("cost").stdout
    assert json.loads((pod.home / "state/pods.json").read_text())["rentals"][0]["start_known_from"] == "first contact"


def test_closing_one_pods_rental_leaves_another_of_the_same_name_open() -> None:
    ledger.open_rental("pod", "root@203.0.113.1:22", 1.0, pod_id="a")
    ledger.open_rental("pod", "root@203.0.113.2:22", 1.0, pod_id="b")
    ledger.close("pod", "root@203.0.113.2:22", "test", "b")
    assert "203.0.113.1" in str(reminder())
    assert "203.0.113.2" not in str(reminder())


def test_a_pod_that_came_back_at_another_port_is_closed_at_both() -> None:
    ledger.open_rental("pod", "root@203.0.113.1:22", 1.0, pod_id="a")
    ledger.open_rental("pod", "root@203.0.113.1:33", 1.0, pod_id="a")
    ledger.close("pod", "root@203.0.113.1:33", "test", "a")
    assert reminder() is None


def test_a_rental_at_an_earlier_address_can_be_closed_by_its_address(pod: Pod) -> None:
    pod.cai("status")
    old = f"{pod.config['user']}@127.0.0.1:{pod.config['port']}"
    pod.write(port=1)
    pod.cai("stop", "--already-stopped", "--address", old)
    assert pod.json("cost")["rentals"][0]["ended"] is not None


def test_watch_projects_dollars_to_the_runs_end_only_where_later_steps_were_measured() -> None:
    from cai_bootstrap.pod.watch import View

    tick = {"k": "tick", "gpu": [], "money": {"spent": 1.0, "price": 3.6, "budget": 15.0}, "free_bytes": 1}
    event = {"event": "progress", "step": "train", "done": 5, "total": 10, "eta_seconds": 100, "tokens_per_second": 7.0}
    for planned, said in (({"evaluate": 900.0}, "2.00 $ at the run's end"), ({}, "1.10 $ at this step's end")):
        view = View(planned)
        view.take(tick)
        view.take({"k": "ev", "t": json.dumps(event)})
        assert said in view.money_text()
        assert view.progress_text() == "train 5/10, 7 tokens/s, 1 min 40 s left"
