"""What own scorers judged is bound to their source: another source is not compared, and no results file runs code."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from measured import conditions_for, results_with
from own_scorers import HEAD, NEVER_RUN, SHOUTS, constitution_file, row, suite_file
from principled import asked_of, conditions, prompts

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.run import _check_early
from cai_bootstrap.config import resolve
from cai_bootstrap.errors import EXIT_OK, EXIT_UNTRUSTED, EXIT_USAGE, UntrustedResultError, UsageError
from cai_bootstrap.files import sha256_file, write_json
from cai_bootstrap.generation.draft import must_stay_beside
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.inference.engine import EngineInfo
from cai_bootstrap.judging.own.entering import sources_of
from cai_bootstrap.judging.own.sources import distrust
from cai_bootstrap.judging.suite import Suite, load_suite
from cai_bootstrap.measuring.assess import conditions_of
from cai_bootstrap.measuring.comparison import compare_files
from cai_bootstrap.measuring.conditions import Difference, differences
from cai_bootstrap.measuring.declared import StoredResults
from cai_bootstrap.measuring.disagreements import suite_block
from cai_bootstrap.measuring.ledger import ledger_key, note_opening, open_test
from cai_bootstrap.measuring.principles.comparison import PrincipleComparison, compare_principle_files
from cai_bootstrap.measuring.principles.declared import JudgeRecord
from cai_bootstrap.measuring.principles.results import (
    Judges,
    build_principle_results,
    read_principle_results,
    write_principle_results,
)
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.use.inspect_task import write_inspect_task
from cai_bootstrap.use.lm_eval import write_task
from cai_bootstrap.use.verifiers_env import write_verifiers_env

pytestmark = pytest.mark.usefixtures("nothing_trusted")
OTHER = SHOUTS + "# another source, the same verdicts\n"


def own_suite(folder: Path, source: str = SHOUTS) -> tuple[Path, Suite]:
    rows = [
        row(id=f"m{n}", template=f"t{n}", instruction=f"Shout about hat {n}.", gold=[f"HAT {n}!"]) for n in range(8)
    ]
    path = suite_file(folder, source, *rows)
    return path, load_suite(path)


def results_file(path: Path, suite: Suite, **changes: Any) -> Path:
    results = results_with(suite, trained_failures=0, base_failures=8, own_scorers=sources_of(suite.items))
    results["conditions"] |= changes
    write_json(path, results)
    return path


def hash_of(suite: Suite) -> str:
    return sources_of(suite.items)["mine.py"]


def test_a_measurement_records_the_source_of_each_module(tmp_path: Path) -> None:
    _, suite = own_suite(tmp_path / "own")
    info = EngineInfo(
        engine="transformers", model="tiny", revision="r1", weights_sha256="a" * 64, tokenizer_sha256="b" * 64,
        adapter=None, precision="fp32", device="cpu", attention="sdpa", batch_size=8, padding_side="left",
    )  # fmt: skip
    assert conditions_of(info, suite, max_new_tokens=8).own_scorers == {"mine.py": hash_of(suite)}
    shipped = conditions_of(info, load_suite("quick"), max_new_tokens=8)
    assert "own_scorers" not in shipped.model_dump(), "files without own scorers stay as they were"


def test_the_gate_judges_by_the_recorded_source_and_by_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, suite = own_suite(tmp_path / "own")
    results = results_file(tmp_path / "results.json", suite)
    assert run_command(["gate", str(results), "--suite", str(path)]) == EXIT_OK
    assert json.loads(results.read_text())["conditions"]["own_scorers"] == {"mine.py": hash_of(suite)}
    own_suite(tmp_path / "own", OTHER)
    capsys.readouterr()
    assert run_command(["gate", str(results), "--suite", str(path)]) == EXIT_UNTRUSTED
    told = capsys.readouterr().err
    assert "conditions.own_scorers: mine.py has the source" in told
    assert "it changed since" in told


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [({}, "this suite names mine.py"), ({"other.py": "a" * 64}, "judged by other.py")],
)
def test_results_that_record_other_modules_than_the_suite_names_are_refused(
    tmp_path: Path, recorded: dict[str, str], expected: str
) -> None:
    _, suite = own_suite(tmp_path / "own")
    own = {"own_scorers": recorded if not recorded else {**recorded, "mine.py": hash_of(suite)}}
    results = results_file(tmp_path / "results.json", suite, **own)
    with pytest.raises(UntrustedResultError, match=expected):
        read_results(results, suite)


def test_two_results_by_different_sources_are_not_compared(tmp_path: Path) -> None:
    _, before = own_suite(tmp_path / "own")
    a = results_file(tmp_path / "a.json", before)
    path, after = own_suite(tmp_path / "own", OTHER)
    b = results_file(tmp_path / "b.json", after)
    for suite in (before, after):
        with pytest.raises(UntrustedResultError, match=r"conditions.own_scorers: mine.py has the source"):
            compare_files(a, b, suite=suite)
    assert run_command(["compare", str(a), str(b), "--suite", str(path)]) == EXIT_UNTRUSTED
    sources = [conditions_for(suite, own_scorers=sources_of(suite.items)) for suite in (before, after)]
    named = Difference("own_scorers.mine.py", hash_of(before), hash_of(after))
    assert named in differences(*sources)
    without = conditions_for(before)
    for pair in ((without, sources[0]), (sources[0], without)):
        assert [difference.field for difference in differences(*pair)] == ["own_scorers.mine.py"]


def test_a_mended_scorer_goes_on_with_the_ledger_of_openings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    _, before = own_suite(tmp_path / "own")
    assert open_test(before, "baseline") == 1
    path, after = own_suite(tmp_path / "own", OTHER)
    assert open_test(after, "evaluation") == 2
    results = results_file(tmp_path / "results.json", after)
    claims = json.loads(results.read_text())
    write_json(results, claims | {"run": {"ledger_opening": 7, "fingerprint": "f"}})
    assert run_command(["suite", "ledger", "--suite", str(path), "--note", str(results), "--json"]) == EXIT_OK
    openings = json.loads(capsys.readouterr().out)
    assert [opening["what"] for opening in openings] == ["baseline", "evaluation", "evaluation"]
    assert ledger_key(read_results(results, after).suite) == ledger_key(before) == before.asked_sha256
    assert note_opening(StoredResults.model_validate_json(results.read_bytes())) is None, "it stands there already"


def test_results_tell_the_hash_of_what_was_asked_where_it_is_another(tmp_path: Path) -> None:
    _, suite = own_suite(tmp_path / "own")
    results = results_file(tmp_path / "results.json", suite)
    claims = json.loads(results.read_text())
    assert claims["suite"]["asked_sha256"] == suite.asked_sha256 != claims["suite"]["sha256"]
    claims["suite"]["asked_sha256"] = "0" * 64
    write_json(results, claims)
    with pytest.raises(UntrustedResultError, match=r"suite\.asked_sha256"):
        read_results(results, suite)
    assert "asked_sha256" not in suite_block(load_suite("quick")).model_dump(), "files without stay as they were"


def test_a_strangers_suite_runs_nothing_when_its_results_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, suite = own_suite(tmp_path / "own")
    results = results_file(tmp_path / "results.json", suite)
    suite_file(tmp_path / "own", NEVER_RUN.format(tmp_path / "ran") + SHOUTS, trusted=False)
    for command in (["gate", str(results)], ["compare", str(results), str(results)], ["rescore", str(results)]):
        assert run_command([*command, "--suite", str(path)]) == EXIT_USAGE
        assert "not trusted on this machine" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def principle_file(path: Path, folder: Path, source: str = SHOUTS) -> Path:
    own = load_checked(constitution_file(folder, source, "mine.py:shouts"))
    asked = tuple(prompt for prompt in prompts() if not prompt.principle)
    measured = asked_of(asked, trained=lambda _, at: f"NUMBER {at}!", control=None, rival=None)
    written = build_principle_results(
        constitution=replace(own, name="mine"), prompts=asked, conditions=conditions(asked), asked=measured,
        judges=Judges({"loud": JudgeRecord(kind="check", trusted=True)}, rule_selected={"loud"}),
    )  # fmt: skip
    write_principle_results(path, written)
    return path


def test_a_constitutions_results_run_no_code_that_is_not_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SHOUTS.replace("    return", f"    open({str(tmp_path / 'ran')!r}, 'w').close()\n    return")
    results = principle_file(tmp_path / "constitution_evaluation_20260101T000000Z.json", tmp_path / "own", source)
    (tmp_path / "ran").unlink()
    assert read_principle_results(results).gate.passed
    (tmp_path / "ran").unlink()
    _forget_all()
    for command in (["gate", str(results)], ["compare", str(results), str(results)]):
        assert run_command(command) == EXIT_UNTRUSTED
        told = capsys.readouterr().err
        assert "mine.py:shouts is code of somebody's own" in told
        assert "nothing of it was run" in told
    assert not (tmp_path / "ran").exists()


def test_a_source_that_is_trusted_by_its_hash_and_not_here_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = principle_file(tmp_path / "constitution_evaluation_20260101T000000Z.json", tmp_path / "own")
    _forget_all()
    monkeypatch.setenv("CAI_TRUSTED_SCORERS", sha256_file(tmp_path / "own" / "mine.py"))
    assert run_command(["gate", str(results)]) == EXIT_UNTRUSTED
    told = capsys.readouterr().err
    assert "its source is not here; name the file that mine.py lies beside (--constitution FILE" in told
    assert "not trusted" not in told
    constitution = load_checked(tmp_path / "own" / "mine.yaml")
    assert read_principle_results(results).constitution.principles[0].id == constitution.principles[0].id


def _forget_all() -> None:
    """As on another machine: no source is trusted, and none was entered by this process."""
    from cai_bootstrap.judging.own.names import own_name
    from cai_bootstrap.judging.own.sources import trusted_hashes
    from cai_bootstrap.judging.scorers.registry import CHECKS, SCORERS

    for sha256 in trusted_hashes():
        distrust(sha256)
    for registry in (CHECKS, SCORERS):
        for name in [name for name in registry if own_name(name)]:
            del registry[name]


def test_a_check_without_its_source_in_a_constitutions_results_is_refused(tmp_path: Path) -> None:
    results = principle_file(tmp_path / "a.json", tmp_path / "own")
    claims = json.loads(results.read_text())
    claims["constitution"]["principles"][0]["check"] = {"check": "mine.py:shouts"}
    write_json(results, claims)
    with pytest.raises(UntrustedResultError, match="whose source the file does not tell"):
        read_principle_results(results)


def test_a_name_in_results_leads_to_no_other_folder(tmp_path: Path) -> None:
    results = principle_file(tmp_path / "a.json", tmp_path / "own")
    text = results.read_text().replace("mine.py:shouts@", "../../mine.py:shouts@")
    results.write_text(text)
    with pytest.raises(UntrustedResultError, match="leads out of the folder"):
        read_principle_results(results)


def test_a_principle_judged_by_another_source_is_left_out_by_name(tmp_path: Path) -> None:
    a = principle_file(tmp_path / "a.json", tmp_path / "own")
    b = principle_file(tmp_path / "b.json", tmp_path / "own", OTHER)
    comparison = compare_principle_files(a, b)
    assert isinstance(comparison, PrincipleComparison)
    assert "judged by another source of mine.py" in comparison.left_out["loud"]
    assert comparison.changes == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    return output.encode('ascii').isupper()", "raised UnicodeEncodeError"),
        ("    return False", "wrongly fails"),
    ],
)
def test_a_run_is_refused_before_it_begins_by_a_scorer_that_would_end_it(
    tmp_path: Path, body: str, expected: str
) -> None:
    path = suite_file(tmp_path / "own", HEAD + f"@scorer\ndef shouts(instruction, output):\n{body}\n")
    config = resolve({"evaluation.suite": str(path)}, environment={}).config
    with pytest.raises(UsageError, match=expected):
        _check_early(config, ["evaluate"])


def test_a_task_for_lm_eval_carries_the_module_and_scores_by_it(tmp_path: Path) -> None:
    _, suite = own_suite(tmp_path / "own")
    task = write_task(suite, tmp_path / "task", max_new_tokens=8)
    assert (task.folder / "mine.py").read_text(encoding="utf-8") == SHOUTS
    scoring = runpy.run_path(str(task.folder / "scoring.py"))
    items = [{"item": line} for line in (task.folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert scoring["followed"](items[3], ["HAT 3!"]) == {"followed": 1.0}
    assert scoring["followed"](items[3], ["hat 3!"]) == {"followed": 0.0}
    assert load_suite(task.folder / "items.jsonl").sha256 == suite.sha256


@pytest.mark.parametrize("write", [write_inspect_task, write_verifiers_env])
def test_a_suite_for_another_program_carries_the_module(tmp_path: Path, write: Callable[..., Any]) -> None:
    _, suite = own_suite(tmp_path / "own")
    write(suite, tmp_path / "there", max_new_tokens=8)
    (items,) = (tmp_path / "there").rglob("items.jsonl")
    assert (items.parent / "mine.py").read_text(encoding="utf-8") == SHOUTS
    assert load_suite(items).sha256 == suite.sha256


@pytest.mark.parametrize(("write", "name"), [(write_inspect_task, "cai_mine.py"), (write_verifiers_env, "__init__.py")])
def test_a_module_never_takes_the_place_of_another_programs_file(
    tmp_path: Path, write: Callable[..., Any], name: str
) -> None:
    path = suite_file(tmp_path / "own", SHOUTS, row(scorer=f"{name}:shouts"))
    (tmp_path / "own" / "mine.py").rename(tmp_path / "own" / name)
    with pytest.raises(UsageError, match="give your module another name"):
        write(load_suite(path), tmp_path / "task", max_new_tokens=8)
    assert not (tmp_path / "task").exists()


def test_a_module_never_takes_the_place_of_a_tasks_own(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "own", SHOUTS, row(scorer="scoring.py:shouts"))
    (tmp_path / "own" / "mine.py").rename(tmp_path / "own" / "scoring.py")
    with pytest.raises(UsageError, match="give your module another name"):
        write_task(load_suite(path), tmp_path / "task", max_new_tokens=8)
    assert not (tmp_path / "task").exists()


def test_a_draft_is_written_where_its_checks_are_found(tmp_path: Path) -> None:
    path = constitution_file(tmp_path / "own", SHOUTS, "mine.py:shouts")
    must_stay_beside(path, tmp_path / "own" / "drafted.yaml", load_checked(path))
    with pytest.raises(UsageError, match=r"write --out beside"):
        must_stay_beside(path, tmp_path / "drafted.yaml", load_checked(path))
