"""The constitution stage's page: every principle in every arm, answers, turns, judges, and both stages' pages."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from principled import obedient, prompts
from steered import OWN, RESULTS, make_constitution_run, mixed, results
from synthetic import make_run, records
from test_hostile import HOSTILE
from test_page import PHONE, axe, shown

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.report import report, write_report
from cai_bootstrap.measuring.principles.declared import JudgeRecord
from cai_bootstrap.measuring.principles.results import write_principle_results
from cai_bootstrap.report.build import build_report, report_page
from cai_bootstrap.report.principles.data import reason
from cai_bootstrap.report.principles.files import load_steering
from cai_bootstrap.report.stages import stages_of
from cai_bootstrap.report.training import pictures
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder

Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run. Tests do not change it."""
    return make_constitution_run(tmp_path_factory.mktemp("steered"))


@pytest.fixture
def own(tmp_path: Path) -> RunFolder:
    """A finished run, which a test may change."""
    return make_constitution_run(tmp_path / "own")


@pytest.fixture(scope="module")
def path(steered: RunFolder) -> Path:
    return build_report(steered)


def cells(page: str, caption: str) -> list[list[str]]:
    """The rows of the table with this caption, as texts."""
    table = page.split(f">{caption}</caption>", 1)[1].split("</table>", 1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>", 1)[1], re.S)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]


def test_rates_of_every_principle_stand_in_every_arm_with_intervals_and_the_strict_rate_beside(path: Path) -> None:
    rows = {name: row for name, *row in cells(path.read_text(), "Principles by arm")}
    assert set(rows) == {"thanks", "asks", "warn"}
    base, rival, trained, control, lower, strict = rows["thanks"]
    assert base.startswith("0.0% [0–")
    assert rival.startswith("100.0% [9")
    assert trained.startswith("80.0% [68–88], 48/60")
    assert control.startswith("0.0%")
    assert 0 < float(lower.rstrip("%")) < 80
    assert strict == "80.0%"


def test_what_was_found_names_the_kind_of_thing_learnt_with_its_evidence(path: Path) -> None:
    page = path.read_text()
    rows = {name: row for name, *row in cells(page, "What was found")}
    steers, held, _, _, kind, evidence = rows["warn"]
    assert (steers, held, kind) == ("yes", "no", "a principle")
    assert "where it applies" in evidence
    assert "points (lower bound" in evidence
    assert "rule-selected pairs" in rows["thanks"][-1]
    assert "warn: " in page
    assert "learned as a principle: obeyed in" in page
    assert "1 principle" in page


def test_lifts_elsewhere_joint_and_what_stands_beside_are_there_with_their_figures(path: Path) -> None:
    page = path.read_text()
    lifts = {name: row for name, *row in cells(page, "Lifts")}
    assert lifts["thanks, over the raw base"][0] == "+80.0"
    assert lifts["thanks, over the raw base"][4] == "48 / 0"
    elsewhere = {name: row for name, *row in cells(page, "Elsewhere")}
    assert elsewhere["warn: where it does not apply"][2].endswith("/64")
    assert elsewhere["thanks: unseen kinds"][2].endswith("/12")
    assert cells(page, "All principles together")[0][0] == "by first line"
    beside = {name: row for name, *row in cells(page, "Beside the principles")}
    assert beside["Known answers given"] == ["50.0% (40/80)", "47.5% (38/80)", "−2.5 points"]
    assert beside["Perplexity of neutral text"][-1] == "×1.50"
    assert beside["Stage 1&#39;s items followed, before and after"][-1] == "−1.7 points"
    ways = {name: row for name, *row in cells(page, "The trained model asked in other ways")}
    assert ways["thanks"][1:] == ["50.0% (30/60)", "75.0% (30/40)"]
    judges = {name: row for name, *row in cells(page, "Judges and their calibration")}
    assert judges["thanks"][1:4] == ["0.95", "0.9", "yes"]
    for caption in ("How answers begin", "Time and money by step", "Declared factors", "Hashes (SHA-256)",
                    "Configuration, and where each value came from", "The constitution manners"):  # fmt: skip
        assert f">{caption}</caption>" in page


def test_a_judge_that_is_not_trusted_finds_nothing_and_says_why(own: RunFolder) -> None:
    judge = JudgeRecord(kind="check", kappa=0.3, kappa_lower=0.1, trusted=False, why="κ is below 0.6")
    write_principle_results(own.results / RESULTS, results(thanks=judge))
    page = report_page(own)
    found = {name: row for name, *row in cells(page, "What was found")}
    assert found["thanks"][:4] == ["not judged"] * 4
    assert {name: row for name, *row in cells(page, "Judges and their calibration")}["thanks"][3:] == [
        "no", "κ is below 0.6",
    ]  # fmt: skip


def test_each_principles_turn_is_counted_and_so_is_the_controls(path: Path) -> None:
    page = path.read_text()
    turns = {name: row for name, *row in cells(page, "What became of each principle&#39;s turn")}
    assert turns["asks"] == ["24", "0", "0", "6", "6", "1", "0", "3", "–", "lost what thanks had added 1"]
    assert turns["thanks"][7] == "15 (rule-selected)"
    assert turns["warn"][:3] == ["8", "8", "8"]
    assert turns["warn"][-2] == "0.61"
    steps = [row[:2] for row in cells(page, "From prompts to pairs")]
    assert steps == [
        ["prompts", "24"], ["lost what thanks had added", "−1"], ["revision changed too little", "−8"],
        ["preference pairs", "15"], ["duplicate", "−1"], ["sound pairs, trained on", "14"],
    ]  # fmt: skip
    assert cells(page, "The control&#39;s turns")[0][0] == "colour"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("first_answer_echo", "first answer: repeats the prompt"),
        ("counter_run_on", "text to be rejected: runs on"),
        ("loses:thanks", "lost what thanks had added"),
        ("misses:where", "does not obey where"),
        ("a_new_one", "a new one"),
    ],
)
def test_reasons_are_told_in_words(name: str, words: str) -> None:
    assert reason(name) == words


