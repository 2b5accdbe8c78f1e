"""`cai rescore`: results of older scorers are judged again by the present ones, or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measured import outputs_with, results_with

from cai_bootstrap.cli import run_command
from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import sha256_file, write_json
from cai_bootstrap.judging.scorers import SCORER_VERSION, judge
from cai_bootstrap.judging.suite import Suite
from cai_bootstrap.measuring import disagreements
from cai_bootstrap.measuring import results as results_module
from cai_bootstrap.measuring.comparison import Comparison, compare_files
from cai_bootstrap.measuring.gate import judge_file
from cai_bootstrap.measuring.rescore import rescore_file, rescored_path
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.records import Answer, EvalItem

RIVAL = {"rendering": "few-shot", "template": "Q: {instruction}\nA:", "shots": 6, "stop_rule": "first_line"}
HARSH = {"question-9", "transformation-9"}


def harsh(item: EvalItem, text: str, finished: bool) -> Answer:
    """Scorers of another version, which failed two outputs that are right."""
    found = judge(item, text, finished)
    if item.id not in HARSH or not found.success:
        return found
    failed = {"success": False, "reason": "extra_text", "first_line_success": False, "first_line_reason": "extra_text"}
    return found.model_copy(update=failed)


@pytest.fixture
def older(small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results file of version 1 of the scorers with all three sides."""
    rival = {**RIVAL, "dev_rates": {"few-shot": 0.5}, "outputs": outputs_with(small_suite, 8)}
    with monkeypatch.context() as then:
        for module in (results_module, disagreements):
            then.setattr(module, "SCORER_VERSION", "1")
        for module in (results_module, disagreements):
            then.setattr(module, "judge", harsh)
        made = results_with(small_suite, trained_failures=1, rival=rival, scorer_version="1", enforced=False)
    made["run"] = {"ledger_opening": 7}
    path = tmp_path / "old.json"
    write_json(path, made)
    return path


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    found = json.loads(path.read_text(encoding="utf-8"))
    edit(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_an_older_file_is_refused_as_it_is_and_trusted_when_scored_again(older: Path, small_suite: Suite) -> None:
    with pytest.raises(UntrustedResultError, match="scorer_version"):
        judge_file(older, suite=small_suite)
    before = older.read_bytes()
    found = rescore_file(older, suite=small_suite)
    assert older.read_bytes() == before
    assert found.path == rescored_path(older) == older.with_name(f"old.scorers-{SCORER_VERSION}.json")
    verdict = judge_file(found.path, suite=small_suite)
    assert (verdict.successes, verdict.total) == (39, 40)
    assert isinstance(compare_files(found.path, found.path, suite=small_suite), Comparison)


def test_everything_is_what_an_evaluation_by_the_present_scorers_gives(older: Path, small_suite: Suite) -> None:
    rival = {**RIVAL, "dev_rates": {"few-shot": 0.5}, "outputs": outputs_with(small_suite, 8)}
    fresh = results_with(small_suite, trained_failures=1, rival=rival, enforced=False)
    again = read_results(rescore_file(older, suite=small_suite).path, small_suite).as_dict()
    block, run = again.pop("rescored"), again.pop("run")
    assert again == json.loads(json.dumps(fresh))
    assert run == {"ledger_opening": 7}
    assert block["from_scorer_version"] == "1"
    assert block["source_sha256"] == sha256_file(older)
    assert block["not_rescored"] == ["rival.dev_rates"]
    for side in ("trained", "rival"):
        changes = {(row["id"], row["scored"], row["before"], row["after"]) for row in block["changed"][side]}
        expected = {(id, scored, "extra_text", "ok") for id in HARSH for scored in ("whole output", "first line")}
        assert changes == expected


def test_a_baseline_without_outputs_of_the_prompted_base_is_scored_again_and_says_so(
    small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "baseline.json"
    with monkeypatch.context() as then:
        for module in (results_module, disagreements):
            then.setattr(module, "SCORER_VERSION", "1")
        stated = {**RIVAL, "success_rate": 0.5, "successes": 20, "total": 40}
        write_json(path, results_with(small_suite, trained_failures=None, rival=stated, scorer_version="1"))
    found = rescore_file(path, suite=small_suite)
    assert found.block.not_rescored == ["rival.success_rate"]
    assert read_results(found.path, small_suite).models.trained is None


def flip_a_verdict(found: dict[str, Any]) -> None:
    found["items"][0]["trained"] |= {"success": True, "reason": "ok"}


def raise_a_rate(found: dict[str, Any]) -> None:
    found["models"]["trained"]["success_rate"] = 1.0


def raise_a_bound(found: dict[str, Any]) -> None:
    found["statistics"]["rates"]["trained"]["exact_lower"] = 0.99


def drop_an_item(found: dict[str, Any]) -> None:
    found["items"].pop()


def another_suite(found: dict[str, Any]) -> None:
    found["suite"]["sha256"] = "0" * 64


def contradict_a_reason(found: dict[str, Any]) -> None:
    found["items"][5]["base"] |= {"reason": "ok"}


def finish_an_unfinished_output(found: dict[str, Any]) -> None:
    found["items"][0]["trained"]["finished"] = True


def claim_the_present_version(found: dict[str, Any]) -> None:
    found["conditions"]["scorer_version"] = SCORER_VERSION


def claim_a_later_version(found: dict[str, Any]) -> None:
    found["conditions"]["scorer_version"] = "99"


@pytest.mark.parametrize(
    "edit",
    [
        flip_a_verdict,
        raise_a_rate,
        raise_a_bound,
        drop_an_item,
        another_suite,
        contradict_a_reason,
        finish_an_unfinished_output,
        claim_the_present_version,
        claim_a_later_version,
    ],
    ids=lambda edit: edit.__name__,
)
def test_a_file_that_contradicts_itself_is_refused_and_nothing_is_written(
    older: Path, small_suite: Suite, edit: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(UntrustedResultError, match=r"old\.json"):
        rescore_file(edited(older, edit), suite=small_suite)
    assert not rescored_path(older).exists()


def test_an_edited_output_breaks_the_statistics_or_stands_among_the_changes(older: Path, small_suite: Suite) -> None:
    def replace(text: str) -> Callable[[dict[str, Any]], None]:
        return lambda found: next(r for r in found["items"] if r["id"] == "question-3")["trained"].update(response=text)

    found = rescore_file(edited(older, replace("purple")), suite=small_suite)
    change = {"id": "question-3", "scored": "whole output", "before": "ok", "after": "wrong_answer"}
    assert change in [row.as_dict() for row in found.block.changed["trained"]]
    with pytest.raises(UntrustedResultError, match=r"statistics\.length\.trained"):
        rescore_file(edited(older, replace("It is purple.")), suite=small_suite)


def test_a_folder_is_no_place_to_write(older: Path, small_suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        rescore_file(older, tmp_path, suite=small_suite)


def test_scored_again_twice_remembers_both_times(
    older: Path, small_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap.measuring import rescore

    with monkeypatch.context() as then:
        for module in (results_module, disagreements, rescore):
            then.setattr(module, "SCORER_VERSION", "2")
        middle = rescore_file(older, tmp_path / "middle.json", suite=small_suite).path
    block = rescore_file(middle, suite=small_suite).block
    assert block.from_scorer_version == "2"
    assert block.before is not None
    assert block.before.from_scorer_version == "1"


def test_the_command_says_what_changed_and_exits_4_for_what_it_cannot_trust(
    older: Path, small_suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(item.model_dump_json() + "\n" for item in small_suite.items), encoding="utf-8")
    edited(older, lambda found: found["suite"].update(name="suite"))
    edited(older, lambda found: found["conditions"].update(suite_name="suite"))
    out = tmp_path / "new.json"
    assert run_command(["rescore", str(older), "--out", str(out), "--suite", str(suite)]) == 0
    said = capsys.readouterr().out
    assert "trained (whole output): 92.5% → 97.5% of 40" in said
    assert "question-9, whole output: extra_text → ok" in said
    assert "rival.dev_rates is as it was" in said
    assert run_command(["gate", str(out), "--suite", str(suite)]) == 0
    assert run_command(["rescore", str(out), "--suite", str(suite)]) == 4
    assert run_command(["rescore", str(older), "--json", "--suite", str(suite)]) == 0
