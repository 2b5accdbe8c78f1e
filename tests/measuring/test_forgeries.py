"""Forged results files: every response in them is right, and none passes the gate."""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measured import ADAPTER, outputs_with, results_with

from cai_bootstrap.cli import run_command
from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import LARGEST_JSON, read_json, write_json
from cai_bootstrap.judging.suite import USER_VERSION, Suite, canonical_line, items_sha256
from cai_bootstrap.measuring.comparison import compare_files
from cai_bootstrap.measuring.conditions import FACTORS, Conditions
from cai_bootstrap.measuring.declared import BaseFactors, DeclaredConditions, Results, ResultsFile
from cai_bootstrap.measuring.demands import unmet
from cai_bootstrap.measuring.gate import judge_file
from cai_bootstrap.measuring.length import length_fault
from cai_bootstrap.measuring.rescore import rescore_file
from cai_bootstrap.measuring.results import read_results
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import write_marker

File = dict[str, Any]
MEASURED = Path(__file__).parents[2] / "docs/measured"
OTHER = "d" * 64
DELETE = object()


@pytest.fixture(scope="module")
def honest(small_suite: Suite) -> File:
    """A file that passes: all three sides, and the block that the evaluation adds."""
    rival = {"rendering": "six-shot", "shots": 6, "stop_rule": "first_line", "outputs": outputs_with(small_suite, 10)}
    results = results_with(small_suite, trained_failures=0, rival=rival)
    results["run"] = {
        "fingerprint": "f" * 64,
        "ledger_opening": 3,
        "adapter": {"sha256": ADAPTER, "finished_at": "2026-11-22T10:00:00Z"},
        "labels": {"constraint": 90},
        "pairs": 90,
        "reuse": {"requested": 100, "found": 100},
        "base_from_baseline": True,
    }
    return results


def at(results: File, path: str, value: Any) -> None:
    """Put a value at a dotted path; `both.` stands for the base's and the trained side's factors."""
    if path.startswith("both."):
        for side in ("base", "trained"):
            at(results, f"models.{side}.factors.{path.removeprefix('both.')}", value)
        return
    *folders, name = path.split(".")
    place: Any = results
    for folder in folders:
        place = place[int(folder) if isinstance(place, list) else folder]
    if value is DELETE:
        del place[name]
    else:
        place[name] = value


