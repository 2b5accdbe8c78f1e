"""What a run reads beside the checkout gets to the pod by its content, and the run is told where it lies there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_scorers import SHOUTS, constitution_file, suite_file

from cai_bootstrap.cli.pod_inputs import planned_cost
from cai_bootstrap.cli.pod_run import read_run
from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.instructions.prompt_set import load_prompt_set
from cai_bootstrap.pod.job import job_environment
from cai_bootstrap.pod.onpod.files import folder_of, tree
from cai_bootstrap.pod.run_line import RunLine
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.shipped import shipped

from .loopback import Pod, stand_in_checkout

BASE = "/workspace/base"
STAGE = ("--stage", "constitution")
JOB = '''\
"""A stand-in for a run of the constitution stage: tells what lies where its words say, and ends as it is told."""
import json, sys
from pathlib import Path
words = sys.argv[1:]
base = Path(words[words.index("--base-dir") + 1])
given = dict(word.split("=", 1) for flag, word in zip(words, words[1:]) if flag == "--set")
seen = {}
for key, value in given.items():
    path = Path(json.loads(value) if value.startswith('"') else value)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    seen[key] = {str(p.relative_to(path)) if p != path else p.name: p.read_text() for p in files}
for folder in ("results", "data/constitution/control", "checkpoints/constitution/9f"):
    (base / folder).mkdir(parents=True, exist_ok=True)
(base / "data/constitution/control/preference_pairs.jsonl").write_text("{}")
(base / "checkpoints/constitution/9f/adapter_model.safetensors").write_text("weights")
(base / "results/seen.json").write_text(json.dumps(seen))
steps = {"generate": {"status": "done", "seconds": 7.5, "skipped": False}}
record = {"run": "20261129T100000Z", "verdict": "not_held", "exit_code": 3, "steps": steps}
(base / "results/constitution_run.json").write_text(json.dumps(record))
sys.exit(3)
'''


def settings(**fields: Any) -> PodSettings:
    return PodSettings(host="203.0.113.1", remote_base=BASE, **fields)


def stage1_run(base: Path) -> RunFolder:
    """A finished Stage 1: two trainings, of which one was evaluated, pairs of two rounds, and much that is not read."""
    workspace = RunFolder.at(base).create()
    for name in ("aaaa", "bbbb"):
        folder = workspace.checkpoints / name
        (folder / "checkpoint-25").mkdir(parents=True)
        (folder / "checkpoint-25" / "optimizer.pt").write_text("large")
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_text(name)
        files = {part: sha256_file(folder / part) for part in ("adapter_config.json", "adapter_model.safetensors")}
        success = {"adapter_path": name, "final_loss": 0.5, "epochs": 1.0, "finished_at": "2026-11-22T10:31:00Z",
                   "fingerprint": name, "files": files}  # fmt: skip
        (folder / "TRAINING_SUCCESS").write_text(json.dumps(success))
    for data in (workspace.round_data(1), workspace.round_data(2)):
        data.path.mkdir(exist_ok=True)
        data.pairs.write_text(f'{{"round": {data.round}}}\n')
        data.responses.write_text("not read")
    for time in ("2026-11-22T10:31:00Z", "2026-11-23T10:31:00Z"):
        workspace.evaluation(time).write_text("{}")
    return workspace


def sent(words: list[str], source: Path | None = None, **fields: Any) -> RunLine:
    return read_run(settings(**fields), [*STAGE, *words], source)


def test_files_of_ones_own_are_sent_and_the_run_is_told_their_place(tmp_path: Path) -> None:
    for name in ("mine.yaml", "other.yaml", "questions.csv"):
        (tmp_path / name).write_text(name)
    words = [f"--constitution={tmp_path}/mine.yaml", "--control", f"{tmp_path}/other.yaml",
             "--set", f"prompts={tmp_path}/questions.csv"]  # fmt: skip
    line = sent(words)
    assert [given.key for given in line.inputs] == ["constitution", "prompts", "control"]
    again = read_run(settings(), line.arguments)
    assert again.config is not None
    for given in line.inputs:
        place = str(getattr(again.config, given.key))
        assert place == given.place(settings())
        assert place.startswith(f"{BASE}/inputs/{given.key}-{given.sha256[:12]}/")
    assert line.config is not None
    assert line.config.prompts == f"{tmp_path}/questions.csv"  # here, for the plan
    (tmp_path / "questions.csv").write_text("changed")
    assert sent(words).inputs[1].folder != line.inputs[1].folder
    assert again.inputs == ()


def test_of_a_stage_1_run_only_what_is_gone_on_from_is_sent(tmp_path: Path) -> None:
    base = stage1_run(tmp_path / "stage 1").base
    (given,) = sent(["--from", str(base)]).inputs
    assert sorted(given.names) == [
        "checkpoints/stage1/aaaa/TRAINING_SUCCESS", "checkpoints/stage1/aaaa/adapter_config.json",
        "checkpoints/stage1/aaaa/adapter_model.safetensors", "checkpoints/stage1/bbbb/TRAINING_SUCCESS",
        "checkpoints/stage1/bbbb/adapter_config.json", "checkpoints/stage1/bbbb/adapter_model.safetensors",
        "data/stage1/preference_pairs.jsonl", "data/stage1/round-2/preference_pairs.jsonl",
        "results/stage1_evaluation_20261123T103100Z.json",
    ]  # fmt: skip
    assert given.place(settings()) == f"{BASE}/inputs/start_from-{given.sha256[:12]}"
    there = tmp_path / "pod" / given.folder
    for name in given.names:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(base / name, there / name)
    (there / "stale").write_text("of a killed transfer")
    assert tree(there, list(given.names))["sha256"] == given.sha256
    assert not (there / "stale").exists()


@pytest.mark.parametrize("words", [
    [], ["--control", "none"], ["--prompts", "owner/name"], ["--constitution", "/volume/c.yaml"], ["--from", BASE],
    ["--prompts", f"{BASE}/inputs/p.jsonl"],
])  # fmt: skip
def test_what_the_pod_has_or_fetches_itself_is_not_sent(tmp_path: Path, words: list[str]) -> None:
    line = sent(words, tmp_path)
    assert line.inputs == ()
    assert list(line.arguments) == [*STAGE, *words]


def test_what_is_pushed_is_not_sent_twice(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("version: 2")
    assert sent(["--constitution", "c.yaml"], tmp_path).inputs == ()


@pytest.mark.usefixtures("nothing_trusted")
def test_own_scorers_travel_with_the_suite_that_names_them_and_may_run_there(tmp_path: Path) -> None:
    suite = suite_file(tmp_path / "own", SHOUTS)
    line = read_run(settings(), ["--suite", str(suite)])
    (given,) = line.inputs
    assert given.names == ("mine.jsonl", "mine.py")
    assert given.place(settings()).endswith("/mine.jsonl")
    there = tmp_path / "pod"
    there.mkdir()
    for name in given.names:
        shutil.copy(tmp_path / "own" / name, there / name)
    consent = job_environment(line.consented(settings()))["CAI_TRUSTED_SCORERS"]
    assert consent == sha256_file(tmp_path / "own" / "mine.py")
    assert "CAI_TRUSTED_SCORERS" not in job_environment(settings())
    stated = settings().model_copy(update={"env": {"CAI_TRUSTED_SCORERS": f"{'f' * 64} {consent}"}})
    assert job_environment(line.consented(stated))["CAI_TRUSTED_SCORERS"].split(",") == sorted([consent, "f" * 64])
    shown = subprocess.run(
        [sys.executable, "-m", "cai_bootstrap", "suite", "verify", "--suite", str(there / "mine.jsonl")],
        env={**os.environ, "XDG_CONFIG_HOME": str(there / "config"), "CAI_TRUSTED_SCORERS": consent},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, "")
    suite_file(tmp_path / "own", SHOUTS + "# changed\n")
    assert read_run(settings(), ["--suite", str(suite)]).inputs[0].folder != given.folder


@pytest.mark.usefixtures("nothing_trusted")
def test_own_checks_travel_with_a_constitution(tmp_path: Path) -> None:
    line = sent(["--constitution", str(constitution_file(tmp_path / "own", SHOUTS, "mine.py:shouts"))])
    assert line.inputs[0].names == ("mine.yaml", "mine.py")
    assert line.trusted == (sha256_file(tmp_path / "own" / "mine.py"),)


@pytest.mark.usefixtures("nothing_trusted")
def test_own_scorers_that_would_not_run_there_are_refused_before_it_costs(tmp_path: Path) -> None:
    suite = suite_file(tmp_path / "own", SHOUTS + "# unread\n", trusted=False)
    with pytest.raises(UsageError, match="not trusted on this machine"):
        read_run(settings(), ["--suite", str(suite)])
    (tmp_path / "own" / "mine.py").unlink()
    with pytest.raises(UsageError, match=r"mine\.py: no such file"):
        read_run(settings(), ["--suite", str(suite)])
    checkout = stand_in_checkout(tmp_path / "checkout")
    suite_file(checkout, SHOUTS)
    line = read_run(settings(), ["--suite", "mine.jsonl"], checkout)
    assert (line.inputs, len(line.trusted)) == ((), 1)
    (checkout / ".gitignore").write_text("mine.py\n")
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    with pytest.raises(UsageError, match=r"mine\.py, which is not pushed to the pod with it"):
        read_run(settings(), ["--suite", "mine.jsonl"], checkout)


def test_what_is_nowhere_or_holds_a_secret_is_refused_before_it_costs(tmp_path: Path) -> None:
    for flag in ("--constitution", "--prompts", "--control", "--from"):
        with pytest.raises(UsageError, match=f"{flag} none/of/these: neither here nor in the checkout"):
            sent([flag, "none/of/these"], tmp_path)
    with pytest.raises(UsageError, match="holds no finished Stage 1 training"):
        sent(["--from", str(tmp_path)], tmp_path)
    (tmp_path / "prompts.txt").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    with pytest.raises(UsageError, match="looks like a key or a secret"):
        sent(["--prompts", str(tmp_path / "prompts.txt")])


def imported(base: Path) -> Path:
    """A base directory with imported pairs; gives its data folder."""
    data = RunFolder.at(base).create().round_data(1)
    data.pairs.write_text("{}\n")
    source = {"source": "mine.jsonl", "sha256": "4c" * 32, "rows": 9}
    data.summary.write_text(json.dumps({"requested": 9, "pairs": 9, "imported": source}))
    return data.path


def test_imported_pairs_are_refused_before_the_pod_would_generate_others(pod: Pod, tmp_path: Path) -> None:
    folder = imported(tmp_path / "own")
    with pytest.raises(UsageError, match=f"--data-dir {folder}: holds imported pairs, which are not sent to a pod"):
        read_run(settings(), ["--data-dir", str(folder)])
    with pytest.raises(UsageError, match="Let the pod's job import them"):
        sent(["--set", f"paths.data_dir={folder}"])
    assert read_run(settings(), ["--data-dir", "/volume/data"]).inputs == ()
    refused = pod.cai("deploy", "--dry-run", "--into", str(tmp_path / "own"), code=2)
    assert f"{tmp_path}/own: holds imported pairs" in refused.stderr
    record = tmp_path / "own" / "logs" / "pulled.json"
    record.write_text("{}")  # the pod's own job has imported them
    pod.cai("deploy", "--dry-run", "--into", str(tmp_path / "own"))
    record.unlink()
    (folder / "generation_summary.json").write_text("{torn")  # whoever uses the data says so
    pod.cai("deploy", "--dry-run", "--into", str(tmp_path / "own"))


def test_imported_pairs_of_stage_1_go_along_with_from(tmp_path: Path) -> None:
    base = stage1_run(tmp_path / "own").base
    imported(base)
    (given,) = sent(["--from", str(base)]).inputs
    assert "data/stage1/preference_pairs.jsonl" in given.names


@pytest.mark.long
def test_the_pages_job_imports_pairs_on_the_pod_and_trains_on_them(
    pod: Pod, tmp_path: Path, tiny: Path, tiny_suites: tuple[Path, Path]
) -> None:
    """The script of docs/pairs.md, with the tiny model, and `train` in the place of a whole run."""
    page = (Path(__file__).parents[2] / "docs" / "pairs.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```text\n# own\.sh\n(.*?)^```", page, re.M | re.S)
    (job,) = re.findall(r"`job: (\[sh, own\.sh.*?\])`", page)
    source = stand_in_checkout(tmp_path / "own checkout")
    (source / "own.sh").write_text(script.replace("run --preset gemma-270m-gpu", "train"))
    nouns = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath")
    rows = [{"prompt": f"Say {n}.", "chosen": f"A calm {n}.", "rejected": f"No {n * 2}"} for n in nouns]
    (source / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    variables = {
        "CAI_MODEL": tiny, "CAI_EVALUATION__SUITE": tiny_suites[0], "CAI_EVALUATION__DEV_SUITE": tiny_suites[1],
        "CAI_TRAINING__MAX_STEPS": 2, "CAI_TRAINING__WATCH_EVERY": 0, "CAI_THREADS": 1, "CAI_FAST": "false",
        "CAI_CACHE_DIR": tmp_path / "cache",
    }  # fmt: skip
    pod.write(job=yaml.safe_load(job), python=sys.executable, env={name: str(v) for name, v in variables.items()})
    pod.cai("deploy", "--yes", "--source", str(source), "--into", str(pod.target))
    lines = (pod.target / "data/stage1/preference_pairs.jsonl").read_text().splitlines()
    assert {json.loads(line)["label_source"] for line in lines} == {"imported"}
    (success,) = (pod.target / "checkpoints/stage1").glob("*/TRAINING_SUCCESS")
    assert json.loads(success.read_text())["imported"]["rows"] == len(nouns)


def test_the_price_is_that_of_the_constitution_and_prompts_that_will_be_read(tmp_path: Path) -> None:
    examples = shipped("examples/constitutions")
    (tmp_path / "pushed.yaml").write_bytes((examples / "five.yaml").read_bytes())
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "own.yaml").write_bytes((examples / "thanks.yaml").read_bytes())
    own, pushed, there = (
        planned_cost(sent(["--constitution", name], tmp_path, preset="constitution-270m-gpu"), settings(), tmp_path, 2)
        for name in (str(tmp_path / "here" / "own.yaml"), "pushed.yaml", "/volume/c.yaml")
    )
    assert own.seconds is not None
    assert pushed.seconds is not None
    assert pushed.seconds > own.seconds > 0
    assert own.dollars == pytest.approx(own.seconds / 3600 * 2)
    assert (there.seconds, there.dollars) == (None, None)  # only the pod has it: nothing is guessed


def test_a_constitution_that_the_run_would_refuse_is_refused_before_it_costs(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 2\nprinciples: []\n")
    with pytest.raises(UsageError, match=r"bad\.yaml"):
        planned_cost(sent(["--constitution", "bad.yaml"], tmp_path), settings(), tmp_path, 2)


@pytest.mark.parametrize("name", ["..", "inputs", "inputs/..", "inputs/a/b", "results", "/etc", ""])
def test_nothing_is_unpacked_outside_of_the_code_and_the_inputs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="nothing is sent into"):
        folder_of(tmp_path, [name])


def test_deploy_of_the_stage_sends_inputs_brings_its_files_back_and_hands_its_exit_code_on(
    pod: Pod, tmp_path: Path
) -> None:
    source = stand_in_checkout(tmp_path / "stage")
    (source / "scripts").mkdir()
    (source / "scripts" / "run_stage1_pipeline.py").write_text(JOB)
    pod.write(job=["{python}", "{code}/scripts/run_stage1_pipeline.py", "{args}", "--base-dir", "{base}"])
    stage1_run(tmp_path / "stage1")
    asked = [prompt.text for prompt in load_prompt_set(None, seed=0).train[:120]]
    (tmp_path / "questions.txt").write_text("\n".join(asked))
    words = ["deploy", "--yes", "--source", str(source), "--into", str(pod.target), "--", *STAGE,
             "--prompts", str(tmp_path / "questions.txt"), "--from", str(tmp_path / "stage1")]  # fmt: skip
    shown = pod.cai("deploy", "--dry-run", *words[2:]).stdout
    assert f"send    {tmp_path}/questions.txt -> {pod.base}/inputs/prompts-" in shown

    done = pod.cai(*words, code=3)
    assert json.loads((pod.target / "results/constitution_run.json").read_text())["exit_code"] == 3
    seen = json.loads((pod.target / "results/seen.json").read_text())
    assert seen["prompts"] == {"questions.txt": "\n".join(asked)}
    assert seen["start_from"]["checkpoints/stage1/bbbb/adapter_model.safetensors"] == "bbbb"
    assert (pod.target / "data/constitution/control/preference_pairs.jsonl").exists()
    assert (pod.target / "checkpoints/constitution/9f/adapter_model.safetensors").read_text() == "weights"
    assert "all verified" in done.stderr
    (rental,) = pod.json("cost")["rentals"]
    assert rental["steps"] == {"generate": 7.5}

    assert "is on the pod already" in pod.cai(*words, code=3).stderr
    pod.write(via="tar")
    (tmp_path / "questions.txt").write_text("\n".join(asked[::-1]))
    pod.cai(*words, code=3)
    seen = json.loads((pod.target / "results/seen.json").read_text())
    assert seen["prompts"] == {"questions.txt": "\n".join(asked[::-1])}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("nothing_trusted")
def test_a_job_on_the_pod_runs_own_scorers_that_are_trusted_here(pod: Pod, tmp_path: Path) -> None:
    job = """
