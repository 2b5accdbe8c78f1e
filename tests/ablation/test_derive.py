"""A variation's own pairs come from the shared answers, and its data are known for what they are."""

import json
import shutil
from pathlib import Path

import pytest
from stubs import StubEngine, config_of, instructions_of, rows_of, run_generator

from cai_bootstrap.ablation.derive import derive
from cai_bootstrap.ablation.plan import PairRule
from cai_bootstrap.config import RunConfig
from cai_bootstrap.errors import DataError
from cai_bootstrap.files import write_json, write_jsonl
from cai_bootstrap.run.folder import DataFolder

PAIRS = "preference_pairs.jsonl"


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return config_of(generation__candidates=4)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, config: RunConfig) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "data"
    asked = instructions_of(40)
    run_generator(folder, StubEngine(), asked, config)
    write_jsonl(folder / "instructions.jsonl", asked)
    write_json(folder / "data_identity.json", {"fingerprint": "f", "requested": 40, "identity": {"seed": 0}})
    write_json(folder / "generation_summary.json", {"requested": 40})
    return folder


def made(shared: Path, folder: Path, rule: PairRule, config: RunConfig) -> list[dict]:
    count = derive(DataFolder(shared), DataFolder(folder), rule, config)
    rows = rows_of(folder / "preference_pairs.jsonl")
    assert len(rows) == count > 0
    return rows


def test_derived_data_keep_the_shared_identity_and_name_their_rule(
    shared: Path, tmp_path: Path, config: RunConfig
) -> None:
    made(shared, tmp_path / "d", "random", config)
    identity = json.loads((tmp_path / "d" / "data_identity.json").read_text())
    assert identity == {"fingerprint": "f", "requested": 40, "identity": {"seed": 0}, "pair_rule": "random"}
    assert (tmp_path / "d" / "responses.jsonl").read_bytes() == (shared / "responses.jsonl").read_bytes()


def test_as_made_are_the_shared_pairs(shared: Path, tmp_path: Path, config: RunConfig) -> None:
    assert made(shared, tmp_path / "d", "as_made", config) == rows_of(shared / "preference_pairs.jsonl")


@pytest.mark.parametrize("rule", ["random", "majority"])
def test_rechosen_answers_are_few_shot_answers_to_the_same_instructions(
    shared: Path, tmp_path: Path, config: RunConfig, rule: PairRule
) -> None:
    known = {row["instruction_id"] for row in rows_of(shared / "preference_pairs.jsonl")}
    answers = {row["id"]: row for row in rows_of(shared / "responses.jsonl")}
    for row in made(shared, tmp_path / "d", rule, config):
        assert row["instruction_id"] in known
        assert answers[row["chosen_id"]]["prompting"] == "few_shot"
        assert answers[row["chosen_id"]]["finished"]
        assert row["chosen"] != row["rejected"]


def test_the_same_seed_draws_the_same_random_answers(shared: Path, tmp_path: Path, config: RunConfig) -> None:
    assert made(shared, tmp_path / "a", "random", config) == made(shared, tmp_path / "b", "random", config)


def test_unfiltered_answers_are_to_as_many_instructions_at_most(
    shared: Path, tmp_path: Path, config: RunConfig
) -> None:
    rows = made(shared, tmp_path / "d", "few_shot_unfiltered", config)
    assert len(rows) <= len(rows_of(shared / "preference_pairs.jsonl"))
    assert {row["label_source"] for row in rows} == {"few_shot_unfiltered"}


def test_responses_only_have_no_prompt_and_no_text_twice(shared: Path, tmp_path: Path, config: RunConfig) -> None:
    rows = made(shared, tmp_path / "d", "responses_only", config)
    assert {row["prompt"] for row in rows} == {""}
    assert len({row["chosen"] for row in rows}) == len(rows)


def test_without_revisions_no_revision_is_chosen_or_rejected(shared: Path, tmp_path: Path, config: RunConfig) -> None:
    for row in made(shared, tmp_path / "d", "without_revisions", config):
        assert row["chosen_source"] == "response"
        assert not row["rejected_id"].endswith(".r")


def test_the_end_fault_marks_every_rejected_answer_as_finished(shared: Path, tmp_path: Path, config: RunConfig) -> None:
    cut_off = tmp_path / "cut"
    shutil.copytree(shared, cut_off)
    pairs = [{**row, "rejected_finished": n % 2 == 0} for n, row in enumerate(rows_of(shared / PAIRS))]
    write_jsonl(cut_off / PAIRS, pairs)
    rows = made(cut_off, tmp_path / "d", "eos_on_cut_off", config)
    assert rows == [{**row, "rejected_finished": True} for row in pairs]


def test_unfinished_shared_data_are_refused(tmp_path: Path, config: RunConfig) -> None:
    with pytest.raises(DataError, match="not finished"):
        derive(DataFolder(tmp_path / "none"), DataFolder(tmp_path / "d"), "random", config)