# What is put where, and what the message must name.
FORGERIES: list[tuple[str, Any, str]] = [
    ("models.trained.factors.adapter", None, "models.trained.factors.adapter"),
    ("models.trained.factors.adapter", "", "models.trained.factors.adapter"),
    ("models.trained.factors.adapter", "lora", "models.trained.factors.adapter"),
    ("models.trained.factors.adapter", ADAPTER.upper(), "models.trained.factors.adapter"),
    ("models.trained.factors.adapter", ADAPTER + "\n", "models.trained.factors.adapter"),
    ("models.trained.factors.adapter", DELETE, "models.trained.factors.adapter"),
    ("models.trained.factors.adapter", OTHER, "run.adapter.sha256"),
    ("run.adapter.sha256", OTHER, "run.adapter.sha256"),
    ("models.base.factors.adapter", ADAPTER, "models.base.factors.adapter"),
    ("models.rival.factors.adapter", ADAPTER, "models.rival.factors.adapter"),
    ("models.trained.factors.model", "larger", "models.trained.factors.model is 'larger', the base's is 'tiny'"),
    ("models.base.factors.model", "smaller", "models.trained.factors.model"),
    ("models.rival.factors.model", "smaller", "models.rival.factors.model"),
    ("both.model", "tiny-instruct", "models.rival.factors.model"),
    ("conditions.base_model", "another", "conditions.base_model 'another'"),
    ("conditions.base_model", "", "conditions.base_model"),
    ("models.trained.factors.rendering", "The box is red. {instruction}\\n", "models.trained.factors.rendering"),
    ("models.base.factors.rendering", "{instruction}", "models.base.factors.rendering"),
    ("both.rendering", "{instruction}\nAnswer: red\n", "models.base.factors.rendering"),
    ("both.rendering", "{instruction}\n", "models.base.factors.rendering"),
    ("models.trained.factors.rendering", None, "models.trained.factors.rendering"),
    ("models.trained.factors.stop_rule", "first_line", "models.trained.factors.stop_rule is 'first_line'"),
    ("both.stop_rule", "first_line", "models.base.factors.stop_rule"),
    ("models.trained.factors.stop_rule", "EOS", "models.trained.factors.stop_rule"),
    ("models.trained.factors.stop_rule", DELETE, "models.trained.factors.stop_rule"),
    ("models.trained.factors", {}, "models.trained.factors.model"),
    ("models.base.factors", {}, "models.base.factors.model"),
    ("models.trained.factors", DELETE, "models.trained.factors"),
    ("models.trained.factors", None, "models.trained.factors"),
    ("models.trained.factors.examples", 6, "models.trained.factors.examples is not part"),
    ("conditions.decoding.temperature", 2.0, "conditions.decoding.temperature"),
    ("conditions.decoding.temperature", 1e-6, "conditions.decoding.temperature"),
    ("conditions.decoding.temperature", -1, "conditions.decoding.temperature"),
    ("conditions.decoding.temperature", False, "conditions.decoding.temperature"),
    ("conditions.decoding", {}, "conditions.decoding.temperature"),
    ("conditions.decoding.top_p", 0.5, "conditions.decoding.top_p"),
    ("conditions.decoding.do_sample", True, "conditions.decoding.do_sample"),
    ("conditions.decoding.repetition_penalty", 1.3, "conditions.decoding.repetition_penalty"),
    ("conditions.decoding.num_beams", 4, "conditions.decoding.num_beams"),
    ("conditions.max_new_tokens", 0, "conditions.max_new_tokens"),
    ("conditions.max_new_tokens", -32, "conditions.max_new_tokens"),
    ("conditions.max_new_tokens", "32", "conditions.max_new_tokens"),
    ("conditions.max_new_tokens", 10**9, "conditions.max_new_tokens"),
    ("conditions.max_new_tokens", 1, "cannot have been made in 1 tokens"),
    ("conditions.max_new_tokens", 4, "cannot have been made in 4 tokens"),
    ("conditions.batch_size", -8, "conditions.batch_size"),
    ("conditions.batch_size", 8.0, "conditions.batch_size"),
    ("conditions.batch_size", True, "conditions.batch_size"),
    ("conditions.precision", "4bit", "conditions.precision"),
    ("conditions.precision", "exact", "conditions.precision"),
    ("conditions.precision", "int8", "conditions.quantization is None"),
    ("conditions.quantization", "fp8", "conditions.quantization is 'fp8'"),
    ("conditions.base_weights_sha256", "yes", "conditions.base_weights_sha256"),
    ("conditions.base_weights_sha256", ADAPTER, "the hash of the base's own weights"),
    ("conditions.tokenizer_sha256", "g" * 64, "conditions.tokenizer_sha256"),
    ("conditions.revision", " ", "conditions.revision"),
    ("conditions.padding_side", "up", "conditions.padding_side"),
    ("conditions.engine", "transformers, with a chat template", "conditions.engine"),
    ("conditions.device", "", "conditions.device"),
    ("conditions.device", None, "conditions.device"),
    ("conditions.versions", {}, "conditions.versions"),
    ("conditions.versions.torch", 2.13, "conditions.versions.torch"),
    ("conditions.scorer_version", "²", "conditions.scorer_version"),
    ("conditions.scorer_version", "5", "conditions.scorer_version"),
    ("conditions.suite_sha256", OTHER, "conditions.suite_sha256"),
    ("conditions.item_order", OTHER, "conditions.item_order"),
    ("conditions.prompt_prefix", "Be right.", "conditions.prompt_prefix is not part"),
    ("models.base", None, "models.base"),
    ("models.trained.successes", 40.0, "models.trained.successes is 40.0"),
    ("models.trained.successes", 40.0000001, "models.trained.successes"),
    ("models.trained.total", True, "models.trained.total"),
    ("models.trained.total", "40", "models.trained.total"),
    ("models.trained.successes", -40, "models.trained.successes"),
    ("models.trained.finished", 40.0, "models.trained.finished"),
    ("statistics.rates.trained.successes", 40.0, "statistics.rates.trained.successes"),
    ("statistics.templates", 20.0, "statistics.templates"),
    ("suite.n", 40.0, "suite.n"),
    ("suite.n", 39, "suite.n"),
    ("schema_version", 1.0, "schema_version"),
    ("schema_version", True, "schema_version"),
    ("rival.successes", 30.0, "rival.successes"),
    ("rival.total", DELETE, "rival holds a part"),
    ("rival.shots", -1, "rival.shots"),
    ("rival.rendering", "plain", "rival.rendering"),
    ("rival.better", True, "rival.better is not part"),
    ("run.pairs", 90.5, "run.pairs"),
    ("run.labels.constraint", -1, "run.labels.constraint"),
    ("run.reuse", {"requested": 100}, "run.reuse.found"),
    ("run.proof", "trust me", "run.proof is not part"),
    ("items.0.trained.proof", "trust me", "items.0.trained.proof is not part"),
    ("items.0.note", "trust me", "items.0.note is not part"),
    ("items.0.base.finished", "yes", "items.0.base.finished"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "named"), FORGERIES, ids=[f"{n}-{row[0]}" for n, row in enumerate(FORGERIES)]
)
def test_gate_refuses_a_file_that_declares_what_it_does_not_demand(
    honest: File, small_suite: Suite, tmp_path: Path, place: str, value: Any, named: str
) -> None:
    forged = copy.deepcopy(honest)
    at(forged, place, value)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(forged))
    with pytest.raises(UntrustedResultError) as refusal:
        judge_file(path, suite=small_suite)
    assert named in str(refusal.value)


