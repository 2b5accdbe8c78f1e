"""Names of TRL, transformers and PEFT: each is answered with the key that stands for it here, or with a reason."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from stubs import Cai

from cai_bootstrap.cli import COMMANDS, cli
from cai_bootstrap.config import RunConfig, known_keys, resolve
from cai_bootstrap.errors import UsageError
from cai_bootstrap.unknown_keys import TABLE, counterpart, trl_names

ROWS: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
ANSWERS = [
    ("num_train_epochs", "here it is training.epochs"),
    ("per_device_train_batch_size", "here it is training.batch_size (pairs in a step, all devices together"),
    ("gradient_accumulation_steps", "here it is training.accumulate"),
    ("lora_target_modules", "here it is training.lora_targets"),
    ("report_to", "here it is track"),
    ("model_name_or_path", "here it is model"),
    ("output_dir", "here it is paths.base_dir"),
    ("warmup_steps", "here it is training.warmup_ratio (a share of the steps"),
    ("bf16", "here it is precision"),
    ("torch_dtype", "here it is precision"),
    ("save_steps", "here it is training.save_every"),
    ("use_vllm", "here it is engine"),
    ("max_completion_length", "here it is generation.max_new_tokens"),
    ("vllm_gpu_memory_utilization", "there is no such setting: engine vllm"),
    ("load_in_4bit", "there is no such setting: 4-bit is refused"),
    ("push_to_hub", "there is no such setting: nothing is uploaded by a run: `cai export`"),
    ("trust_remote_code", "there is no such setting: code of a model's repository is never run"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: [*row.get("names", ()), *row.get("older", ())][0])
def test_each_row_names_keys_that_exist_or_a_reason(row: dict[str, Any]) -> None:
    assert set(row) <= {"names", "older", "keys", "note", "reason"}
    assert row.get("names") or row.get("older")
    assert ("keys" in row) != ("reason" in row)
    assert not ("reason" in row and "note" in row)
    assert set(row.get("keys", ())) <= set(known_keys())
    text = row.get("note", row.get("reason", ""))
    sections = "|".join(
        name for name, field in RunConfig.model_fields.items() if hasattr(field.annotation, "model_fields")
    )
    assert {found[0] for found in re.finditer(rf"\b(?:{sections})\.\w+", text)} <= set(known_keys())
    for name, second in re.findall(r"`cai ([a-z-]+)(?: ([a-z-]+))?", text):
        assert name in COMMANDS
        command = cli.get_command(click.Context(cli), name)
        assert not isinstance(command, click.Group) or second in command.commands


def test_no_name_stands_in_the_table_twice() -> None:
    names = [name for row in ROWS for name in (*row.get("names", ()), *row.get("older", ()))]
    assert sorted(names) == sorted(trl_names())


def _fields(*classes: type) -> set[str]:
    return {name for each in classes for name in each.__dataclass_fields__}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_field_of_the_installed_trl_is_answered_and_no_other_name_is_said_to_be_one() -> None:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, GenerationConfig
    from trl import DPOConfig, GRPOConfig, ModelConfig, ScriptArguments, SFTConfig

    answered = _fields(DPOConfig, SFTConfig, ModelConfig, ScriptArguments)
    assert [name for name in sorted(answered) if counterpart(name, known_keys()) is None] == []
    there = answered | _fields(GRPOConfig, LoraConfig) | set(vars(GenerationConfig())) | set(vars(BitsAndBytesConfig()))
    for row in ROWS:
        for name in row.get("names", ()):
            assert any(field == name or (name.endswith("*") and field.startswith(name[:-1])) for field in there), name
        assert there & set(row.get("older", ())) == set()


@pytest.mark.slow
def test_the_trainer_is_told_what_the_reasons_say(tmp_path: Path) -> None:
    from cai_bootstrap.training.arguments import training_arguments
    from cai_bootstrap.training.batch_split import share_of

    config = resolve({}, environment={}).config
    told = training_arguments(config, tmp_path, share_of(config.training, 1))
    assert (told.lr_scheduler_type, told.weight_decay, told.max_grad_norm) == ("cosine", 0, 1)
    assert told.optim.startswith("adamw")
    assert (told.label_smoothing_factor, told.report_to, told.logging_steps) == (0, [], 1)
    assert told.per_device_train_batch_size * told.gradient_accumulation_steps == config.training.batch_size
    for several in (2, 4):
        share = share_of(config.training, several)
        assert several * share.batch_size * share.accumulate == config.training.batch_size


@pytest.mark.parametrize(("name", "said"), ANSWERS)
def test_a_name_of_trls_is_answered_wherever_it_is_typed(name: str, said: str, tmp_path: Path, cai: Cai) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text(yaml.safe_dump({name: 1}))
    nested = tmp_path / "nested.yaml"
    nested.write_text(yaml.safe_dump({"training": {name: 1}}))
    for arguments, source, key in (
        (("--set", f"{name}=1"), "command line", name),
        (("--set", f"training.{name}=1"), "command line", f"training.{name}"),
        (("--config", path), str(path), name),
        (("--config", nested), str(nested), f"training.{name}"),
    ):
        code, _, err = cai("config", "show", *arguments)
        assert code == 2
        assert f"{source}: unknown key '{key}'; {said}" in err
    with pytest.raises(UsageError, match=re.escape(f"environment: unknown key '{name}'; {said}")):
        resolve({}, environment={f"CAI_{name.upper()}": "1"})


def test_all_unknown_keys_of_a_file_are_told_at_once(tmp_path: Path, cai: Cai) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text(
        "model_name_or_path: m\nseed: 3\npeft_config: {r: 8}\ngradient_checkpointing_kwargs: {use_reentrant: false}\n"
        "learning_rate: 1e-5\nnonsense: 1\n"
    )
    code, _, err = cai("run", "--config", path, "--base-dir", tmp_path / "base")
    assert code == 2
    assert f"{path}: 5 unknown keys:\n  'model_name_or_path'; here it is model" in err
    assert "'peft_config.r'; here it is training.lora_r\n" in err
    assert "'gradient_checkpointing_kwargs.use_reentrant'; there is no such setting: " in err
    assert "'learning_rate'; did you mean 'training.learning_rate'?\n" in err
    assert err.splitlines()[-1].startswith("  'nonsense'")
    assert not (tmp_path / "base").exists()


def test_a_key_that_several_sections_have_is_told_with_all_of_them() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'generation.select' or 'steering.select'\?"):
        resolve({"select": "gold"}, environment={})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run --num-train-epochs 3", "Here it is training.epochs. Give it as `--set training.epochs=VALUE`."),
        ("train --per-device-train-batch-size=4", "Give it as `--set training.batch_size=VALUE`."),
        ("train --per_device_train_batch_size 4", "Here it is training.batch_size (pairs in a step, all devices"),
        ("generate --lora_r 8", "No such option '--lora_r'. Give it as `--set training.lora_r=VALUE`."),
        ("run --model-name-or-path m", "Give it as `--model VALUE`."),
        ("run --output_dir out", "Give it as `--base-dir VALUE`."),
        ("run --overwrite-output-dir", "Give it as `--force-data`."),
        ("run --load-in-4bit", "There is no such setting: 4-bit is refused"),
        ("ask Hello. --max-prompt-length 3", "There is no such setting: prompts are not cut"),
        ("gate --num-train-epochs 3", "A run takes it: `cai run --set training.epochs=VALUE`."),
        ("--report-to wandb run", "A run takes it: `cai run --track VALUE`."),
    ],
)
def test_an_option_by_trls_name_is_answered_too(arguments: str, said: str, cai: Cai) -> None:
    code, out, err = cai(*arguments.split())
    assert (code, out) == (2, "")
    assert "No such option" in err
    assert said in " ".join(err.split())


def test_an_unknown_option_that_is_no_setting_is_clicks_own_error(cai: Cai) -> None:
    assert "Error: No such option '--nonsense'" in cai("run", "--nonsense")[2]
    assert "'--model'" in cai("run", "--modle", "m")[2]
