"""The report says only what is true, says what is missing, and never fails on what it finds on disk."""

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import RESULTS, RUN, baseline, evaluate, finish, generate, outputs, records, right

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.report import report
from cai_bootstrap.files import read_json, sha256_file, write_json
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.facts import flags
from cai_bootstrap.measuring.rescore import rescored_path
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.report import findings, provenance_tables, rendering
from cai_bootstrap.report.browse import principle_rows
from cai_bootstrap.report.build import build_report, report_page
from cai_bootstrap.report.data import REASONS
from cai_bootstrap.report.files import load
from cai_bootstrap.run.folder import RunFolder


def sentence(workspace: RunFolder) -> str:
    return findings.headline(load(workspace)).sentence


def measured(workspace: RunFolder, followed: int, **run: Any) -> RunFolder:
    """An evaluation in which exactly `followed` items of the quick suite were followed."""
    suite = load_suite("quick")
    texts = {item.id: Output(right(item) if n < followed else "", True) for n, item in enumerate(suite.items)}
    evaluate(workspace, suite, texts)
    finish(workspace, **run)
    return workspace


def test_the_sentence_holds_verdict_number_bounds_rival_and_labels(run: RunFolder) -> None:
    results = read_json(run.results / RESULTS)
    trained, rate = results["models"]["trained"], results["statistics"]["rates"]["trained"]
    said = sentence(run)
    number = math.floor(1000 * trained["successes"] / 520) / 10
    bound = math.floor(1000 * min(rate["exact_lower"], rate["cluster_lower"])) / 10
    rival = math.floor(1000 * results["rival"]["successes"] / 520) / 10
    assert said.startswith(f"{number:.1f}% of 520 held-out instructions followed (shown: ≥ {bound:.1f}%);")
    assert f"best prompted base {rival:.1f}% by first line" in said
    assert "gate of 95% not met" in said
    assert said.endswith("pairs labelled by agreement, constraint and critic (no known answers).")


def test_one_line_says_how_the_model_fares_without_the_line_break(small: RunFolder) -> None:
    """Beside the finding: sentence, pictures and browser are those of a file without the side."""
    suite = load_suite("quick")
    trained = {item.id: Output(right(item), True) for item in suite.items}
    evaluate(small, suite, trained)
    without = findings.headline(load(small))
    assert not any("line break" in line for line in without.more)
    evaluate(small, suite, trained, {id: Output("" if n < 6 else f"\n{out.text}", True) for n, (id, out) in
                                     enumerate(trained.items())})  # fmt: skip
    found = load(small)
    head = findings.headline(found)
    (line,) = set(head.more) - set(without.more)
    assert head.sentence == without.sentence
    assert line.startswith("Asked without the line break: 75.0%, with it 100.0% (−25.0 points, 95% interval −")
    assert line.endswith("). This does not gate.")
    assert found.measured is not None
    assert "trained_bare" not in findings.sides_of(found.measured)
    assert findings.tests_table(found.measured)[-1][0] == "Trained, asked with → without the line break, whole output"
    assert "Asked without the line break: 75.0%" in build_report(small).read_text(encoding="utf-8")


@pytest.mark.parametrize(("followed", "word"), [(24, "met"), (23, "met"), (22, "not met")])
def test_the_gate_is_judged_from_the_responses(small: RunFolder, followed: int, word: str) -> None:
    total = len(load_suite("quick").items)
    assert total == 24
    said = sentence(measured(small, followed))
    met = word if 100 * followed >= 95 * total else "not met"
    assert f"gate of 95% {met} on the subset 'quick', which does not decide Stage 1" in said


def test_a_run_that_calls_itself_passed_is_not_believed(small: RunFolder) -> None:
    found = load(measured(small, 10, verdict="passed", exit_code=0))
    head = findings.headline(found)
    assert "gate of 95% not met" in head.sentence
    assert head.more[0].startswith("run.json says “passed”; the responses say otherwise")
    assert head.tone == "bad"