def test_the_file_that_is_forged_here_passes_as_it_is(honest: File, small_suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, honest)
    assert judge_file(path, suite=small_suite).passed


def twice(text: str, key: str, value: str) -> str:
    """The text with a first, other value of a key; most readers see the last one only."""
    return text.replace(f'"{key}":', f'"{key}": {value}, "{key}":', 1)


TEXTS: list[tuple[str, Callable[[str], str | bytes], str]] = [
    ("every key twice", lambda t: f"{t[:-1]}, {t[1:]}", "the key 'schema_version' stands twice"),
    ("adapter twice", lambda t: twice(t, "adapter", "null"), "the key 'adapter' stands twice"),
    ("item's verdict twice", lambda t: twice(t, "success", "false"), "the key 'success' stands twice"),
    ("gate twice", lambda t: twice(t, "passed", "false"), "the key 'passed' stands twice"),
    ("half a pair", lambda t: t.replace('"tiny"', r'"tiny\ud800"'), "U+D800, half a surrogate pair"),
    ("half a pair in a key", lambda t: t.replace('"torch"', r'"torch\udfff"'), "U+DFFF, half a surrogate pair"),
    ("a raw half pair", lambda t: t.encode().replace(b'"tiny"', b'"tiny\xed\xa0\x80"'), "utf-8"),
    ("no UTF-8", lambda t: t.encode().replace(b'"tiny"', b'"tiny\xff"'), "utf-8"),
    ("400 digits", lambda t: t.replace('"total": 40', f'"total": {"4" * 400}', 1), "a number of 400 digits"),
    ("5,000 digits", lambda t: t.replace('"total": 40', f'"total": {"4" * 5000}', 1), "a number of 5000 digits"),
    ("300 digits", lambda t: t.replace('"total": 40', f'"total": {"4" * 299}', 1), "models.base.total"),
    ("infinite rate", lambda t: t.replace('"success_rate": 1.0', '"success_rate": 1e999', 1), "1e999"),
    ("deep", lambda t: t.replace('"peer": 0', f'"peer": {"[" * 200}{"]" * 200}'), "nested deeper than 64"),
    ("too deep to parse", lambda t: t.replace('"peer": 0', f'"peer": {"[" * 10**5}'), "not readable as JSON"),
    ("two values", lambda t: f"{t}{t}", "not readable as JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("forge", "named"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_gate_refuses_text_that_two_readers_would_read_as_two_files(
    honest: File, small_suite: Suite, tmp_path: Path, forge: Callable[[str], str | bytes], named: str
) -> None:
    text = json.dumps({**honest, "peer": 0})
    forged = forge(text)
    assert forged != text
    path = tmp_path / "results.json"
    path.write_bytes(forged if isinstance(forged, bytes) else forged.encode())
    with pytest.raises(UntrustedResultError) as refusal:
        judge_file(path, suite=small_suite)
    assert named in str(refusal.value)
    for read in (read_results, rescore_file, lambda path, suite: compare_files(path, path, suite=suite)):
        with pytest.raises(UntrustedResultError):
            read(path, suite=small_suite)


def plain_zero(_: Path) -> Path:
    return Path("/dev/zero")


def plain_null(_: Path) -> Path:
    return Path("/dev/null")


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.json")
    return folder / "pipe.json"


def folder_itself(folder: Path) -> Path:
    return folder


def link_to_pipe(folder: Path) -> Path:
    (folder / "link.json").symlink_to(pipe(folder))
    return folder / "link.json"


def two_gigabytes(folder: Path) -> Path:
    with (folder / "large.json").open("wb") as file:
        file.truncate(2 * 1024**3)
    return folder / "large.json"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (plain_zero, "no plain file"),
        (plain_null, "no plain file"),
        (pipe, "no plain file"),
        (link_to_pipe, "no plain file"),
        (folder_itself, "no plain file"),
        (two_gigabytes, "larger than 256 MiB"),
        (lambda folder: folder / "absent.json", "no such file"),
    ],
)
@pytest.mark.parametrize("command", ["gate", "compare", "rescore"])
def test_what_is_no_file_of_results_is_refused_in_a_sentence_with_exit_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, make: Callable[[Path], Path], named: str
) -> None:
    path = str(make(tmp_path))
    assert run_command([command, path, path] if command == "compare" else [command, path]) == 4
    printed = capsys.readouterr().err
    assert named in printed
    assert "Traceback" not in printed