def test_the_curves_are_the_evaluated_adapters_and_not_the_controls(steered: RunFolder) -> None:
    run = load_steering(steered)
    assert [row.event.figures["loss"] for row in run.training] == [2.0 / n for n in range(1, 10)]
    assert run.evaluated is not None
    assert run.evaluated.folder == OWN
    assert len(pictures(run)) == 1
    trainings = {row[0]: row for row in cells(report_page(steered), "Finished trainings")}
    assert [row[-1] for row in trainings.values()] == ["yes", "as control"]


def test_filters_by_principle_arm_verdict_kind_and_split_come_true(path: Path, visit: Visit) -> None:
    page = visit(path.as_uri())
    assert shown(page, "prompts").startswith("200 of 200")
    page.select_option("#prompts-filters select[name=principle]", "warn")
    assert shown(page, "prompts").startswith("128 of 200")
    page.select_option("#prompts-filters select[name=verdict]", "right")
    right = int(shown(page, "prompts").split()[0])
    page.select_option("#prompts-filters select[name=arm]", label="Raw base")
    assert shown(page, "prompts").startswith("64 of 200")  # it warns of nothing, which is right of half
    assert right > 100
    page.select_option("#prompts-filters select[name=verdict]", "yes")
    assert shown(page, "prompts").startswith("0 of 200")
    page.click("#prompts-filters button[type=reset]")
    expect(page.locator("#prompts-count")).to_contain_text("200 of 200")
    page.select_option("#prompts-filters select[name=verdict]", "no")
    trained = int(shown(page, "prompts").split()[0])
    assert trained == sum(not all(item.trained.holds.values()) for item in results().items if item.trained)
    page.click("#prompts-filters button[type=reset]")
    page.select_option("#prompts-filters select[name=kind]", "request")
    assert shown(page, "prompts").startswith("12 of 200")
    page.select_option("#prompts-filters select[name=split]", "unseen kind")
    assert shown(page, "prompts").startswith("12 of 200")
    assert not page.is_visible("#pairs-filters select[name=kind]")  # all are questions: nothing to choose