def test_an_edited_results_file_gives_no_number(small: RunFolder) -> None:
    path = small.results / RESULTS
    edited = read_json(path)
    edited["models"]["trained"]["successes"] = 24
    write_json(path, edited)
    said = sentence(small)
    assert said.startswith("No verdict: the results cannot be trusted: models.trained.successes is 24")
    page = report_page(small)
    assert "Trained, asked plainly" not in page
    assert records(page)["sides"] == ["Raw base", "Best prompted base"]


def test_passing_the_gate_and_showing_95_percent_are_two_statements(small: RunFolder) -> None:
    head = findings.headline(load(measured(small, 24)))
    assert "gate of 95% met" in head.sentence
    assert any(line.startswith("That the true rate is ≥ 95% is not shown") for line in head.more)


def test_an_enforced_gate_that_failed_is_not_softened_and_a_quick_one_says_so(small: RunFolder) -> None:
    assert "which this run does not enforce" in sentence(measured(small, 5, verdict="not_enforced", exit_code=0))
    assert "does not enforce" not in sentence(measured(small, 5))


def test_gold_labels_are_named(small: RunFolder) -> None:
    path = next(small.checkpoints.glob("*/TRAINING_SUCCESS"))
    write_json(path, {**read_json(path), "labels": {"critic+gold": 12}})
    results = read_json(small.results / RESULTS)
    del results["run"]["labels"]
    write_json(small.results / RESULTS, results)
    assert sentence(small).endswith("trained on 12 pairs labelled by critic and gold (known answers were used).")


def test_an_empty_folder_gives_a_page_that_names_what_is_missing(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path / "nothing")
    page = build_report(workspace).read_text(encoding="utf-8")
    assert "No verdict: nothing has been measured here yet." in page
    for name in ("results/run.json", "baseline_assessment.json", "generation_summary.json", "TRAINING_SUCCESS"):
        assert name in page


