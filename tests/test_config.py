"""Configuration: where each value comes from, and what is refused."""

import json
from pathlib import Path

import pytest
from stubs import Cai

from cai_bootstrap.cli import run_command
from cai_bootstrap.config import dump_yaml, preset_names, resolve
from cai_bootstrap.errors import UsageError


def test_precedence_is_command_line_environment_file_preset_default(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: quick-test\ntraining: {epochs: 5, beta: 0.5}\nseed: 5\ngeneration: {count: 55}\n")
    environment = {"CAI_TRAINING__BETA": "0.7", "CAI_SEED": "7"}
    found = resolve({"seed": 9}, config_file=path, environment=environment)
    config, origins = found.config, found.origins
    assert (config.seed, origins["seed"]) == (9, "command line")
    assert (config.training.beta, origins["training.beta"]) == (0.7, "environment")
    assert (config.training.epochs, origins["training.epochs"]) == (5.0, str(path))
    assert (config.generation.count, origins["generation.count"]) == (55, str(path))
    assert (config.evaluation.suite, origins["evaluation.suite"]) == ("quick", "preset quick-test")
    assert origins["training.warmup_ratio"] == "default"


def test_the_command_lines_preset_replaces_the_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("preset: quick-test\n")
    found = resolve({}, preset="gemma-270m-gpu", config_file=path, environment={})
    assert (found.config.preset, found.config.precision) == ("gemma-270m-gpu", "bf16")


def test_preset_and_file_may_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\n")
    found = resolve({}, environment={"CAI_PRESET": "quick-test", "CAI_CONFIG": str(path)})
    assert (found.config.preset, found.config.seed) == ("quick-test", 3)


@pytest.mark.parametrize(
    "name", ["CAI_BASE_DIR", "CAI_CACHE_DIR", "CAI_STATE_DIR", "CAI_POD_CONFIG", "CAI_TENSOR_PARALLEL"]
)
def test_variables_with_other_purposes_are_no_configuration_keys(name: str) -> None:
    assert resolve({}, environment={name: "x"}).config == resolve({}, environment={}).config


def test_a_variable_that_is_no_yaml_is_named_with_what_it_holds(cai: Cai, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_SEED", "[1")
    code, _, err = cai("config", "show")
    assert code == 2
    assert "CAI_SEED = '[1': not a YAML value" in err


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("training.epoch", "training.epochs"),
        ("epochs", "training.epochs"),
        ("learning_rate", "training.learning_rate"),
        ("generation.coutn", "generation.count"),
        ("modle", "model"),
    ],
)
def test_unknown_keys_suggest_the_nearest_known_one(tmp_path: Path, key: str, nearest: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({key: 1}))
    with pytest.raises(UsageError, match=rf"unknown key '{key}'; did you mean '{nearest}'\?") as caught:
        resolve({}, config_file=path, environment={})
    assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match="environment: unknown key"):
        resolve({}, environment={"CAI_" + key.upper().replace(".", "__"): "1"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "expected keys and values"),
        ("training: {epochs: many}\n", "training.epochs = 'many'"),
        ("training: {lora_r: 0}\n", "training.lora_r = 0"),
        ("seed: 1.5\n", "seed"),
    ],
)
def test_a_malformed_file_names_itself_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve({}, config_file=path, environment={})
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_loads_and_survives_being_written_down(tmp_path: Path, preset: str) -> None:
    config = resolve({}, preset=preset, environment={}).config
    path = tmp_path / "c.yaml"
    path.write_text(dump_yaml(config))
    assert resolve({}, config_file=path, environment={}).config == config


def test_the_four_presets_are_there_and_the_large_one_is_as_promised() -> None:
    assert {"quick-test", "gemma-270m-cpu", "gemma-270m-gpu", "qwen2.5-32b-a100"} <= set(preset_names())
    large = resolve({}, preset="qwen2.5-32b-a100", environment={}).config
    assert (large.model, large.generation.count, large.training.epochs) == ("Qwen/Qwen2.5-32B", 1000, 3)
    assert (large.timeouts.generate, large.timeouts.train) == (7200, 10800)


def test_a_configuration_is_frozen() -> None:
    config = resolve({}, environment={}).config
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 2  # type: ignore[misc]


def test_config_show_prints_each_value_with_where_it_came_from(
    tmp_path: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_SEED", "4")
    code, out, _ = cai("config", "show", "--quick-test", "--count", 17, "--base-dir", tmp_path / "b", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["generation.count"] == {"value": 17, "from": "command line"}
    assert shown["seed"] == {"value": 4, "from": "environment"}
    assert shown["evaluation.suite"] == {"value": "quick", "from": "preset quick-test"}
    assert shown["training.beta"]["from"] == "default"
    assert not (tmp_path / "b").exists()
    code, out, _ = cai("config", "show", "--quick-test")
    assert code == 0
    assert "preset quick-test" in out


def test_config_presets_lists_them_with_a_line_each(cai: Cai) -> None:
    code, out, _ = cai("config", "presets")
    assert code == 0
    assert all(any(line.startswith(name) for line in out.splitlines()) for name in preset_names())


def test_a_number_of_instructions_holds_for_later_rounds_too_unless_they_have_their_own() -> None:
    preset = {"preset": "gemma-270m-gpu", "environment": {}}
    assert resolve({}, **preset).config.generation.later_count == 12000
    asked = resolve({"generation.count": 200}, **preset)
    assert (asked.config.generation.later_count, asked.origins["generation.later_count"]) == (None, "default")
    both = resolve({"generation.count": 200, "generation.later_count": 300}, **preset)
    assert both.config.generation.later_count == 300
    assert resolve({"generation.later_count": 300}, **preset).config.generation.count == 6000


SHARED = (
    "preset", "config", "base-dir", "data-dir", "checkpoint-dir", "results-dir", "model", "adapter", "constitution",
    "count", "seed", "precision", "engine", "timeout", "json",
)  # fmt: skip


@pytest.mark.parametrize("name", ["run", "prepare", "baseline", "generate", "train", "evaluate", "ablate", "plan"])
def test_the_commands_of_a_run_take_all_shared_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert [flag for flag in SHARED if f"--{flag} " not in text] == []


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ("ask Hello. --rounds 3", "`cai ask` does not use --rounds"),
        ("ask Hello. --timeout train=5", "`cai ask` does not use --timeout"),
        ("chat --count 0", "`cai chat` does not use --count"),
        ("export --to {base}/out --force-data", "`cai export` does not use --force-data"),
        ("elicit --constitution mine.yaml", "`cai elicit` does not use --constitution"),
        ("pairs check --method dpo", "`cai pairs check` does not use --method"),
    ],
)
def test_a_flag_that_a_command_would_ignore_is_refused(
    arguments: str, refusal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments.format(base=tmp_path).split()) == 2
    assert refusal in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
