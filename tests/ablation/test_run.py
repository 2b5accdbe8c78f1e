"""The scheduler: order, needs, cards, resuming, and a failure that stays alone. No model and no process."""

import contextlib
import errno
import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stubs import resolved_of

from cai_bootstrap.ablation import run as running
from cai_bootstrap.ablation.outcome import AblationTable, Outcome, RateRow, compare, read_outcome, write_outcome
from cai_bootstrap.ablation.plan import Contrast, VariationSet, load_set
from cai_bootstrap.ablation.show import plot, print_tables, rate_text
from cai_bootstrap.errors import DataError, UsageError
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.supervise import Ended, Signals

SET = """
name: mine
variations:
  - {name: prompts, group: "1", what: p, kind: prompting}
  - {name: a, group: "3", what: a}
  - {name: b, group: "3", what: b, settings: {training.epochs: 9}}
  - {name: after-a, group: "6", what: f, kind: forgetting, needs: a}
  - {name: maybe, group: "6", what: i, kind: ifbench, needs: a, optional: true}
contrasts:
  - {name: a over the base, before: "shared:strict", after: "a:strict"}
"""


class Processes:
    """Stands in for the processes: each writes an outcome, as told by `ends`; the rest are done."""

    def __init__(self, **ends: str) -> None:
        self.ends = ends
        self.started: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def __call__(self, command: Sequence[str], *, timeout: float, log: Path, signals: Any) -> Ended:
        job = json.loads(Path(command[-1]).read_text())
        name = job["variation"]["name"] if job["variation"] else "shared"
        assert timeout > 0
        assert not signals.received
        with self._lock:
            self.started.append((name, command[1] if command[0] == "env" else ""))
        status = self.ends.get(name, "done")
        if status == "killed":
            return Ended(137, 1.0)
        message = None if status == "done" else "why"
        crowded = status == "crowded"  # the first time
        if crowded:
            self.ends.pop(name)
            status = "failed"
        outcome = Outcome(name, status, job["fingerprint"], message, out_of_memory=crowded)  # type: ignore[arg-type]
        right = name != "shared"
        outcome.add("strict", {f"i{n}": right or n % 2 == 0 for n in range(20)})
        write_outcome(log.parent, outcome)
        return Ended(0, 1.0)


@pytest.fixture
def plan(tmp_path: Path) -> VariationSet:
    path = tmp_path / "set.yaml"
    path.write_text(SET)
    return load_set(path)