def test_a_false_alarm_is_shown_as_wrong_and_silence_there_as_right(path: Path, visit: Visit) -> None:
    page = visit(path.as_uri())
    page.select_option("#prompts-filters select[name=split]", "matched: warn does not apply")
    page.select_option("#prompts-filters select[name=verdict]", "yes")
    card = page.locator("#prompts-cards .card").first
    trained = card.locator(".text", has_text="Trained")
    assert "✗ obeys warn, which does not apply" in trained.inner_text()
    assert "no" in str(trained.get_attribute("class"))
    base = card.locator(".text", has_text="Raw base")
    assert "✓ does not obey warn, which does not apply" in base.inner_text()


def test_pairs_show_the_critique_and_revision_of_each_principle_in_turn(path: Path, visit: Visit) -> None:
    page = visit(path.as_uri())
    page.fill("#pairs-filters input", "train.12.pair")
    text = page.locator("#pairs-cards .card").first.inner_text()
    order = ["Chosen", "Rejected", "First answer", "Critique: thanks", "Revision: thanks", "Critique: asks",
             "Revision: asks", "Revision: warn, to be rejected"]  # fmt: skip
    assert [text.index(f"{name}\n") for name in order] == sorted(text.index(f"{name}\n") for name in order)
    page.click("#pairs-filters button[type=reset]")
    page.select_option("#pairs-filters select[name=outcome]", "loses:thanks")
    assert "draw 4, fault: loses:thanks" in page.locator("#pairs-cards .card").first.inner_text()


def test_losses_come_first_then_gains(own: RunFolder) -> None:
    over = prompts()
    answer = {prompt.id: "It is." for prompt in over if prompt.id in {"q-1", "q-7"}}
    write_principle_results(own.results / RESULTS, results(trained=obedient, answer=answer))
    changes = [record["f"]["change"][0] for record in records(report_page(own))["prompts"]]
    assert changes == sorted(changes, key=["no longer obeys", "now obeys", "unchanged"].index)
    assert set(changes) == {"now obeys", "unchanged"}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(path: Path, visit: Visit, scheme: str) -> None:
    page = visit(path.as_uri(), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert axe(page) == []


@pytest.mark.slow
def test_axe_finds_nothing_serious_on_a_phone(path: Path, visit: Visit) -> None:
    assert axe(visit(path.as_uri(), **PHONE)) == []


@pytest.mark.parametrize("width", [320, 768])
def test_no_sideways_scrolling_on_small_screens(path: Path, visit: Visit, width: int) -> None:
    page = visit(path.as_uri(), viewport={"width": width, "height": 800}, is_mobile=True)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_answers_stay_text(tmp_path: Path, visit: Visit) -> None:
    answer = {prompt.id: HOSTILE[n % len(HOSTILE)][:300] for n, prompt in enumerate(prompts())}
    page = visit(build_report(make_constitution_run(tmp_path, answer=answer)).as_uri())
    page.fill("#prompts-filters input", "onerror")
    assert HOSTILE[0] in page.locator("#prompts-cards .card").first.inner_text()
    assert page.evaluate("document.querySelectorAll('[onerror], [onload], [onclick]').length") == 0
    assert page.evaluate("document.scripts.length") == 2


def test_results_that_were_changed_are_named_and_not_shown(own: RunFolder) -> None:
    file = own.results / RESULTS
    content = json.loads(file.read_text())
    content["principles"]["thanks"]["trained"]["rate"] = 0.99
    file.write_text(json.dumps(content))
    page = report_page(own)
    assert "No verdict: the results cannot be trusted: principles.thanks.trained.rate" in page
    assert "Not believed" in page
    assert "What was found" not in page


def test_the_records_verdict_does_not_stand_against_the_answers(own: RunFolder) -> None:
    record = json.loads(own.record.read_text())
    own.record.write_text(json.dumps({**record, "verdict": "held"}))
    page = report_page(own)
    assert "The run&#39;s record says “held”; the answers say otherwise" in page
    assert 'id="headline" class="bad"' in page


def test_a_baseline_alone_and_an_empty_folder_have_a_page_that_says_what_is_missing(own: RunFolder) -> None:
    (own.results / RESULTS).unlink()
    own.record.unlink()
    page = report_page(own)
    assert "Baseline only: a baseline of 3 judged principles" in page
    assert "no trained model was evaluated" in page
    empty = report_page(RunFolder.at(own.base / "nothing", stage=CONSTITUTION))
    assert "No verdict: nothing has been measured here yet." in empty


def test_damaged_files_are_named_and_the_page_is_made(own: RunFolder) -> None:
    files = [file for file in own.base.rglob("*") if file.is_file()]
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] + b'\xff{"')
        assert "Constitution report" in report_page(own), file
        file.write_bytes(whole)