def test_a_file_that_states_no_size_is_read_up_to_the_limit_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap import files

    monkeypatch.setattr(files, "LARGEST_JSON", 10)
    path = tmp_path / "growing.json"
    path.write_text('"' + 50 * "x" + '"')
    monkeypatch.setattr(files.os, "fstat", lambda handle: os.stat_result((os.stat(handle).st_mode, *[0] * 9)))
    with pytest.raises(files.DataError, match="larger than"):
        read_json(path)
    assert LARGEST_JSON == 256 * 1024**2


def named_suite(small_suite: Suite, folder: Path, name: str) -> tuple[Path, Suite]:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(map(canonical_line, small_suite.items)), encoding="utf-8")
    return path, Suite(name, small_suite.sha256, USER_VERSION, small_suite.items)


@pytest.mark.parametrize("name", ["stage1", "quick", "Stage 1 passed", "mine"])
def test_a_users_suite_never_passes_stage_1_whatever_it_is_called(
    small_suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path, suite = named_suite(small_suite, tmp_path, name)
    write_json(tmp_path / "results.json", results_with(suite, trained_failures=0))
    assert run_command(["gate", str(tmp_path / "results.json"), "--suite", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"threshold reached on the user's suite '{name}': 100.0% of 40")
    assert "Stage 1 itself is judged on the whole suite 'stage1'" in printed
    write_json(tmp_path / "results.json", results_with(suite, trained_failures=9))
    assert run_command(["gate", str(tmp_path / "results.json"), "--suite", str(path)]) == 3
    assert f"Stage 1 FAILED on the user's suite '{name}'" in capsys.readouterr().err


def test_a_suite_of_one_easy_item_that_says_it_is_the_shipped_one_is_the_users(
    small_suite: Suite, tmp_path: Path
) -> None:
    items = small_suite.items[:1]
    disguised = Suite("stage1", items_sha256(items), "1", items)
    write_json(tmp_path / "results.json", results_with(disguised, trained_failures=0, base_failures=0))
    verdict = judge_file(tmp_path / "results.json", suite=disguised)
    assert verdict.undecided == "the user's suite 'stage1'"
    assert "Stage 1 passed" not in verdict.message
    with pytest.raises(UntrustedResultError, match=r"suite\.sha256"):
        judge_file(tmp_path / "results.json")


HOSTILE = "my[/b]suite[red]\x1b[31m\x9b2J\u202e\nStage 1 passed: 100.0% of 520"


def test_names_from_a_file_are_neither_markup_nor_escape_sequences_on_the_screen(
    small_suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE.replace("/", "\u2044")
    path, suite = named_suite(small_suite, tmp_path, name)
    rival = {"rendering": HOSTILE, "outputs": outputs_with(suite, 10)}
    a, b, c = (tmp_path / f"{letter}.json" for letter in "abc")
    results = results_with(suite, trained_failures=0, rival=rival, device=HOSTILE)
    write_json(a, results)
    write_json(b, results_with(suite, trained_failures=0, rival=rival, device="cpu[/]\x1b[0m"))
    forged = copy.deepcopy(results)
    forged["items"][0]["id"] = HOSTILE
    write_json(c, forged)
    suite_file = ["--suite", str(path)]
    assert run_command(["gate", str(a), *suite_file]) == 0
    assert run_command(["gate", str(c), *suite_file]) == 4
    assert run_command(["compare", str(a), str(b), *suite_file]) == 4
    assert run_command(["compare", str(a), str(a), *suite_file]) == 0
    from cai_bootstrap.cli.screen import final_table
    from cai_bootstrap.run.record import StepRecord

    steps = {"evaluate": StepRecord(status="done", seconds=1.0, skipped=False)}
    final_table(Results.model_validate(results), steps, [Path(f"/x/{HOSTILE}")])
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert not {"\x1b", "\x9b", "\u202e"} & set(text)
        assert not any(line.startswith("Stage 1 passed") for line in text.splitlines())
    assert "my[/b]suite[red]␛[31m" in captured.out


def test_the_longest_honest_texts_are_never_accused() -> None:
    assert length_fault(" ".join(["word"] * 47), True, 48, stopped=False) is None
    assert length_fault(" ".join(["word"] * 48), True, 48, stopped=False)
    assert length_fault(" ".join(["word"] * 48), True, 48, stopped=True) is None
    assert length_fault(" ".join(["a common phrase of"] * 48), False, 48, stopped=False) is None
    assert length_fault("-" * 128 * 48, False, 48, stopped=False) is None
    assert length_fault("水" * 48 * 128, False, 48, stopped=False) is None
    assert length_fault("水" * 48 * 257, False, 48, stopped=False)
    assert length_fault("", True, 1, stopped=False) is None


ROWS = [path for path in sorted(MEASURED.glob("*.json")) if "conditions" in read_json(path)]


@pytest.mark.parametrize("path", ROWS, ids=[path.stem for path in ROWS])
def test_every_stored_row_is_what_the_gate_demands(path: Path) -> None:
    results = read_json(path)
    ResultsFile.model_validate(results, strict=True)
    if results["models"].get("trained") is not None:
        assert list(unmet(Results.model_validate(results))) == []


def test_the_declared_types_name_each_condition_and_factor_once() -> None:
    assert set(DeclaredConditions.model_fields) == set(Conditions.model_fields)
    assert set(BaseFactors.model_fields) == set(FACTORS)


# The adapter of a results file that lies in its base directory


def trained_run(base: Path, *adapters: str, results: File) -> Path:
    """A base directory with a success marker for each adapter, and the results of its evaluation."""
    for number, sha256 in enumerate(adapters):
        folder = base / "checkpoints/stage1" / f"round-{number}"
        folder.mkdir(parents=True)
        marker = {"finished_at": f"2026-11-22T1{number}:00:00Z", "files": {"adapter_model.safetensors": sha256}}
        marker |= {"base_weights_sha256": results["conditions"]["base_weights_sha256"]}
        (folder / "TRAINING_SUCCESS").write_text(json.dumps(marker))
    path = base / "results/stage1_evaluation_x.json"
    write_json(path, results)
    return path


def with_adapter(results: File, sha256: str, **run: Any) -> File:
    changed = copy.deepcopy(results)
    changed["models"]["trained"]["factors"]["adapter"] = changed["run"]["adapter"]["sha256"] = sha256
    changed["run"] |= run
    return changed


def test_gate_refuses_an_adapter_that_its_base_directory_did_not_train(
    honest: File, small_suite: Suite, tmp_path: Path
) -> None:
    own = trained_run(tmp_path / "own", OTHER, ADAPTER, results=honest)
    assert judge_file(own, suite=small_suite).passed
    for name, forged in {
        "other hash": with_adapter(honest, hashlib.sha256(b"x").hexdigest()),
        "a time of its own": with_adapter(
            honest, OTHER, adapter={"sha256": OTHER, "finished_at": "2026-11-22T19:00:00Z"}
        ),
        "claimed as named": with_adapter(honest, OTHER, reuse=None),
    }.items():
        path = trained_run(tmp_path / name, ADAPTER, results=forged)
        with pytest.raises(UntrustedResultError, match=r"models\.trained\.factors\.adapter is .*TRAINING_SUCCESS"):
            judge_file(path, suite=small_suite)


def test_gate_refuses_an_adapter_that_was_trained_on_other_weights(
    honest: File, small_suite: Suite, tmp_path: Path
) -> None:
    path = trained_run(tmp_path / "base", ADAPTER, results=honest)
    moved = copy.deepcopy(honest)
    moved["conditions"]["base_weights_sha256"] = OTHER
    write_json(path, moved)
    with pytest.raises(UntrustedResultError, match=r"conditions\.base_weights_sha256 is d+, .* was trained on a+"):
        judge_file(path, suite=small_suite)


def test_gate_believes_an_adapter_that_nothing_in_the_base_directory_contradicts(
    honest: File, small_suite: Suite, tmp_path: Path
) -> None:
    elsewhere = {"sha256": OTHER, "finished_at": "2025-01-01T00:00:00Z"}
    named = trained_run(tmp_path / "named", ADAPTER, results=with_adapter(honest, OTHER, adapter=elsewhere, reuse=None))
    assert judge_file(named, suite=small_suite).passed
    none = trained_run(tmp_path / "none", results=with_adapter(honest, OTHER))
    assert judge_file(none, suite=small_suite).passed
    older = trained_run(tmp_path / "older", ADAPTER, results=with_adapter(honest, OTHER, adapter=elsewhere))
    run = RunFolder.at(tmp_path / "older")
    another = run.results / "stage1_evaluation_y.json"
    another.write_text("{}")
    write_marker(run, "evaluate", 1, fingerprint="f", outputs={"results": another})
    assert judge_file(older, suite=small_suite).passed
    write_marker(run, "evaluate", 1, fingerprint="f", outputs={"results": older})
    with pytest.raises(UntrustedResultError, match="none of the 1 adapters"):
        judge_file(older, suite=small_suite)
    removed = run.checkpoints / "removed" / "TRAINING_SUCCESS"
    removed.parent.mkdir()
    removed.write_text("{}")
    write_marker(run, "train", 1, fingerprint="f", outputs={"success": removed})
    shutil.rmtree(removed.parent)
    assert judge_file(older, suite=small_suite).passed


def test_markers_of_odd_shapes_are_no_sign_and_no_traceback(honest: File, small_suite: Suite, tmp_path: Path) -> None:
    path = trained_run(tmp_path / "base", ADAPTER, results=honest)
    marker = tmp_path / "base/checkpoints/stage1/round-0/TRAINING_SUCCESS"
    steps = tmp_path / "base/logs/steps"
    steps.mkdir(parents=True)
    for odd in ("", "[]", "{}", '{"files": []}', '{"files": {"adapter_model.safetensors": 7}}', '{"outputs": {}}'):
        marker.write_text(odd)
        for step in ("train", "evaluate"):
            (steps / f"{step}.json").write_text(odd)
        assert judge_file(path, suite=small_suite).passed
