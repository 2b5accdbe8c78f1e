"""The trained model asked without the line break: a side beside, checked like the others, that never gates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measured import ADAPTER, asked_bare, bare_with, conditions_for, measured, outputs_with, results_with

from cai_bootstrap.cli.screen import final_table
from cai_bootstrap.errors import DataError, UntrustedResultError
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.suite import Suite, load_suite, references
from cai_bootstrap.measuring import disagreements
from cai_bootstrap.measuring import results as results_module
from cai_bootstrap.measuring.comparison import Comparison, compare_files
from cai_bootstrap.measuring.gate import judge_file
from cai_bootstrap.measuring.rescore import rescore_file
from cai_bootstrap.measuring.results import Output, build_results, read_results
from cai_bootstrap.measuring.side_figures import bare_line

Write = Callable[..., Path]
Edit = Callable[[dict[str, Any]], None]


def rate_up(results: dict[str, Any]) -> None:
    results["models"]["trained_bare"]["successes"] += 1


def rate_down(results: dict[str, Any]) -> None:
    results["models"]["trained_bare"]["success_rate"] = 0.1


def verdict_up(results: dict[str, Any]) -> None:
    results["items"][0]["trained_bare"] |= {"success": True, "reason": "ok"}


def verdict_down(results: dict[str, Any]) -> None:
    results["items"][39]["trained_bare"] |= {"success": False, "reason": "hedged"}


def interval(results: dict[str, Any]) -> None:
    results["statistics"]["rates"]["trained_bare"]["exact_lower"] = 0.99


def lift(results: dict[str, Any]) -> None:
    results["statistics"]["bare"]["lift"]["estimate"] = 0.0


def no_comparison(results: dict[str, Any]) -> None:
    del results["statistics"]["bare"]


def a_response_gone(results: dict[str, Any]) -> None:
    del results["items"][7]["trained_bare"]


def block_gone(results: dict[str, Any]) -> None:
    del results["models"]["trained_bare"]


def other_adapter(results: dict[str, Any]) -> None:
    results["models"]["trained_bare"]["factors"]["adapter"] = "d" * 64


def other_model(results: dict[str, Any]) -> None:
    results["models"]["trained_bare"]["factors"]["model"] = "larger"


def plainly(results: dict[str, Any]) -> None:
    results["models"]["trained_bare"]["factors"]["rendering"] = results["models"]["trained"]["factors"]["rendering"]


def stopped(results: dict[str, Any]) -> None:
    results["models"]["trained_bare"]["factors"]["stop_rule"] = "first_line"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (rate_up, r"models\.trained_bare\.successes is 31, the responses give 30"),
        (rate_down, r"models\.trained_bare\.success_rate is 0\.1"),
        (verdict_up, r"items\[question-0\]\.trained_bare: the file says followed"),
        (verdict_down, r"\.trained_bare: the file says failed \(hedged\)"),
        (interval, r"statistics\.rates\.trained_bare\.exact_lower"),
        (lift, r"statistics\.bare\.lift\.estimate is 0\.0"),
        (no_comparison, r"statistics\.bare is missing"),
        (a_response_gone, "1 of 40 items hold no trained_bare response"),
        (block_gone, r"models\.trained_bare and the items' trained_bare responses are not both there"),
        (other_adapter, r"models\.trained_bare\.factors\.adapter is 'dddd.*of the trained model it is 'cccc"),
        (other_model, r"models\.trained_bare\.factors\.model is 'larger'"),
        (plainly, r"models\.trained_bare\.factors\.rendering: Input should be 'bare'"),
        (stopped, r"models\.trained_bare\.factors\.stop_rule: Input should be 'eos'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whoever_reads_refuses_a_bare_side_that_disagrees_up_or_down(
    small_suite: Suite, tmp_path: Path, edit: Edit, named: str
) -> None:
    results = results_with(small_suite, trained_failures=1, bare_failures=10)
    edit(results)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    with pytest.raises(UntrustedResultError, match=named) as refused:
        judge_file(path, suite=small_suite)
    assert refused.value.exit_code == 4


def test_the_gate_judges_the_trained_side_alone(small_suite: Suite, write: Write) -> None:
    """What it says of a model does not depend on how the model fares without the line break."""
    without = judge_file(write(results_with(small_suite, trained_failures=2)), suite=small_suite)
    beside = judge_file(write(results_with(small_suite, trained_failures=2, bare_failures=40)), suite=small_suite)
    assert beside == without
    assert beside.passed
    failed = judge_file(write(results_with(small_suite, trained_failures=3, bare_failures=0)), suite=small_suite)
    assert not failed.passed


def test_a_bare_answer_longer_than_its_tokens_is_refused(small_suite: Suite, write: Write) -> None:
    bare = {**bare_with(small_suite, 0), "question-0": Output("\n" + "red " * 32, True)}
    results = build_results(
        suite=small_suite,
        conditions=conditions_for(small_suite, max_new_tokens=32),
        base=measured(outputs_with(small_suite, 30)),
        trained=measured(outputs_with(small_suite, 0), ADAPTER),
        trained_bare=asked_bare(bare),
        enforced=True,
    )
    with pytest.raises(
        UntrustedResultError, match=r"items\[question-0\]\.trained_bare: a finished response of 32 words"
    ):
        judge_file(write(results.as_dict()), suite=small_suite)


def test_a_file_without_the_side_has_no_word_of_it(small_suite: Suite, write: Write) -> None:
    """An older file is read as it is, and written again byte for byte."""
    older = results_with(small_suite, trained_failures=2)
    assert "bare" not in json.dumps(older)
    read = read_results(write(older), small_suite)
    assert read.as_dict() == older
    assert (read.models.trained_bare, bare_line(read)) == (None, None)


def test_a_file_with_the_side_survives_writing_and_reading(small_suite: Suite, write: Write) -> None:
    results = results_with(small_suite, trained_failures=1, bare_failures=10)
    assert results["models"]["trained_bare"]["factors"] == {
        **results["models"]["trained"]["factors"], "rendering": "bare",
    }  # fmt: skip
    assert read_results(write(results), small_suite).as_dict() == json.loads(json.dumps(results))


def test_the_line_names_both_rates_and_what_is_lost(small_suite: Suite, write: Write) -> None:
    read = read_results(write(results_with(small_suite, trained_failures=1, bare_failures=10)), small_suite)
    line = bare_line(read)
    assert line is not None
    assert line.startswith("asked without the line break: 75.0%, with it 97.5% (−22.5 points, 95% interval −")
    paired = read.statistics.bare
    assert paired is not None
    assert (len(paired.gained), len(paired.lost)) == (0, 9)


def test_the_last_screen_shows_it_in_one_line(
    small_suite: Suite, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    final_table(
        read_results(write(results_with(small_suite, trained_failures=1, bare_failures=10)), small_suite), {}, []
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "without the line break" in line]
    assert [line.partition(" (")[0] for line in lines] == ["asked without the line break: 75.0%, with it 97.5%"]
    final_table(read_results(write(results_with(small_suite, trained_failures=1)), small_suite), {}, [])
    assert "without the line break" not in capsys.readouterr().out


def test_compare_takes_the_side_where_it_is_there(small_suite: Suite, write: Write) -> None:
    with_it = write(results_with(small_suite, trained_failures=1, bare_failures=10), "with.json")
    better = write(results_with(small_suite, trained_failures=1, bare_failures=4), "better.json")
    older = write(results_with(small_suite, trained_failures=1), "older.json")
    found = compare_files(with_it, better, side="trained_bare", suite=small_suite)
    assert isinstance(found, Comparison)
    assert len(found.strict.gained) == 6
    assert compare_files(older, with_it, suite=small_suite).side_b == "trained"
    with pytest.raises(UntrustedResultError, match=r"older\.json: holds no trained_bare side; it holds trained, base$"):
        compare_files(older, with_it, side="trained_bare", suite=small_suite)


def test_rescore_keeps_the_side(small_suite: Suite, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        for module in (results_module, disagreements):
            then.setattr(module, "SCORER_VERSION", "1")
        older = write(results_with(small_suite, trained_failures=1, bare_failures=10, scorer_version="1"))
    again = rescore_file(older, suite=small_suite)
    assert again.rates["trained_bare"] == {"scored": "whole output", "before": 30, "after": 30, "total": 40}
    assert bare_line(read_results(again.path, small_suite)) is not None


def test_a_bare_side_belongs_to_the_trained_one(small_suite: Suite) -> None:
    plain, bare = measured(outputs_with(small_suite, 1), ADAPTER), bare_with(small_suite, 1)
    common: dict[str, Any] = {"suite": small_suite, "conditions": conditions_for(small_suite), "enforced": True}
    base = measured(outputs_with(small_suite, 30))
    with pytest.raises(DataError, match=r"models\.trained_bare is there without models\.trained"):
        build_results(base=base, trained=None, trained_bare=asked_bare(bare), **common)
    with pytest.raises(DataError, match=r"models\.trained_bare\.factors\.adapter"):
        build_results(base=base, trained=plain, trained_bare=asked_bare(bare, "d" * 64), **common)


def test_no_scorer_minds_the_line_break_that_a_bare_answer_begins_with() -> None:
    """Else a model that answers alike both ways would seem to lose by being asked bare."""
    suite = load_suite("stage1")
    for item in suite.items:
        text = item.gold[0] if item.gold else references()[item.id]
        for answer in (text, f"{text} {text}", f"No, {text}", f"{text}\nAnd more"):
            plain, bare = judge(item, answer, True), judge(item, f"\n{answer}", True)
            assert bare == plain.model_copy(update={"response": f"\n{answer}"}), item.id