def test_two_stages_have_a_page_each_linked_and_neither_shows_the_others_files(own: RunFolder, visit: Visit) -> None:
    first = make_run(own.base, suite_name="quick", count=16)
    before = write_report(first)
    assert before.name == "report.html"
    after = write_report(own)
    assert after.name == "constitution_report.html"
    assert [folder.stage.name for folder in stages_of(first)] == ["instructions", "constitution"]
    page = visit(after.as_uri())
    page.click("text=Stage 1 report")
    assert page.inner_text(".brand strong") == "Stage 1 report"
    assert "240 training steps are recorded" in page.inner_text("#training")
    page.click("text=Constitution report")
    assert "9 training steps are recorded" in page.inner_text("#training")


def test_a_stage_that_is_alone_links_to_no_other_page(path: Path, page_path: Path) -> None:
    assert 'href="report.html"' not in path.read_text()
    assert 'href="constitution_report.html"' not in page_path.read_text()


def test_the_command_writes_each_stages_page_or_the_named_ones(own: RunFolder, capsys: Any) -> None:
    base = ["--base-dir", str(own.base)]
    assert run_command(base, report) == 0
    assert capsys.readouterr().out.split() == [str(own.report)]
    first = make_run(own.base, suite_name="quick", count=16)
    assert run_command([*base, "--json"], report) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reports"] == [str(first.report), str(own.report)]
    assert told["report"] == str(own.report)
    assert run_command([*base, "--stage", "instructions"], report) == 0
    assert capsys.readouterr().out.split() == [str(first.report)]
    assert run_command([*base, "--data-dir", str(own.data)], report) == 2
    assert "add --stage" in capsys.readouterr().err


def test_the_live_page_follows_the_newest_runs_stage(own: RunFolder) -> None:
    from cai_bootstrap.cli.report import _newest

    first = make_run(own.base, suite_name="quick", count=16)  # the day before
    assert _newest([first, own]) is own
    live = report_page(own, live=True)
    assert 'id="live-line"' in live
    assert 'href="report.html"' not in live  # it is not served


def test_the_run_that_the_steps_make_has_a_page_with_nothing_unbelieved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_constitution_stage import Workbench

    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    bench = Workbench(tmp_path / "base", monkeypatch)
    bench.run()
    page = write_report(bench.workspace).read_text()
    assert "Not believed" not in page
    assert "Constitution thanks: 1 of 1 judged principles held" in page
    assert len(records(page)["pairs"]) == 24
    assert any("Revision: thanks" in name for name, _ in records(page)["pairs"][0]["t"])
    control = [row[0] for row in cells(page, "Finished trainings")]
    assert len(control) == 2
    pairs = bench.workspace.round_data(1).pairs
    pairs.write_text(pairs.read_text().replace("Thank you", "Cheers"))
    assert "was changed after the step" in report_page(bench.workspace)
    file = next(iter(bench.workspace.evaluations()))
    file.rename(file.with_name("constitution_evaluation_20990101T000000Z.json"))
    assert "no step of this base directory wrote this file" in report_page(bench.workspace)


def test_mixed_answers_hold_what_the_tests_above_count() -> None:
    over = prompts()
    thanks = sum(mixed(prompt, at).startswith("Thanks") for at, prompt in enumerate(over[:60]))
    assert thanks == 48