def start(
    plan: VariationSet, base: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> AblationTable:
    monkeypatch.setattr(running, "supervise", processes)
    values = more.pop("values", {})
    return running.run_set(plan, resolved_of(**values), RunFolder.at(base), **more)


def statuses(table: AblationTable) -> dict[str, str]:
    return {entry.name: entry.status for entry in table.variations}


def test_measurements_come_first_and_the_shared_run_just_before_the_first_training(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes()
    content = start(plan, tmp_path / "base", processes, monkeypatch)
    assert [name for name, _ in processes.started] == ["prompts", "shared", "a", "b", "after-a", "maybe"]
    assert set(statuses(content).values()) == {"done"}
    assert json.loads((tmp_path / "base/results/ablation.json").read_text()) == content.as_json()


def test_a_failure_stays_alone_and_what_needs_it_is_not_run(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = start(plan, tmp_path / "base", Processes(a="failed", prompts="killed"), monkeypatch)
    assert statuses(content) == {
        "shared": "done", "prompts": "failed", "a": "failed", "b": "done", "after-a": "not_run", "maybe": "not_run",
    }  # fmt: skip
    messages = {entry.name: entry.message for entry in content.variations}
    assert messages["after-a"] == "needs 'a', which did not finish"
    assert "ended with code 137" in messages["prompts"]


def test_what_found_no_memory_beside_others_is_run_again_alone_with_what_needs_it(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes(a="crowded", b="failed")
    content = start(plan, tmp_path / "base", processes, monkeypatch, devices=["3"], at_once=2)
    assert [name for name, _ in processes.started[-3:]] == ["a", "after-a", "maybe"]
    assert statuses(content) == {**dict.fromkeys(["shared", "prompts", "a", "after-a", "maybe"], "done"), "b": "failed"}
    alone = Processes(a="crowded")
    content = start(plan, tmp_path / "other", alone, monkeypatch, devices=["3"])
    assert statuses(content)["a"] == "failed"


def test_started_again_only_what_is_not_finished_runs(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(plan, tmp_path / "base", Processes(b="failed"), monkeypatch)
    again = Processes()
    content = start(plan, tmp_path / "base", again, monkeypatch)
    assert [name for name, _ in again.started] == ["b"]
    assert set(statuses(content).values()) == {"done"}


def test_another_configuration_is_another_set_of_outcomes(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(plan, tmp_path / "base", Processes(), monkeypatch)
    again = Processes()
    start(plan, tmp_path / "base", again, monkeypatch, values={"training__epochs": 7})
    assert len(again.started) == 6


def test_a_constitution_with_other_words_is_another_set_of_outcomes(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("principles:\n  - {id: short, text: Be short., category: form}\n")
    values = {"constitution": str(path)}
    start(plan, tmp_path / "base", Processes(), monkeypatch, values=values)
    path.write_text("# A comment changes nothing.\n" + path.read_text())
    same, other = Processes(), Processes()
    start(plan, tmp_path / "base", same, monkeypatch, values=values)
    path.write_text(path.read_text().replace("Be short.", "Be long."))
    start(plan, tmp_path / "base", other, monkeypatch, values=values)
    assert (len(same.started), len(other.started)) == (0, 6)


@pytest.mark.parametrize("rules", ["SCORER_VERSION", "PROMPT_VERSION", "LABEL_VERSION"])
def test_other_rules_are_another_set_of_outcomes(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    start(plan, tmp_path / "base", Processes(), monkeypatch, only="prompts")
    monkeypatch.setattr(running, rules, "another")
    again = Processes()
    start(plan, tmp_path / "base", again, monkeypatch, only="prompts")
    assert [name for name, _ in again.started] == ["prompts"]


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_a_model_with_other_weights_is_another_set_of_outcomes(
    plan: VariationSet, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The GGUF file is no real one: it is hashed here, and read by nobody."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = folder / ("model.safetensors" if form == "folder" else "model.gguf")
    values = {"model": str(folder if form == "folder" else weights)}
    first = (folder / "model.safetensors").read_bytes()
    started = []
    for content in (first, first, first[:-4] + b"\0\0\0\1"):
        weights.write_bytes(content)
        processes = Processes()
        start(plan, tmp_path / "base", processes, monkeypatch, values=values)
        started.append(len(processes.started))
    assert started == [6, 0, 6]


def test_only_runs_what_is_named_and_shows_what_was_finished_before(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Processes()
    assert statuses(start(plan, tmp_path / "base", first, monkeypatch, only="prompts")) == {"prompts": "done"}
    second = Processes()
    content = start(plan, tmp_path / "base", second, monkeypatch, only="after-a")
    assert [name for name, _ in second.started] == ["shared", "a", "after-a"]
    assert set(statuses(content)) == {"shared", "prompts", "a", "after-a"}


def test_only_prepares_no_model_for_what_is_neither_named_nor_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(SET.replace("{training.epochs: 9}", "{model: other/model}"))
    plan = load_set(path)
    asked: list[str] = []

    def weights(model: str, _: str | None) -> list[str]:
        asked.append(model)
        return [model]

    def gone(model: str, revision: str | None) -> list[str]:
        if weights(model, revision) == ["other/model"]:
            raise DataError("the model is gone")
        return [model]

    monkeypatch.setattr(running, "_weights", weights)
    start(plan, tmp_path / "base", Processes(b="failed"), monkeypatch, only="prompts,b")
    assert "other/model" in asked
    asked.clear()
    start(plan, tmp_path / "base", Processes(), monkeypatch, only="prompts")
    assert "other/model" not in asked
    assert set(statuses(start(plan, tmp_path / "base", Processes(), monkeypatch, only="b"))) == {
        "shared", "prompts", "b",
    }  # fmt: skip
    monkeypatch.setattr(running, "_weights", gone)
    asked.clear()
    shown = statuses(start(plan, tmp_path / "base", Processes(), monkeypatch, only="prompts"))
    assert set(shown) == {"shared", "prompts"}
    assert "other/model" in asked
    with pytest.raises(DataError, match="the model is gone"):
        start(plan, tmp_path / "base", Processes(), monkeypatch, only="b")


def test_each_card_serves_one_process_that_sees_only_that_card(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes()
    content = start(plan, tmp_path / "base", processes, monkeypatch, devices=["0", "3"])
    assert set(statuses(content).values()) == {"done"}
    assert {card for _, card in processes.started} <= {"CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=3"}
    names = [name for name, _ in processes.started]
    assert names.index("shared") < names.index("a") < names.index("after-a")


def test_several_variations_may_share_a_card(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`a` and `b` meet: neither ends before the other has begun."""
    meeting = threading.Barrier(2)

    class Meeting(Processes):
        def __call__(self, command: Sequence[str], *, timeout: float, log: Path, signals: Any) -> Ended:
            if log.parent.name in {"a", "b"}:
                meeting.wait(timeout=30)
            return super().__call__(command, timeout=timeout, log=log, signals=signals)

    processes = Meeting()
    content = start(plan, tmp_path / "base", processes, monkeypatch, devices=["0"], at_once=2)
    assert set(statuses(content).values()) == {"done"}
    assert {card for _, card in processes.started} == {"CUDA_VISIBLE_DEVICES=0"}
    assert sorted(name for name, _ in processes.started) == ["a", "after-a", "b", "maybe", "prompts", "shared"]
    assert content.made.at_once == 2


@pytest.mark.parametrize("failing", ["on_end", "keep"])
def test_an_end_that_cannot_be_told_or_kept_stops_every_card(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The terminal is gone (EIO) or the disk is full: `run_set` ends with that error, and starts nothing after it."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "cannot be written")

    more = {"on_end": fail} if failing == "on_end" else {}
    if failing == "keep":
        monkeypatch.setattr(running._TableFile, "write", fail)
    processes = Processes()
    raised: list[OSError] = []

    def work() -> None:
        try:
            start(plan, tmp_path / "base", processes, monkeypatch, devices=["0", "1"], only="a", **more)
        except OSError as error:
            raised.append(error)

    monkeypatch.setattr(Signals, "listening", contextlib.nullcontext)  # signals are for the main thread only
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert [error.errno for error in raised] == [errno.EIO]
    assert [name for name, _ in processes.started] == ["shared"]


def test_every_variation_is_measured_on_dev_with_its_own_settings(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    start(plan, base, Processes(), monkeypatch, values={"evaluation__suite": "stage1", "training__rounds": 3})
    for name in ("shared", "a", "b", "prompts"):
        config = json.loads((base / "ablation" / name / "job.json").read_text())["config"]
        assert config["evaluation.suite"] == "stage1-dev"
        assert config["training.rounds"] == 1
        assert config["training.epochs"] == (9 if name == "b" else 3.0)
        shared = str(base / "ablation" / "shared" / "data" / "stage1")
        assert config["paths.data_dir"] == (shared if name in {"a", "b"} else None)


def test_a_suite_with_test_items_is_refused(
    plan: VariationSet, tmp_path: Path, tiny_suites: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="compared on dev only"):
        start(plan, tmp_path / "b", Processes(), monkeypatch, values={"evaluation__dev_suite": str(tiny_suites[0])})
    assert not (tmp_path / "b").exists()


def test_contrasts_are_paired_and_left_out_where_the_items_differ() -> None:
    before, after, other = Outcome("x", "done"), Outcome("y", "done"), Outcome("z", "done")
    before.add("r", {f"i{n}": n < 2 for n in range(12)})
    after.add("r", {f"i{n}": n > 0 for n in range(12)})
    other.add("r", {"i0": True})
    contrasts = [Contrast(name=n, before="x:r", after=f"{a}:r") for n, a in (("gain", "y"), ("no", "z"), ("none", "q"))]
    found = compare(contrasts, {"x": before, "y": after, "z": other})
    assert [comparison.name for comparison in found] == ["gain"]
    assert (found[0].gained, found[0].lost, found[0].n) == (10, 1, 12)
    assert found[0].lift == pytest.approx(9 / 12)
    assert found[0].mcnemar_p == pytest.approx(24 / 2**11)


def test_table_and_plot_show_every_rate_with_its_interval(
    plan: VariationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = start(plan, tmp_path / "base", Processes(b="failed"), monkeypatch)
    print_tables(content)
    shown = capsys.readouterr().out
    assert "50.0% [30–70]" in shown
    assert "failed: why" in shown
    assert "a over the base" in shown
    assert rate_text(RateRow(row="r", successes=10, total=20, rate=0.5, wilson=(0.3, 0.7))) == "50.0% [30–70]"
    files = plot(content, tmp_path)
    assert [path.suffix for path in files] == [".svg", ".png"]
    assert files[1].read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in files[0].read_text()


def test_cards_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert running.visible_devices(None) == ["2", "5"]
    assert running.visible_devices("0, 1") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert running.visible_devices(None) == []


def test_the_published_table_is_read_and_written_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "docs/measured/ablation-default.json"
    table = AblationTable.model_validate(json.loads(path.read_text()))
    assert json.dumps(table.as_json(), indent=2, ensure_ascii=False) == path.read_text().rstrip("\n")
    print_tables(table)
    assert "any of 8 (oracle)" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"seconds": "long"}, {"verdicts": {"strict": [1]}}, {"newer": True}])
def test_an_outcome_with_a_field_of_another_type_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_outcome(tmp_path, Outcome("a", "done"))
    assert read_outcome(tmp_path) == Outcome("a", "done")
    path = tmp_path / "outcome.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert read_outcome(tmp_path) is None
