"""Set-up fetches the model that the run will load: the run's own command line decides, resolved as on the pod."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cai_bootstrap.cli.pod_run import read_run
from cai_bootstrap.errors import UsageError
from cai_bootstrap.pod.install import setup_commands
from cai_bootstrap.pod.job import job_argv
from cai_bootstrap.pod.settings import PodSettings

from .loopback import Pod

BASE = "/workspace/base"


def settings(**fields: Any) -> PodSettings:
    return PodSettings(host="203.0.113.1", remote_base=BASE, **fields)


def checkout(folder: Path, **files: dict[str, Any]) -> Path:
    for name, keys in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(keys))
    return folder


def fetched(pod: PodSettings, words: list[str], source: Path | None = None) -> tuple[str, str | None]:
    """The model and revision that the words of `prepare` resolve to, read by the product's own command line."""
    line = read_run(pod, words, source)
    assert line.prepare is not None
    config = read_run(pod.model_copy(update={"preset": None}), line.prepare, source).config
    assert config is not None
    return config.model, config.revision


@pytest.mark.parametrize(("words", "model"), [
    ([], "gemma-3-270m"), (["--model", "x/y"], "x/y"), (["--model=x/y"], "x/y"), (["--set", "model=x/y"], "x/y"),
    (["--set=model=x/y"], "x/y"), (["--set", "model=a", "--set", "model=b"], "b"),
    (["--model", "a", "--model", "b"], "b"),
    (["--model", "a", "--set", "model=b"], "b"), (["--set", "model=b", "--model", "a"], "b"),
    (["--suite", "--model", "--set=model=b"], "b"), (["--set", 'model="1e5"'], "1e5"), (["--model", "on"], "on"),
    (["--preset", "qwen2.5-32b-a100"], "Qwen/Qwen2.5-32B"), (["--preset=qwen2.5-32b-a100", "--model", "c"], "c"),
])  # fmt: skip
def test_setup_fetches_the_model_that_the_run_names(words: list[str], model: str) -> None:
    assert fetched(settings(preset="gemma-270m-gpu"), words)[0] == model


@pytest.mark.parametrize("words", [["--set", "revision=abc"], ["--set=revision=x", "--set", "revision=abc"]])
def test_setup_fetches_the_revision_that_the_run_names(words: list[str]) -> None:
    assert fetched(settings(), [*words, "--model", "m"]) == ("m", "abc")


def test_setup_fetches_the_model_of_a_config_file(tmp_path: Path) -> None:
    source = checkout(tmp_path, run={"model": "from/file", "revision": "r1"}, named={"preset": "quick-test"})
    pod = settings(preset="gemma-270m-gpu")
    assert fetched(pod, ["--config", "run.yaml"], source) == ("from/file", "r1")
    assert fetched(pod, ["--config=run.yaml", "--set", "model=over"], source) == ("over", "r1")
    assert fetched(pod, [f"--config={BASE}/code/run.yaml"], source) == ("from/file", "r1")
    assert fetched(settings(env={"CAI_CONFIG": "run.yaml"}), [], source) == ("from/file", "r1")
    line = read_run(pod, ["--config", "named.yaml"], source)
    assert (line.preset, line.prepare) == ("quick-test", ("--preset", "quick-test"))


def test_a_config_file_that_only_the_pod_has_is_read_there(tmp_path: Path) -> None:
    words = ["--config", "/volume/run.yaml", "--set", "revision=r"]
    line = read_run(settings(preset="gemma-270m-gpu"), words, checkout(tmp_path, other={}))
    assert line.config is None
    assert line.prepare == (*words, "--base-dir", BASE)
    assert read_run(settings(), ["--config", "run.yaml"]).prepare == ("--config", "run.yaml", "--base-dir", BASE)


@pytest.mark.parametrize("name", ["none.yaml", "results/run.yaml", "../run.yaml/../none.yaml"])
def test_a_config_file_that_is_not_pushed_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.yaml").write_text("model: x\n")
    if ".." in name:
        assert read_run(settings(), ["--config", name], tmp_path).config is None
        return
    with pytest.raises(UsageError, match=f"--config {name}.*not pushed"):
        read_run(settings(), ["--config", name], tmp_path)


def test_variables_count_if_the_pod_will_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_MODEL", "mine/alone")
    monkeypatch.setenv("CAI_PRESET", "quick-test")
    monkeypatch.setenv("CAI_REVISION", "mine")
    line = read_run(settings(), ["--model", "x/y"])
    assert line.config is not None
    assert (line.config.model, line.config.revision, line.preset) == ("x/y", None, None)
    there = read_run(settings(env={"CAI_MODEL": "pod/model"}), []).config
    assert there is not None
    assert there.model == "pod/model"


