"""The suite in lm-evaluation-harness: offline, from the command line, with our numbers on exact-match items."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import principled
import pytest
from finished import Finished

from cai_bootstrap.cli import run_command
from cai_bootstrap.inference.engine import Sampling
from cai_bootstrap.inference.transformers_engine import TransformersEngine, load
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.suite import canonical_line, load_suite
from cai_bootstrap.measuring.principles.results import write_principle_results
from cai_bootstrap.records import EvalItem

TOKENS = 40
ITEMS = 40


@pytest.fixture
def exact_suite(finished: Finished, tmp_path: Path) -> Path:
    """Items whose gold is what the model says on some of them, and something else on others; one is no exact one."""
    instructions = [f"Write the word number {n} of this list: {n * n}" for n in range(ITEMS)]
    answers = _answers(finished, instructions)
    said = [n for n, (text, ended) in enumerate(answers) if ended and text.strip()]
    assert len(said) >= 4, "the tiny model ends too few answers for this to show anything"
    rows = [
        EvalItem(
            id=f"e{n}", split="test", type="transformation", template=f"test.{n}", instruction=instruction,
            scorer="exact", gold=[answers[n][0].strip() if n in said[::2] else "something else"], source="test",
            difficulty="easy",
        )
        for n, instruction in enumerate(instructions)
    ]  # fmt: skip
    free = {"checks": [{"check": "words", "max": 30}]}
    rows.append(rows[0].model_copy(update={"id": "free", "scorer": "checks", "args": free, "gold": []}))
    path = tmp_path / "exact.jsonl"
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return path


def _answers(finished: Finished, instructions: list[str]) -> list[tuple[str, bool]]:
    engine = TransformersEngine(
        load(finished.prepared, precision="fp32"), finished.prepared, precision="fp32", batch_size=4
    )
    return [(c.text, c.finished) for c in engine.stream([f"{text}\n" for text in instructions], Sampling(TOKENS))]


@pytest.mark.slow
def test_lm_eval_gives_our_number_on_exact_match_items(finished: Finished, exact_suite: Path, tmp_path: Path) -> None:
    task = tmp_path / "task"
    arguments = ["lm-eval-task", "--to", str(task), "--suite", str(exact_suite), "--max-new-tokens", str(TOKENS)]
    assert run_command(arguments) == 0
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"),
        "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "--include_path", str(task), "--tasks", "cai_exact_exact,cai_exact",
            "--model", "hf", "--model_args", f"pretrained={finished.prepared.path},dtype=float32", "--device", "cpu",
            "--batch_size", "4", "--output_path", str(tmp_path / "out.json"), "--log_samples",
        ],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(tmp_path.glob("out*.json")).read_text())["results"]
    items = [item for item in load_suite(exact_suite).items if item.scorer == "exact"]
    answers = _answers(finished, [item.instruction for item in items])
    ours = [judge(item, *answer).success for item, answer in zip(items, answers, strict=True)]
    assert 0 < sum(ours) < len(items)
    assert found["cai_exact_exact"]["followed,none"] == pytest.approx(sum(ours) / len(items), abs=1e-12)
    assert found["cai_exact"]["sample_len"] == ITEMS + 1
    samples = [
        json.loads(line) for line in next(tmp_path.glob("samples_cai_exact_exact*.jsonl")).read_text().splitlines()
    ]
    by_id = {item.id: mine for item, mine in zip(items, ours, strict=True)}
    assert {sample["doc"]["id"]: bool(sample["followed"]) for sample in samples} == by_id


def test_a_task_folder_is_never_written_over(exact_suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["lm-eval-task", "--to", str(exact_suite.parent), "--suite", str(exact_suite)])
    assert code == 2
    assert "not empty" in capsys.readouterr().err


def test_the_shipped_suite_becomes_a_task_with_all_its_items(tmp_path: Path) -> None:
    assert run_command(["lm-eval-task", "--to", str(tmp_path / "task")]) == 0
    written = load_suite(tmp_path / "task" / "items.jsonl")
    assert written.sha256 == load_suite("stage1").sha256
    assert sorted(path.name for path in (tmp_path / "task").glob("*.yaml")) == [
        "cai_stage1.yaml",
        "cai_stage1_exact.yaml",
    ]


def test_a_tasks_items_end_at_a_newline_only(tmp_path: Path) -> None:
    item = load_suite("stage1").items[0].model_copy(update={"instruction": "What is\u2028the capital\u0085of India?"})
    suite = tmp_path / "mine.jsonl"
    suite.write_text(canonical_line(item), encoding="utf-8")
    assert run_command(["lm-eval-task", "--to", str(tmp_path / "task"), "--suite", str(suite)]) == 0
    scoring = runpy.run_path(str(tmp_path / "task" / "scoring.py"))
    rows = [json.loads(line) for _, line in scoring["jsonl_lines"](scoring["ITEMS"])]
    assert [row["instruction"] for row in rows] == [item.instruction]


@pytest.fixture
def principle_task(tmp_path: Path) -> Path:
    path = tmp_path / "constitution_evaluation_20260101T000000Z.json"
    write_principle_results(path, principled.results())
    assert run_command(["lm-eval-task", "--to", str(tmp_path / "task"), "--results", str(path)]) == 0
    return tmp_path / "task"


def test_a_constitutions_task_judges_each_answer_as_its_results_file_does(principle_task: Path) -> None:
    scoring = runpy.run_path(str(principle_task / "scoring.py"))
    whole = principled.results()
    items = {item.id: item for item in whole.items}
    rows = [json.loads(line) for _, line in scoring["jsonl_lines"](scoring["ITEMS"])]
    assert {row["id"] for row in rows} == {item.id for item in whole.items if item.split == "test"}
    found: dict[str, list[float]] = {}
    for row in rows:
        trained = items[row["id"]].trained
        assert trained is not None
        for metric, kept in scoring["kept"]({"item": json.dumps(row)}, [trained.response]).items():
            found.setdefault(metric, []).append(kept)
    rates = {metric: sum(kept) / len(kept) for metric, kept in found.items()}
    thanks, asks, warn = (whole.principles[id] for id in ("thanks", "asks", "warn"))
    assert rates["keeps_thanks"] == thanks.trained.rate  # type: ignore[union-attr]
    assert rates["keeps_asks"] == asks.trained.rate  # type: ignore[union-attr]
    assert rates["elsewhere_asks"] == asks.outside.trained.rate  # type: ignore[union-attr]
    assert rates["keeps_warn"] == warn.trained.rate  # type: ignore[union-attr]
    assert rates["elsewhere_warn"] == 0.0


def test_a_constitutions_task_takes_no_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lm-eval-task", "--to", str(tmp_path / "task"), "--results", str(tmp_path / "none.json")]
    assert run_command(arguments) == 4
    assert run_command([*arguments, "--suite", "stage1"]) == 2
    assert "leave out --suite" in capsys.readouterr().err


@pytest.mark.long
def test_lm_eval_runs_a_constitutions_task(finished: Finished, principle_task: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"),
        "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "--include_path", str(principle_task), "--tasks", "cai_manners",
            "--model", "hf", "--model_args", f"pretrained={finished.prepared.path},dtype=float32", "--device", "cpu",
            "--batch_size", "4", "--limit", "8", "--output_path", str(tmp_path / "out.json"),
        ],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(next(tmp_path.glob("out*.json")).read_text())["results"]["cai_manners"]
    assert found["keeps_thanks,none"] == 0.0
