"""The suite in Inspect and in verifiers: the same items, asked with the same prompts, with the verdicts of our scorers.

Both libraries are optional: `pip install inspect-ai==0.3.285`, `pip install verifiers==0.4.0`. Without them their tests
are skipped, and what is written is still checked.
"""

import ast
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from finished import Finished

from cai_bootstrap.cli import run_command
from cai_bootstrap.files import read_json
from cai_bootstrap.inference.models import load_tokenizer
from cai_bootstrap.judging.scorers import judge
from cai_bootstrap.judging.suite import canonical_line, load_suite, references
from cai_bootstrap.records import EvalItem

Cai = Callable[..., tuple[int, str, str]]
inspect_here = pytest.mark.skipif(find_spec("inspect_ai") is None, reason="needs inspect-ai==0.3.285")
verifiers_here = pytest.mark.skipif(find_spec("verifiers") is None, reason="needs verifiers==0.4.0")
WRONG = "I cannot say that, and so I talk of quite another thing, which nobody asked for"


def answers_to(items: tuple[EvalItem, ...]) -> dict[str, tuple[str, bool]]:
    """For each item an answer, and whether the model ended it: right, wrong, cut, right in its first line, empty."""
    texts = references()
    kinds = [
        lambda text: (text, True),
        lambda _: (WRONG, True),
        lambda text: (text, False),
        lambda text: (f"{text}\nInstruction: {WRONG}", False),
        lambda _: ("", True),
    ]
    return {item.id: kinds[n % len(kinds)](texts[item.id]) for n, item in enumerate(items)}


