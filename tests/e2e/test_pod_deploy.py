"""A real (tiny) run on a real sshd: deployed from this checkout, trained there, brought back verified, pod stopped."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from pod.conftest import make_pod
from pod.loopback import Pod, RunPodStandIn, Sshd
from tiny import make_model, make_suite

from cai_bootstrap.files import read_json, sha256_file

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    (tmp_path / "sshd").mkdir()
    sshd = Sshd(tmp_path / "sshd")
    sshd.start()
    made = make_pod(tmp_path, sshd, CHECKOUT)
    yield made
    made.end_processes()
    sshd.stop()


@pytest.mark.slow
def test_deploy_runs_the_real_pipeline_on_the_pod_and_brings_verified_results_back(pod: Pod, tmp_path: Path) -> None:
    runpod = RunPodStandIn()
    pod.environment["RUNPOD_API_KEY"] = runpod.key
    base = tmp_path / "pod base"
    base.mkdir()
    pod.base = base
    pod.config.pop("job")
    pod.write(
        python=sys.executable, remote_base=str(base), budget=15, provider={"pod_id": "pod123", "api_url": runpod.url},
        setup={"commands": None, "prefetch": True},
        env={"OMP_NUM_THREADS": "1", "CAI_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    runpod.pod["startedAt"] = None
    model = make_model(tmp_path / "model")
    suite, dev = make_suite(tmp_path / "test.jsonl", "test"), make_suite(tmp_path / "dev.jsonl", "dev")
    settings = {
        "evaluation.dev_suite": dev, "evaluation.elicit": "false", "evaluation.max_new_tokens": 8,
        "generation.max_new_tokens": 8, "generation.critique_tokens": 8, "generation.temperature": 1.0,
        "generation.candidates": 3, "generation.select": "critic", "pairs.min_pairs": 1, "training.max_steps": 2,
        "fast": "false",  # no process waits for steps that end before it is there
    }  # fmt: skip
    arguments = ["--quick-test", "--model", str(model), "--suite", str(suite), "--count", "24", "--train-anyway"]
    arguments += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    try:
        done = pod.cai(
            "deploy",
            "--yes",
            "--stop-when-done",
            "--source",
            str(CHECKOUT),
            "--into",
            str(pod.target),
            "--",
            *arguments,
        )
    finally:
        runpod.close()
    run = read_json(pod.target / "results" / "run.json")
    assert run["exit_code"] == 0
    assert run["verdict"] == "not_enforced"
    assert [name for name, step in run["steps"].items() if step["status"] == "done"] == [
        "prepare", "baseline", "generate", "train", "evaluate"
    ]  # fmt: skip
    (success,) = (pod.target / "checkpoints" / "stage1").glob("*/TRAINING_SUCCESS")
    for name, sha256 in read_json(success)["files"].items():
        assert sha256_file(success.parent / name) == sha256
    pulled = read_json(pod.target / "logs" / "pulled.json")["files"]
    assert set(pulled) >= {"results/run.json", "data/stage1/preference_pairs.jsonl", "results/baseline_assessment.json"}
    for name, sha256 in pulled.items():
        assert sha256_file(pod.target / name) == sha256 == sha256_file(base / name)
    assert "generate started" in done.stderr
    assert "the pod is stopped: the provider says EXITED" in done.stderr
    assert "A RENTED POD" not in done.stderr
    (rental,) = json.loads((pod.home / "state" / "pods.json").read_text())["rentals"]
    assert rental["steps"].keys() >= {"generate", "train", "evaluate"}
    assert rental["ended"] is not None
    assert not (base / "code" / ".git").exists()