import os, subprocess, sys
from pathlib import Path
words = sys.argv[1:]
base = Path(words[words.index("--base-dir") + 1])
suite = next(word.partition("=")[2] for word in words if word.startswith("evaluation.suite="))
done = subprocess.run(["PYTHON", "-m", "cai_bootstrap", "suite", "verify", "--suite", suite.strip('"')],
                      env={**os.environ, "XDG_CONFIG_HOME": str(base / "no-config")}, capture_output=True, text=True)
(base / "results").mkdir(parents=True, exist_ok=True)
(base / "results/verified.txt").write_text(f"{done.returncode} {done.stdout}{done.stderr}")
"""
    source = stand_in_checkout(tmp_path / "stage")
    (source / "scripts").mkdir()
    (source / "scripts" / "run_stage1_pipeline.py").write_text(job.replace("PYTHON", sys.executable))
    pod.write(job=["{python}", "{code}/scripts/run_stage1_pipeline.py", "{args}", "--base-dir", "{base}"])
    suite = suite_file(tmp_path / "own", SHOUTS)
    pod.cai("deploy", "--yes", "--source", str(source), "--into", str(pod.target), "--", "--suite", str(suite))
    verified = (pod.target / "results/verified.txt").read_text()
    assert verified.startswith("0 mine ("), verified
    assert "own scorers mine.py" in verified