@pytest.mark.parametrize("command", ["inspect-task", "verifiers-env"])
def test_the_whole_suite_is_written_and_no_folder_written_over(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "there"
    assert run_command([command, "--to", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == len(load_suite("stage1").items)
    (items,) = folder.rglob("items.jsonl")
    assert load_suite(items).sha256 == load_suite("stage1").sha256
    (code,) = items.parent.glob("*.py")
    ast.parse(code.read_text())
    assert load_suite("stage1").sha256 in code.read_text()
    assert run_command([command, "--to", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect-task", "verifiers-env"])
def test_any_name_of_a_suite_becomes_a_name_in_python(command: str, tmp_path: Path) -> None:
    suite = tmp_path / "Größe 2² (mine).jsonl"
    suite.write_text("".join(canonical_line(item) for item in load_suite("quick").items))
    assert run_command([command, "--to", str(tmp_path / "there"), "--suite", str(suite)]) == 0
    (code,) = (tmp_path / "there").rglob("*.py")
    module = code.parent.name if code.name == "__init__.py" else code.stem
    assert module.isidentifier()
    assert module.isascii()
    ast.parse(code.read_text())


@pytest.mark.parametrize("command", ["inspect-task", "verifiers-env"])
@pytest.mark.parametrize("bad", [["--suite", "none.jsonl"], ["--max-new-tokens", "0"], []])
def test_bad_arguments_are_refused_and_leave_nothing(command: str, bad: list[str], tmp_path: Path) -> None:
    target = [] if not bad else ["--to", str(tmp_path / "there")]
    assert run_command([command, *target, *bad]) == 2
    assert not (tmp_path / "there").exists()


def test_the_environment_is_a_package_that_names_what_it_needs(tmp_path: Path) -> None:
    assert run_command(["verifiers-env", "--to", str(tmp_path / "there"), "--suite", "quick"]) == 0
    project = tomllib.loads((tmp_path / "there" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "cai-quick"
    assert any(need.startswith("verifiers") for need in project["project"]["dependencies"])
    assert (tmp_path / "there" / "cai_quick" / "__init__.py").exists()


@inspect_here
@pytest.mark.long
def test_inspect_asks_every_item_plainly_and_gives_our_verdicts(tmp_path: Path) -> None:
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    assert run_command(["inspect-task", "--to", str(tmp_path / "task"), "--max-new-tokens", "40"]) == 0
    items = load_suite("stage1").items
    answers = answers_to(items)
    by_instruction = {item.instruction: answers[item.id] for item in items}
    prompts: list[list[tuple[str, str]]] = []
    limits: set[tuple[float | None, int | None]] = set()

    def answer(messages: Any, _tools: Any, _choice: Any, config: Any) -> Any:
        prompts.append([(message.role, message.text) for message in messages])
        limits.add((config.temperature, config.max_tokens))
        text, ended = by_instruction[messages[-1].text]
        output = ModelOutput.from_content("mockllm", text, stop_reason="stop" if ended else "max_tokens")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it is counted with a download
        return output

    model = get_model("mockllm/model", custom_outputs=answer)
    (log,) = inspect_eval(
        f"{tmp_path}/task/cai_stage1.py@cai_stage1", model=model, log_dir=str(tmp_path / "logs"), display="none"
    )
    assert log.status == "success", log.error
    assert sorted(prompts) == sorted([("user", item.instruction)] for item in items)
    assert limits == {(0, 40)}
    ours = {item.id: judge(item, *answers[item.id]) for item in items}
    assert 0 < sum(answer.success for answer in ours.values()) < len(items)
    assert {sample.id: sample.scores["followed"].value == "C" for sample in log.samples} == {
        id: answer.success for id, answer in ours.items()
    }
    assert {sample.id: sample.scores["first_line_followed"].value == "C" for sample in log.samples} == {
        id: answer.first_line_success for id, answer in ours.items()
    }
    assert {sample.scores["followed"].explanation for sample in log.samples} == {a.reason for a in ours.values()}
    rates = {score.name: score.metrics["accuracy"].value for score in log.results.scores}
    assert rates["followed"] == pytest.approx(sum(a.success for a in ours.values()) / len(items), abs=1e-12)
    assert log.eval.metadata["suite_sha256"] == load_suite("stage1").sha256


@inspect_here
@pytest.mark.long
def test_inspects_hf_provider_answers_as_the_evaluation_does(cai: Cai, finished: Finished, tmp_path: Path) -> None:
    from inspect_ai.log import read_eval_log

    assert cai("export", "--to", str(tmp_path / "out"), "--merge")[0] == 0
    suite = finished.environment["CAI_EVALUATION__SUITE"]
    assert cai("inspect-task", "--to", str(tmp_path / "task"), "--suite", suite, "--max-new-tokens", "12")[0] == 0
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            sys.executable, "-m", "inspect_ai", "eval", f"{tmp_path}/task/cai_mine.py@cai_mine", "--model", "hf/local",
            "-M", f"model_path={tmp_path / 'out' / 'model'}", "-M", "do_sample=false", "-M", "dtype=float32",
            "--max-connections", "8", "--display", "plain", "--log-dir", str(tmp_path / "logs"),
        ],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    log = read_eval_log(str(next((tmp_path / "logs").glob("*.eval"))))
    assert log.status == "success", log.error
    samples = {sample.id: sample for sample in log.samples}
    rows = read_json(finished.results_file)["items"]
    assert {row["trained"]["finished"] for row in rows} == {True, False}
    tokenizer = load_tokenizer(finished.prepared)
    for row in rows:
        sample = samples[row["id"]]
        assert sample.output.completion == row["trained"]["response"]
        assert (sample.scores["followed"].value == "C") == row["trained"]["success"]
        # Inspect does not tell an answer that ended at the last token allowed from one that was cut there.
        tokens = len(tokenizer(row["trained"]["response"], add_special_tokens=False)["input_ids"]) + 1
        ended = row["trained"]["finished"] and tokens < 12
        assert (sample.scores["followed"].explanation == "unfinished") == (not ended)


@contextmanager
def chat_server(answers: dict[str, tuple[str, bool]], seen: list[dict[str, Any]]) -> Iterator[str]:
    """An OpenAI-compatible chat server on this machine that gives each message its answer; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body)
            text, ended = answers[body["messages"][-1]["content"]]
            choice = {"index": 0, "finish_reason": "stop" if ended else "length",
                      "message": {"role": "assistant", "content": text}}  # fmt: skip
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            reply = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
                                "choices": [choice], "usage": usage}).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


@verifiers_here
@pytest.mark.long
def test_verifiers_asks_every_task_once_and_its_rewards_are_our_verdicts(tmp_path: Path) -> None:
    arguments = ["verifiers-env", "--to", str(tmp_path / "env"), "--suite", "stage1-120", "--max-new-tokens", "40"]
    assert run_command(arguments) == 0
    items = load_suite("stage1-120").items
    answers = answers_to(items)
    seen: list[dict[str, Any]] = []
    with chat_server({item.instruction: answers[item.id] for item in items}, seen) as address:
        done = subprocess.run(
            [
                sys.executable, "-c", "from verifiers.v1.cli.eval.main import main; main()", "cai_stage1_120",
                "--model", "stub", "--client.base-url", address, "--sampling.temperature", "0", "--no-push",
                "--no-rich", "-o", "out",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([f"{tmp_path}/env", *sys.path])},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sorted(body["messages"][-1]["content"] for body in seen) == sorted(item.instruction for item in items)
    assert {len(body["messages"]) for body in seen} == {1}
    assert {body["temperature"] for body in seen} == {0.0}
    assert {body.get("max_tokens", body.get("max_completion_tokens")) for body in seen} == {40}
    episodes = next((tmp_path / "out").rglob("traces.jsonl")).read_text().splitlines()
    traces = [trace for episode in episodes for trace in json.loads(episode)["traces"]]
    ours = {item.id: judge(item, *answers[item.id]) for item in items}
    rewards = {trace["task"]["key"]: trace["rewards"]["followed"]["score"] for trace in traces}
    assert rewards == {id: float(answer.success) for id, answer in ours.items()}
    metrics = {trace["task"]["key"]: trace["metrics"] for trace in traces}
    assert {id: row["first_line_followed"] for id, row in metrics.items()} == {
        id: float(answer.first_line_success) for id, answer in ours.items()
    }
    assert {id: row["ended"] for id, row in metrics.items()} == {id: float(ended) for id, (_, ended) in answers.items()}
