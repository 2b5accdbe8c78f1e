"""Whole runs in processes of their own whose base answers at an address: a tiny model behind a real server."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from completions_server import Served, TinyBackend, serving
from processes import run
from stubs import progress_at, rows_of
from tiny import make_suite

from cai_bootstrap.config import resolve
from cai_bootstrap.errors import CaiError
from cai_bootstrap.run.folder import CONSTITUTION, RunFolder
from cai_bootstrap.shipped import shipped
from cai_bootstrap.steps.constitution import generate
from cai_bootstrap.steps.context import StepContext

pytestmark = pytest.mark.long
KEY = "a-key-that-is-a-secret"


@pytest.fixture(scope="module")
def served(tiny: Path) -> Iterator[Served]:
    with serving(TinyBackend(tiny, batch_size=8), key=KEY) as running:
        yield running


def test_a_whole_run_generates_at_an_address_and_measures_here(tiny: Path, served: Served, tmp_path: Path) -> None:
    settings = (
        "pairs.min_pairs=1", "generation.chunk=4", "generation.batch_size=8", "generation.max_new_tokens=8",
        "generation.critique_tokens=6", "generation.candidates=2", "generation.shots=2", "training.max_steps=4",
        "training.batch_size=2", "training.lora_r=4", "training.watch_every=4", "evaluation.max_new_tokens=8",
        "evaluation.elicit=false", f"evaluation.dev_suite={make_suite(tmp_path / 'dev.jsonl', 'dev')}", "threads=1",
        "server.precision=fp32", "server.api_key_env=SERVER_KEY",
    )  # fmt: skip
    base = tmp_path / "base"
    command = [
        "run", "--base-dir", base, "--model", tiny, "--suite", make_suite(tmp_path / "test.jsonl", "test"), "--count",
        "16", "--select", "critic", "--train-anyway", "--engine", "openai", "--endpoint", f"{served.address}/v1",
        *(word for setting in settings for word in ("--set", setting)),
    ]  # fmt: skip
    code, said = run(*command, SERVER_KEY="another")
    assert code == 2
    assert "look at the key in $SERVER_KEY" in said
    code, said = run(*command, SERVER_KEY=KEY)
    assert code == 3, said  # random weights follow little
    record = json.loads((base / "results/run.json").read_text())
    assert record["manifest"]["data"]["served_by"]["checked"] == "declared, not checked"
    results = json.loads(next((base / "results").glob("stage1_evaluation_*.json")).read_text())
    assert results["run"]["generated_by"]["requests"] == len(rows_of(base / "data/stage1/server_answers.jsonl"))
    assert results["conditions"]["engine"] == "transformers"
    page = next(base.rglob("report*.html")).read_text(encoding="utf-8")
    assert "The base answered at an address" in page
    assert KEY not in said + "".join(p.read_text(errors="replace") for p in base.rglob("*") if p.is_file())


def test_a_constitution_is_revised_at_an_address_as_in_this_process(
    tiny: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)

    def written(**values: Any) -> dict[str, list[dict[str, Any]]]:
        settings = {
            "stage": "constitution", "model": str(tiny), "generation.count": 6, "generation.chunk": 4,
            "constitution": str(shipped("examples/constitutions/thanks.yaml")), "control": "none", "threads": 1,
            "generation.batch_size": 8, "generation.max_new_tokens": 8, "generation.critique_tokens": 6,
            "steering.redraws": 0, "engine": "transformers", **values,
        }  # fmt: skip
        workspace = RunFolder.at(tmp_path / str(settings["engine"]), stage=CONSTITUTION).create()
        config = resolve(settings, environment={}).config
        context = StepContext(config, workspace, progress_at(workspace.logs), lambda: False, "test")
        with contextlib.suppress(CaiError):  # too few pairs to train: random weights revise little
            generate.run(context, "")
        data = context.data
        assert data.summary.exists()
        files = (data.responses, data.critiques_by(1), data.revisions_by(1))
        return {
            path.name: [{key: value for key, value in row.items() if key != "model"} for row in rows_of(path)]
            for path in files
        }

    remote = {
        "engine": "openai", "server.endpoint": served.address, "server.precision": "fp32",
        "server.api_key_env": "SERVER_KEY",
    }  # fmt: skip
    assert written(**remote) == written()