@pytest.mark.parametrize("words", [
    ["--modle", "x"], ["--set", "modle=x"], ["--set", "model"], ["--preset", "none"], ["--count", "many"], ["surplus"],
    ["--model"], ["--set", "generation.precision=int4"],
])  # fmt: skip
def test_what_the_pod_would_refuse_is_refused_before_it_costs(pod: Pod, words: list[str]) -> None:
    del pod.config["job"]
    pod.write()
    for command in ("deploy", "run", "setup"):
        assert "error" in pod.cai(command, "--", *words, code=2).stderr
    assert not (pod.base / ".pod").exists()


@pytest.mark.parametrize(("words", "preset"), [
    ([], "gemma-270m-gpu"), (["--preset", "quick-test"], "quick-test"), (["--quick-test"], "quick-test"),
    (["--preset=quick-test"], "quick-test"), (["--config=run.yaml"], None),
    (["--config", "run.yaml", "--preset", "quick-test"], "quick-test"), (["--model", "--quick-test"], "gemma-270m-gpu"),
    (["--quick-test", "--preset", "qwen2.5-32b-a100"], "quick-test"),
])  # fmt: skip
def test_pod_yamls_preset_holds_where_the_arguments_name_none(
    tmp_path: Path, words: list[str], preset: str | None
) -> None:
    source = checkout(tmp_path, run={"seed": 3})
    line = read_run(settings(preset="gemma-270m-gpu"), words, source)
    assert line.preset == preset
    assert line.config is not None
    assert line.config.preset == preset
    assert (list(line.arguments) == words) == (preset != "gemma-270m-gpu")


def test_only_what_prepare_needs_decides_whether_setup_runs_again() -> None:
    pod = settings(preset="gemma-270m-gpu")
    lines = {tuple(setup_commands(pod, read_run(pod, words).prepare)) for words in ([], ["--count", "9"], ["--seed=2"])}
    assert len(lines) == 1


@pytest.mark.parametrize("job", [
    ["{python}", "-m", "cai_bootstrap", "run", "{args}", "--set", "model=own"],
    ["/opt/bin/cai", "run", "{args}", "--model=own"],
    ["{python}", "-P", "-m", "cai_bootstrap", "ablate", "{args}", "--model", "own"],
    ["{python}", "{code}/scripts/run_stage1_pipeline.py", "{args}", "--model", "own"],
])  # fmt: skip
def test_the_model_is_that_of_the_whole_command_of_the_job(job: list[str]) -> None:
    assert fetched(settings(job=job), ["--model", "mine"])[0] == "own"


def test_a_job_that_is_no_cai_command_is_left_its_arguments() -> None:
    pod = settings(job=["{python}", "train.py", "{args}"])
    line = read_run(pod, ["--lines", "3", "--model", "x"])
    assert (line.config, line.prepare, line.preset) == (None, None, None)
    assert job_argv(pod, line.arguments)[2:] == ["--lines", "3", "--model", "x"]
    assert not any("prepare" in words for words in setup_commands(pod, line.prepare))


def test_the_dry_run_shows_the_model_that_will_be_fetched(pod: Pod) -> None:
    del pod.config["job"]
    pod.write(setup={"commands": None}, preset="gemma-270m-gpu")
    words = [
        "deploy",
        "--dry-run",
        "--json",
        "--source",
        str(pod.source),
        "--",
        "--set=model=x/y",
        "--set",
        "revision=r",
    ]
    (prepare,) = (line for line in pod.json(*words)["plan"] if "prepare" in line)
    assert prepare.endswith("--preset gemma-270m-gpu --model x/y --set revision=r")


def test_an_option_by_trls_name_is_answered_before_it_costs() -> None:
    with pytest.raises(UsageError, match=r"'--num-train-epochs'\. Here it is training\.epochs\. Give it as `--set "):
        read_run(settings(), ["--num-train-epochs", "2"])


@pytest.mark.parametrize("section", ["server", "judge"])
def test_a_servers_key_must_be_a_secret_that_the_job_has(section: str) -> None:
    words = ["--model", "m", "--set", f"{section}.api_key_env=VLLM_TOKEN"]
    with pytest.raises(UsageError, match=rf"{section}\.api_key_env = VLLM_TOKEN.*'secrets' in pod\.yaml"):
        read_run(settings(secrets=["HF_TOKEN"]), words)
    assert read_run(settings(secrets=["VLLM_TOKEN"]), words).config is not None


@pytest.mark.parametrize(
    ("endpoint", "warns"),
    [("http://localhost:8000", True), ("http://127.0.0.2:1", True), ("http://[::1]:8000", True),
     ("https://gpu.example/v1", False), ("http://203.0.113.7:8000", False)],
)  # fmt: skip
def test_an_address_that_is_the_pod_itself_is_warned_of(
    capsys: pytest.CaptureFixture[str], endpoint: str, warns: bool
) -> None:
    read_run(settings(), ["--model", "m", "--endpoint", endpoint])
    assert ("is the pod itself" in capsys.readouterr().err) is warns
