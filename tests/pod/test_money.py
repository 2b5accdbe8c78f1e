"""Money: the ledger, the loud reminder, and an estimate that says what was never measured."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from cai_bootstrap.cli.pod_run import read_run
from cai_bootstrap.config import STEPS
from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod import ledger
from cai_bootstrap.pod.answers import EventLine, Money, Tick
from cai_bootstrap.pod.estimate import estimate, estimate_preset, load_rates, needed_gpu_memory
from cai_bootstrap.pod.onpod import watchdog
from cai_bootstrap.pod.onpod.state import Control
from cai_bootstrap.pod.reminder import reminder
from cai_bootstrap.pod.settings import PodSettings

from .loopback import Pod, RunPodStandIn


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
    found = estimate_preset("small", 1.74, rates_path=rates)
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
    plain = {step.step: step for step in estimate_preset("small", 2.0, rates_path=rates).steps}
    assert plain["train"].dollars == pytest.approx(0.2)
    assert plain["generate"].seconds == 120
    asked = {step.step: step for step in estimate_preset("small", 2.0, count=500, rates_path=rates).steps}
    assert asked["generate"].seconds == 1100
    assert estimate_preset("small", 2.0, rates_path=rates).seconds == 360 * 4 + 120


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ([], 100 + 20 + 2 * 50), (["--rounds", "1"], 120), (["--set", "training.rounds=2"], 170),
        (["--set=training.rounds=2", "--set", "generation.count=1"], 152), (["--set", "training.epochs=9"], 220),
        (["--set", "training.rounds=9", "--set", "training.rounds=1"], 120), (["--count=7", "--rounds=1"], 120),
        (["--set", "generation.count=7", "--count", "9", "--rounds=1"], 114), (["--model", "another"], None),
        (["--set=model=another"], None), (["--suite", "--rounds", "--rounds=1"], 120),
    ],
)  # fmt: skip
def test_the_estimate_is_that_of_the_configuration_that_will_run(
    tmp_path: Path, words: list[str], seconds: float | None
) -> None:
    data = {
        "measured": True, "gpu_memory_gib": 8, "device": "D", "date": "2026-01-01", "source": "s",
        "steps": {"generate": {"fixed": 100, "per_item": 2, "later_round": 50}},
    }  # fmt: skip
    rates = tmp_path / "rates.yaml"
    rates.write_text(yaml.safe_dump({"presets": {"gemma-270m-gpu": data}}))
    words = ["--preset", "gemma-270m-gpu", "--set", "generation.count=10", *words]
    config = read_run(PodSettings(host="203.0.113.1"), words).config
    steps = {step.step: step.seconds for step in estimate(config, 2.0, rates).steps}
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


def test_a_card_of_24_gb_is_large_enough_for_the_small_model() -> None:
    assert needed_gpu_memory("gemma-270m-gpu") == 22


ENDLESS = [["deploy", "--dry-run"], ["deploy", "--yes"], ["run"], ["setup"]]


@pytest.mark.parametrize("words", ENDLESS)
@pytest.mark.parametrize("price", [0, None])
def test_a_budget_without_a_price_is_refused_before_anything_is_done(
    pod: Pod, words: list[str], price: float | None
) -> None:
    del pod.config["hourly_price"]
    pod.write(budget=20, **({} if price is None else {"hourly_price": price}))
    said = pod.cai(*words, code=2).stderr
    assert "without a price is never spent" in said
    assert "hourly_price" in said
    assert not (pod.base / ".pod").exists()


@pytest.mark.parametrize("words", [["deploy", "--dry-run"], ["deploy", "--yes"], ["run"]])
@pytest.mark.parametrize("budget", ["0", "-5", "nan", "inf"])
def test_a_budget_that_is_none_is_refused(pod: Pod, words: list[str], budget: str) -> None:
    assert "budget" in pod.cai(*words, "--budget", budget, code=2).stderr
    pod.write(budget=float(budget))
    assert "budget" in pod.cai(*words, code=2).stderr
    assert not (pod.base / ".pod").exists()


def test_the_budget_of_the_command_line_needs_a_price_too(pod: Pod) -> None:
    pod.write(hourly_price=0)
    assert "without a price" in pod.cai("deploy", "--dry-run", "--budget", "5", code=2).stderr
    pod.path.unlink()
    assert "without a price" in pod.cai("init", "--budget", "5", "--hourly-price", "0", code=2).stderr
    assert not pod.path.exists()


@pytest.mark.usefixtures("rented")
def test_a_price_that_the_provider_tells_is_a_price(ready: Pod, runpod: RunPodStandIn) -> None:
    ready.write(budget=20, hourly_price=0)
    ready.cai("deploy", "--dry-run", "--source", str(ready.source))
    assert ready.json("run", "--json", "--", "--lines", "1")["started"]
    ready.end_processes()
    shutil.rmtree(ready.base / ".pod")
    (ready.home / "state" / "pods.json").unlink()
    runpod.faults = [("GET", 500, b"", {})] * 9
    assert "without a price" in ready.cai("run", code=2).stderr


def test_a_budget_without_a_price_keeps_nobody_from_stopping_the_pod(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.write(budget=20, hourly_price=0)
    runpod.faults = [("GET", 500, b"", {})]
    rented.cai("stop", "--yes")
    assert runpod.pod["status"] == "EXITED"


@pytest.mark.parametrize("asked", [
    {"budget": 20.0}, {"budget": 20.0, "price": 0}, {"budget": 0, "price": 1.0}, {"budget": -1, "price": 1.0},
    {"budget": 20.0, "price": float("nan")}, {"budget": "20", "price": 1.0}, {"budget": 20.0, "price": None},
])  # fmt: skip
def test_no_watchdog_is_set_up_with_a_budget_that_is_never_spent(tmp_path: Path, asked: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a budget needs"):
        watchdog.arm(Control(str(tmp_path)), asked)
    assert not (tmp_path / ".pod").exists()


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

    money = Money(spent=1.0, price=3.6, budget=15.0)
    tick = Tick(k="tick", over=False, gpu=[], money=money, free_bytes=1)
    event = {"event": "progress", "step": "train", "done": 5, "total": 10, "eta_seconds": 100, "tokens_per_second": 7.0}
    for planned, said in (({"evaluate": 900.0}, "2.00 $ at the run's end"), ({}, "1.10 $ at this step's end")):
        view = View(planned)
        view.take(tick)
        view.take(EventLine(k="ev", f="a.jsonl", o=1, t=json.dumps(event)))
        assert said in view.money_text()
        assert view.progress_text() == "train 5/10, 7 tokens/s, 1 min 40 s left"
