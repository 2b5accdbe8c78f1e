"""The instructions as a set for TRL's GRPO: every row can be judged, by the reward that docs/pairs.md shows."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stubs import Cai, instructions_of, rows_of

from cai_bootstrap.files import write_json, write_jsonl
from cai_bootstrap.judging.scorers import check
from cai_bootstrap.records import Instruction
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.markers import write_marker

PAGE = Path(__file__).parents[1] / "docs" / "pairs.md"
COLUMNS = ["prompt", "id", "type", "skill", "instruction", "scorer", "args", "gold", "tier"]
Reward = Callable[..., list[float]]


def data_at(base: Path, instructions: list[Instruction]) -> RunFolder:
    """What a generation that ended leaves of these instructions."""
    workspace = RunFolder.at(base).create()
    data = workspace.round_data(1)
    write_jsonl(data.instructions, instructions)
    write_json(data.summary, {"pairs": 0})
    for path in (data.responses, data.pairs):
        path.write_text("")
    outputs = {"instructions": data.instructions, "responses": data.responses, "pairs": data.pairs}
    write_marker(workspace, "generate", 1, fingerprint="f", outputs={**outputs, "summary": data.summary})
    return workspace


@pytest.fixture
def generated(tmp_path: Path) -> RunFolder:
    """Instructions of the pool, and one that the model wrote itself."""
    own = Instruction(id="q-own", type="question", template="self", instruction="Why is it so?", source="self")
    return data_at(tmp_path / "work", [*instructions_of(80), own])


@pytest.fixture
def exported(generated: RunFolder, tmp_path: Path, cai: Cai) -> Path:
    target = tmp_path / "prompts.jsonl"
    code, out, _ = cai("pairs", "export", target, "--format", "prompts", "--base-dir", generated.base)
    assert (code, f"{len(rows_of(target))} prompts in {target}" in out) == (0, True)
    return target


def page_reward() -> Reward:
    """The function of the page, as it stands there."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(block.strip().splitlines()) <= 16
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    function: Reward = names["follows"]
    return function


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in COLUMNS if name != "prompt"}


def test_every_row_names_the_rule_of_its_instruction(exported: Path, generated: RunFolder) -> None:
    rows = rows_of(exported)
    source = {row["id"]: row for row in rows_of(generated.round_data(1).instructions)}
    assert len(rows) == sum(row["scorer"] is not None for row in source.values()) > 0
    for row in rows:
        own = source[row["id"]]
        assert list(row) == COLUMNS
        assert row["prompt"] == own["instruction"] + "\n"
        assert (row["scorer"], json.loads(row["args"]), json.loads(row["gold"])) == (
            own["scorer"],
            own["args"],
            own["gold"],
        )
        check(row["instruction"], row["scorer"], json.loads(row["args"]), json.loads(row["gold"]), "An answer.")
    assert {row["tier"] for row in rows} <= {"constraint", "gold"}


def test_the_set_loads_as_one_table_although_rules_differ(exported: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset("json", data_files=str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == COLUMNS
    assert {str(kind.dtype) for kind in loaded.features.values()} == {"string"}


def test_the_reward_of_the_page_pays_for_right_answers_that_end(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the tokenizer, which is read for the number of its end alone."""
    tokenizers = SimpleNamespace(from_pretrained=lambda _: SimpleNamespace(eos_token_id=2))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=tokenizers))
    reward = page_reward()
    rows = [row for row in rows_of(exported) if json.loads(row["gold"])]
    right, ended = [json.loads(row["gold"])[0] for row in rows], [[5, 2]] * len(rows)
    asked = {**columns(rows), "prompts": [row["prompt"] for row in rows], "trainer_state": None}
    assert reward(completions=right, completion_ids=ended, **asked) == [1.0] * len(rows)
    assert reward(completions=right, completion_ids=[[5, 6]] * len(rows), **asked) == [0.0] * len(rows)
    assert reward(completions=right, completion_ids=[[]] * len(rows), **asked) == [0.0] * len(rows)
    assert reward(completions=["Some other words entirely."] * len(rows), completion_ids=ended, **asked) == [0.0] * len(
        rows
    )


def test_what_no_rule_can_judge_is_left_out_and_nothing_else_is_an_error(tmp_path: Path, cai: Cai) -> None:
    own = Instruction(id="q-1", type="question", template="imported", instruction="Why?", source="imported")
    workspace = data_at(tmp_path / "work", [own])
    target = tmp_path / "prompts.jsonl"
    words = ("pairs", "export", target, "--format", "prompts", "--base-dir", workspace.base)
    code, _, err = cai(*words)
    assert (code, "no instruction here that a rule can judge" in err, target.exists()) == (1, True, False)
    code, _, err = cai(*words, "--stage", "constitution")
    assert (code, "--format prompts is for Stage 1" in err, target.exists()) == (2, True, False)
    target.write_text("mine")
    code, _, err = cai(*words)
    assert (code, "is there already" in err, target.read_text()) == (2, True, "mine")


def test_a_generation_that_did_not_end_or_was_changed_gives_no_set(
    generated: RunFolder, tmp_path: Path, cai: Cai
) -> None:
    words = ("pairs", "export", tmp_path / "p.jsonl", "--format", "prompts", "--base-dir", generated.base)
    data = generated.round_data(1)
    whole = data.instructions.read_bytes()
    data.instructions.write_bytes(whole[: len(whole) // 2])
    assert cai(*words)[0] == 4
    data.instructions.write_bytes(whole)
    data.summary.unlink()
    generated.marker("generate").unlink()
    assert cai(*words)[0] == 1
    assert not (tmp_path / "p.jsonl").exists()


@pytest.mark.long
def test_trl_trains_two_steps_on_the_set_with_that_reward(
    exported: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset
    from trl import GRPOConfig, GRPOTrainer

    (tmp_path / "my-base-model").symlink_to(tiny)
    monkeypatch.chdir(tmp_path)
    prompts = load_dataset("json", data_files=str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    settings = GRPOConfig(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=4, num_generations=4, max_completion_length=8,
        max_steps=2, use_cpu=True, bf16=False, logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(str(tiny), reward_funcs=page_reward(), args=settings, train_dataset=prompts)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "rewards/follows/mean" in row]
    assert trainer.state.global_step == len(logged) == 2
    assert all(0.0 <= row["rewards/follows/mean"] <= 1.0 for row in logged)