def test_a_failed_run_says_how_it_failed_and_keeps_the_baseline(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    baseline(workspace, load_suite("quick"))
    finish(workspace, verdict="error", exit_code=124, message="the step 'train' was ended at its time limit")
    found = load(workspace)
    head = findings.headline(found)
    assert head.sentence == "No verdict: the run ended with exit code 124. the step 'train' was ended at its time limit"
    assert head.more[0].startswith("The raw base follows")
    assert "time limit" in report_page(workspace)


def test_nothing_to_teach_is_said(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    baseline(workspace, load_suite("quick"))
    finish(workspace, verdict="nothing_to_teach", exit_code=0)
    assert sentence(workspace).startswith("Nothing was trained: prompting alone")


def test_an_evaluation_of_an_earlier_run_is_not_this_runs(small: RunFolder) -> None:
    finish(small, verdict="error", exit_code=1, message="no space left", results_file=None)
    found = load(small)
    assert found.results is None
    assert any("belongs to an earlier run" in line for line in found.missing)


def each_file(workspace: RunFolder) -> list[Path]:
    return sorted(path for path in workspace.base.rglob("*") if path.is_file() and not path.name.startswith("."))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: data[:0],
    "torn": lambda data: data[: len(data) // 2],
    "binary": lambda data: b"\xff\xfe\x00" + data[:50] + b"\xc3\x28",
    "list": lambda data: b"[]\n[1]\nnull\n7\n" + data[:0],
    "wrong types": lambda data: re.sub(rb": (\d[\d.]*|true|false|null)", b': "x"', data),
    "other types": lambda data: re.sub(rb': "[^"]*"', b": 7", data),
    "nested": lambda data: b"[" * 100_000 + data[:0],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_no_damaged_files_stop_the_report(small: RunFolder, damage: str) -> None:
    for path in each_file(small):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert "No verdict" in report_page(small)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "wrong types", "other types"])
def test_no_single_damaged_file_stops_the_report(small: RunFolder, damage: str) -> None:
    for path in each_file(small):
        whole = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(DAMAGE[damage](whole))
        assert "Stage 1 report" in report_page(small), path
        path.write_bytes(whole)


def test_texts_are_cut_until_the_page_fits(small: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite("quick")
    evaluate(small, suite, {item.id: Output(f"{n} " * 3000, False) for n, item in enumerate(suite.items)})
    finish(small)
    first = report_page(small)
    assert "[2,000 more characters]" in first
    for most in (260_000, 235_000):
        monkeypatch.setattr(rendering, "MOST_BYTES", most)
        page = report_page(small)
        assert len(page.encode()) <= most < len(first.encode())
        assert len(records(page)["items"]) == 24


def test_a_whole_run_has_every_part_and_nothing_missing_or_unbelieved(run: RunFolder) -> None:
    page = report_page(run)
    assert "could not be made" not in page
    assert "Not believed" not in page
    assert "Missing from this report" not in page
    captions = [
        "Time and money by step", "Leakage report", "What humans put in", "Declared factors", "Hashes (SHA-256)",
        "Openings of the held-out items", "Where the collapse watch looked", "Principles: used, fixed, broken",
        "Diversity of the instructions", "Paired comparisons", "From instructions to pairs",
    ]  # fmt: skip
    for caption in captions:
        assert caption in page


def test_the_page_is_the_same_but_for_its_time(small: RunFolder) -> None:
    first, second = (re.sub(r"Made \S+ ", "", report_page(small)) for _ in range(2))
    assert first == second


def test_fixed_and_broken_are_judged_by_the_instructions_rule(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    generate(workspace, 40)
    rows = principle_rows(load(workspace))
    summary = read_json(workspace.data / "generation_summary.json")
    assert [row[2] for row in rows] == [used["assigned"] for used in summary["by_principle"].values()]
    judged = sum(sum(row[5:9]) for row in rows)
    assert judged == 40
    assert sum(row[5] for row in rows) > 5
    assert sum(row[6] for row in rows) > 5


def test_what_humans_put_in_is_counted_from_the_instructions(run: RunFolder) -> None:
    rows = {
        row[0]: row[1]
        for table in provenance_tables.tables(load(run))
        if table.caption == "What humans put in"
        for row in table.rows
    }
    instructions = [json.loads(line) for line in (run.data / "instructions.jsonl").read_text().splitlines()]
    known = sum(bool(row["gold"]) for row in instructions)
    assert rows["instructions with a known (gold) answer"] == f"{known:,} of 1,600"
    assert int(rows["kinds of rule that can judge an answer"]) > 10
    assert rows["known answers used for training"] == "no"
    assert rows["principles of the constitution"] == "8"


@pytest.mark.parametrize("gold", [True, False])
def test_pairs_of_later_rounds_are_told_beside_imported_ones(tmp_path: Path, gold: bool) -> None:
    workspace = RunFolder.at(tmp_path).create()
    suite = load_suite("quick")
    imported = {"source": "mine.jsonl", "sha256": "4c" * 32, "rows": 90}
    first = {"produced": 90, "by_label_source": {"imported": 90, "constraint": 0}, "imported": imported}
    write_json(workspace.data / "generation_summary.json", first)
    own = {"gold+constraint": 7} if gold else {"agreement": 7}
    labelled = {"imported": 90, **own}
    write_json(workspace.round_data(2).summary, {"produced": 20, "by_label_source": own})
    trained = outputs(suite, random.Random(3), 0.8, runs_on=0.0)
    evaluate(workspace, suite, trained, labelled=labelled)
    found = load(workspace)
    judges = "constraint and gold (known answers were used)" if gold else "agreement (no known answers)"
    sentence = findings.headline(found).sentence
    assert "90 imported pairs, whose answers and labels are not the model's" in sentence
    assert f"and on 7 of its own labelled by {judges}" in sentence
    rows = {
        row[0]: row[1]
        for table in provenance_tables.tables(found)
        if table.caption == "What humans put in"
        for row in table.rows
    }
    assert rows["known answers used for training"].startswith("yes, " if gold else "no, ")
    assert rows["pairs that a person brought"] == "90"
    assert rows["pairs of the model's own, of later rounds"] == "7"
    only = RunFolder.at(tmp_path / "only").create()
    write_json(only.data / "generation_summary.json", first)
    evaluate(only, suite, trained, labelled={"imported": 90})
    assert "of its own" not in findings.headline(load(only)).sentence


def test_the_funnel_shows_every_reason_in_full() -> None:
    assert {name: text for name, text in REASONS.items() if len(text) > 30} == {}


def test_the_command_writes_the_report_and_tells_where(
    small: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run_command(["--base-dir", str(small.base), "--json", "--open"], report) == 0
    told = json.loads(capsys.readouterr().out)
    path = small.results / "report.html"
    assert told == {"report": str(path), "bytes": path.stat().st_size, "reports": [str(path)]}
    assert opened == [path.as_uri()]


def test_time_and_money_come_from_the_rental_that_the_run_was_made_in(
    small: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_STATE_DIR", str(tmp_path / "state"))
    took = {name: step["seconds"] for name, step in read_json(small.results / "run.json")["steps"].items()}
    plan = {"steps": [{"step": "train", "seconds": 480.0, "dollars": 0.24}], "seconds": 1800.0, "dollars": 0.9}
    known = {"pod": "p", "address": "a", "started": 0, "ended": 1}
    other = {**known, "price": 99.0, "steps": took, "estimate": plan}
    write_json(tmp_path / "state" / "pods.json", {"rentals": [other]})
    assert run_command(["--base-dir", str(small.base)], report) == 0
    page = (small.results / "report.html").read_text()
    assert (
        "No rented pod is recorded for this run, so no money is shown. Planned is what this preset took, measured"
        in page
    )
    assert " $<" not in page.split("Time and money by step</caption>", 1)[1].split("</table>", 1)[0]
    write_json(
        tmp_path / "state" / "pods.json",
        {"rentals": [{**other, "price": 1.8, "run": RUN}, other, {**other, "run": "another"}]},
    )
    assert run_command(["--base-dir", str(small.base)], report) == 0
    page = (small.results / "report.html").read_text()
    cells = re.findall(r"<td>(.*?)</td>", page.split('<th scope="row">train</th>', 1)[1].split("</tr>", 1)[0])
    assert cells == ["done", "6 min 53 s", "8 min 00 s", "3 h 00 min", "0.21 $", "0.24 $"]


def test_without_a_rental_the_plan_is_what_the_preset_was_seen_to_take(small: RunFolder) -> None:
    assert run_command(["--base-dir", str(small.base)], report) == 0
    page = (small.results / "report.html").read_text()
    cells = re.findall(r"<td>(.*?)</td>", page.split('<th scope="row">evaluate</th>', 1)[1].split("</tr>", 1)[0])
    assert cells == ["done", "3 min 28 s", "13 s", "1 h 00 min", "–", "–"]
    run = read_json(small.results / "run.json")
    run["manifest"]["config"]["preset"]["value"] = "quick-test"
    write_json(small.results / "run.json", run)
    assert run_command(["--base-dir", str(small.base)], report) == 0
    assert "its preset was never timed, so no plan and no money" in (small.results / "report.html").read_text()


def test_the_hashes_of_later_rounds_data_are_in_the_manifest_and_shown(small: RunFolder) -> None:
    later = small.data / "round-2" / "preference_pairs.jsonl"
    later.parent.mkdir()
    later.write_text("{}\n")
    finish(small)
    files = read_json(small.results / "run.json")["manifest"]["files"]
    assert files["data/stage1/round-2/preference_pairs.jsonl"] == sha256_file(later)
    assert files["data/stage1/preference_pairs.jsonl"] == sha256_file(small.data / "preference_pairs.jsonl")
    assert sha256_file(later) in report_page(small)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base-dir", "/nowhere/at/all"], "no such base directory"),
        (["--live", "--compare", "a", "b"], "--live follows one run"),
        (["--out", "x.html"], "belong to --compare"),
        (["--port", "1"], "--port belongs to --live"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments, report) == 2
    assert said in capsys.readouterr().err


def test_outputs_of_the_synthetic_model_hold_failures_of_many_kinds(run: RunFolder) -> None:
    reasons = records(report_page(run))["items"]
    assert len({reason for record in reasons for reason in record["f"]["reason"]}) > 5


def test_of_too_many_pairs_some_of_each_kind_are_held_and_the_page_says_so(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    generate(workspace, 400)
    kept = (workspace.data / "preference_pairs.jsonl").read_text().splitlines(keepends=True)
    dropped = (workspace.data / "rejected_pairs.jsonl").read_text().splitlines(keepends=True)
    (workspace.data / "preference_pairs.jsonl").write_text("".join((kept * 10)[:2200]))
    (workspace.data / "rejected_pairs.jsonl").write_text("".join((dropped * 10)[:700]))
    found = records(report_page(workspace))
    assert len(found["pairs"]) == 2000
    assert sum(record["kept"] for record in found["pairs"]) == 1333
    assert (found["there"]["pairs"], found["there"]["dropped"]) == (2200, 700)


def test_held_out_skills_facts_and_length_stand_beside_the_rate(tmp_path: Path, visit: Callable[..., Any]) -> None:
    workspace = RunFolder.at(tmp_path / "facts")
    suite = load_suite("stage1")
    texts = {item.id: Output(right(item) if n % 2 else "It is so.", True) for n, item in enumerate(suite.items)}
    evaluate(workspace.create(), suite, texts, base_weights_sha256=flags().base_weights_sha256)
    trained = read_json(workspace.results / RESULTS)["models"]["trained"]
    page = visit(build_report(workspace).as_uri())
    table = page.locator("table", has=page.locator("caption", has_text="Beside the rate"))
    shown = dict(row.inner_text().split("\t", 1) for row in table.locator("tbody tr").all())
    for label, rate in (
        ("Held-out skills", trained["held_out_skills"]),
        ("Facts that prompting brings out", trained["facts"]["elicitable"]),
        ("Other facts", trained["facts"]["others"]),
    ):
        assert shown[label].endswith(f"({rate['successes']}/{rate['total']})")
    assert shown["Mean words, failed"].endswith("3.0")
    assert re.search(r"[+−]0\.\d\d$", shown["Correlation of success with length"])


def test_without_flags_of_this_base_no_facts_are_claimed(run: RunFolder) -> None:
    page = report_page(run)
    assert "Beside the rate" in page
    assert "Facts that prompting brings out" not in page


def test_a_file_that_was_scored_again_says_so_under_trust(small: RunFolder) -> None:
    path = small.results / RESULTS
    assert "Scored again by other scorers" not in report_page(small)
    change = {"id": "dev.x", "scored": "first line", "before": "ok", "after": "list"}
    block = {"from_scorer_version": "1", "source_sha256": "d" * 64, "changed": {"rival": [change]}}
    later = {"from_scorer_version": "2", "changed": {}, "not_rescored": ["rival.dev_rates"], "before": block}
    write_json(path, {**read_json(path), "rescored": later})
    page = report_page(small)
    assert "Scored again by other scorers" in page
    assert "dev.x, first line: ok → list" in page
    assert "rival.dev_rates" in page


def test_the_report_shows_the_file_that_was_scored_again_and_says_how_where_there_is_none(small: RunFolder) -> None:
    path = small.results / RESULTS
    results = read_json(path)
    write_json(path, {**results, "conditions": {**results["conditions"], "scorer_version": "1"}})
    assert "`cai rescore` judges the outputs of an older file again" in sentence(small)
    write_json(rescored_path(path), {**results, "rescored": {"from_scorer_version": "1"}})
    assert "held-out instructions followed" in sentence(small)
