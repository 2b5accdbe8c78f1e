"""CONTRACT C3, quality: constitution, diversity, checkpoints, counts."""

import json
from collections import Counter
from pathlib import Path

import pytest
from stubs import Cai, Stage, StubEngine, config_of, instructions_of, rows_of, run_generator

from cai_bootstrap.config import shipped
from cai_bootstrap.constitution import load_constitution
from cai_bootstrap.errors import CaiError, DataError, UntrustedResultError, UsageError
from cai_bootstrap.inference.engine import Completion
from cai_bootstrap.records import TASK_TYPES
from cai_bootstrap.training.checkpoints import find_checkpoint, mark_success, newest_complete, read_success

TWO = """
principles:
  - {id: brief, text: The answer is as short as possible., category: style}
  - {id: kind, text: The answer is friendly., category: harmless}
"""


def constitution_at(path: Path, text: str = TWO) -> Path:
    path.write_text(text)
    return path


# 6. The constitution is used


def test_c3_6_critique_and_revision_prompts_carry_the_files_principles(tmp_path: Path) -> None:
    engine = StubEngine()
    own = constitution_at(tmp_path / "own.yaml")
    run_generator(tmp_path / "data", engine, instructions_of(8), config_of(constitution=own))
    critiques = [p for p in engine.prompts if p.endswith("Critique:")]
    revisions = [p for p in engine.prompts if p.endswith("Better answer:")]
    assert len(critiques) == len(revisions) == 8
    texts = {p.text for p in load_constitution(own).principles}
    for prompt in critiques + revisions:
        last = prompt.rsplit("\n\n", 1)[-1]
        assert any(last.startswith(f"Principle: {text}\n") for text in texts)
    assert {t for t in texts if any(t in p for p in critiques)} == texts


@pytest.mark.parametrize("count", [1, 7, 8, 24, 61])
def test_c3_6_principles_are_assigned_in_a_balanced_seeded_way(count: int) -> None:
    constitution = load_constitution(shipped("constitution.yaml"))
    dealt = Counter(p.id for p in constitution.assign(count, seed=3))
    times = [dealt[p.id] for p in constitution.principles]
    assert sum(times) == count
    assert max(times) - min(times) <= 1
    assert constitution.assign(count, seed=3) == constitution.assign(count, seed=3)
    if count >= 8:
        assert constitution.assign(count, seed=3) != constitution.assign(count, seed=4)


def test_c3_6_each_critique_and_each_pair_record_the_principle_and_where_the_chosen_text_is_from(
    tmp_path: Path,
) -> None:
    summary = run_generator(tmp_path / "data", StubEngine(), instructions_of(40))
    known = {p.id for p in load_constitution(shipped("constitution.yaml")).principles}
    critiques, pairs = rows_of(tmp_path / "data/critiques.jsonl"), rows_of(tmp_path / "data/preference_pairs.jsonl")
    by_instruction = {row["response_id"].split(".")[0]: row["principle_id"] for row in critiques}
    assert {row["principle_id"] for row in critiques} == known
    assert all(row["prompt_version"] for row in critiques)
    assert {pair["chosen_source"] for pair in pairs} == {"revision", "response"}
    assert all(pair["principle_id"] == by_instruction[pair["instruction_id"]] for pair in pairs)
    assert set(summary.by_principle) == known
    assert set(summary.by_chosen_source) == {"revision", "response"}


def test_c3_6_the_summary_counts_zero_too(tmp_path: Path) -> None:
    """Two instructions for eight principles: six stand with 0; no revision was chosen, and that stands too."""
    engine = StubEngine(answer=lambda _p, _s: Completion("the same words", "eos", 3))
    summary = run_generator(tmp_path / "data", engine, instructions_of(2))
    assert Counter(row.assigned for row in summary.by_principle.values()) == {0: 6, 1: 2}
    assert summary.by_chosen_source == {"revision": 0, "response": 0}


def test_c3_6_changing_the_file_changes_the_prompts(tmp_path: Path) -> None:
    first, second = StubEngine(), StubEngine()
    own = constitution_at(tmp_path / "own.yaml")
    run_generator(tmp_path / "a", first, instructions_of(8), config_of(constitution=own))
    own.write_text(TWO.replace("as short as possible", "as long as possible"))
    run_generator(tmp_path / "b", second, instructions_of(8), config_of(constitution=own))
    assert {p for p in first.prompts if "as short as possible" in p}
    assert not {p for p in second.prompts if "as short as possible" in p}
    assert {p for p in second.prompts if "as long as possible" in p}


def test_c3_6_comments_in_the_file_change_nothing(tmp_path: Path) -> None:
    plain, commented = constitution_at(tmp_path / "a.yaml"), constitution_at(tmp_path / "b.yaml", "# ours\n" + TWO)
    assert load_constitution(plain).sha256 == load_constitution(commented).sha256


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping with 'principles'"),
        ("rules: []\n", "no principles"),
        ("principles: []\n", "no principles (line 1)"),
        (
            "principles:\n  - {id: a, text: T, category: c}\n  - {id: b, category: c}\n",
            "principles[1] has no 'text' (line 3)",
        ),
        ("principles:\n  - {id: a, text: '  ', category: c}\n", "principles[0] has no 'text' (line 2)"),
        ("principles:\n  - {id: a, text: ~, category: c}\n", "principles[0] has no 'text' (line 2)"),
        ("principles:\n  - just a text\n", "principles[0] (line 2) is not a mapping"),
        ("principles:\n  - {id: a, text: T, category: c, weight: 2}\n", "unknown field 'weight'"),
        (
            "principles:\n  - {id: a, text: T, category: c}\n  - {id: a, text: U, category: c}\n",
            "stands twice (lines 2 and 3)",
        ),
    ],
)
def test_c3_6_a_malformed_constitution_names_file_line_and_field(
    tmp_path: Path, cai: Cai, text: str, expected: str
) -> None:
    path = constitution_at(tmp_path / "bad.yaml", text)
    with pytest.raises(UsageError) as caught:
        load_constitution(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    code, _, err = cai("generate", "--base-dir", tmp_path / "base", "--constitution", path)
    assert code == 2
    assert expected in err
    assert not (tmp_path / "base").exists()


def test_c3_6_a_missing_constitution_is_an_error(tmp_path: Path, cai: Cai) -> None:
    code, _, err = cai("run", "--base-dir", tmp_path / "base", "--constitution", tmp_path / "absent.yaml")
    assert code == 2
    assert f"{tmp_path / 'absent.yaml'}: no such constitution" in err
    assert not (tmp_path / "base").exists()


# 7. Diversity


def test_c3_7_four_types_with_well_over_a_hundred_combinations_each() -> None:
    found = instructions_of(2000)
    for kind in TASK_TYPES:
        of_kind = [i for i in found if i.type == kind]
        assert len({i.instruction for i in of_kind}) == 500
        assert len({i.template for i in of_kind}) > 20


def test_c3_7_no_exact_duplicates_and_near_duplicates_are_measured(stage: Stage) -> None:
    from cai_bootstrap.steps.run import run_step

    run_step("generate", stage.context(config_of(generation__count=60)))
    found = rows_of(stage.workspace.data / "instructions.jsonl")
    assert len({" ".join(row["instruction"].casefold().split()) for row in found}) == 60
    figures = json.loads((stage.workspace.data / "generation_summary.json").read_text())["diversity"]
    assert {"near_duplicate_share", "distinct_1", "effective_unique", "templates_used"} <= set(figures)


# 8. Checkpoints


def adapter(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


def finished(folder: Path, fingerprint: str, finished_at: str, content: bytes = b"weights") -> Path:
    mark_success(adapter(folder, content), fingerprint=fingerprint, final_loss=1.0, epochs=1.0)
    marker = folder / "TRAINING_SUCCESS"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "finished_at": finished_at}))
    return folder


def test_c3_8_the_marker_holds_what_the_contract_names(tmp_path: Path) -> None:
    mark_success(adapter(tmp_path / "a"), fingerprint="f" * 64, final_loss=0.5, epochs=2.0)
    marker = json.loads((tmp_path / "a/TRAINING_SUCCESS").read_text())
    assert {"adapter_path", "final_loss", "epochs", "finished_at", "fingerprint", "files"} <= set(marker)
    assert set(marker["files"]) == {"adapter_config.json", "adapter_model.safetensors"}
    assert all(len(sha) == 64 for sha in marker["files"].values())


def test_c3_8_the_latest_finished_one_of_this_run_is_taken(tmp_path: Path) -> None:
    finished(tmp_path / "b", "ours", "2026-11-22T10:00:00Z")
    finished(tmp_path / "a", "ours", "2026-11-22T11:00:00Z")
    finished(tmp_path / "c", "theirs", "2026-11-22T12:00:00Z")
    found = find_checkpoint(tmp_path, "ours")
    assert found is not None
    assert found.path.name == "a"


def test_c3_8_never_a_newer_one_without_a_marker(tmp_path: Path) -> None:
    finished(tmp_path / "old", "ours", "2026-11-22T10:00:00Z")
    adapter(tmp_path / "newer")
    found = find_checkpoint(tmp_path, "ours")
    assert found is not None
    assert found.path.name == "old"
    assert find_checkpoint(tmp_path, "another") is None


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"other"), "adapter_model.safetensors was changed"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "the adapter's file adapter_model.safetensors is gone"),
        (lambda f: (f / "adapter_config.json").write_text('{"r": 1}'), "adapter_config.json was changed"),
        (lambda f: (f / "TRAINING_SUCCESS").write_text('{"adapter_path"'), "no valid TRAINING_SUCCESS marker"),
        (lambda f: (f / "TRAINING_SUCCESS").write_text("{}"), "lacks adapter_path"),
    ],
)
def test_c3_8_a_marker_whose_adapter_was_changed_or_is_gone_is_not_believed(
    tmp_path: Path, harm: object, said: str
) -> None:
    folder = finished(tmp_path / "a", "ours", "2026-11-22T10:00:00Z")
    harm(folder)  # type: ignore[operator]
    with pytest.raises(UntrustedResultError, match=said) as caught:
        read_success(folder)
    assert caught.value.exit_code == 4
    assert "remove that folder and train again" in str(caught.value)


def test_c3_8_a_changed_adapter_of_this_run_is_an_error_not_an_absence(tmp_path: Path) -> None:
    folder = finished(tmp_path / "abcdef123456", "abcdef123456" + "0" * 52, "2026-11-22T10:00:00Z")
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(UntrustedResultError):
        find_checkpoint(tmp_path, "abcdef123456" + "0" * 52)


def test_c3_8_evaluation_without_a_finished_training_is_refused(stage: Stage) -> None:
    from cai_bootstrap.steps.run import run_step

    config = config_of()
    run_step("generate", stage.context(config))
    adapter(stage.workspace.checkpoints / "unmarked")
    with pytest.raises(DataError, match="no finished training of this run"):
        run_step("evaluate", stage.context(config))
    assert list(stage.workspace.results.iterdir()) == []


def test_c3_8_a_torn_trainer_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    from cai_bootstrap.training.checkpoints import mark_complete

    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"0" * 100)
        mark_complete(folder)
    unmarked = tmp_path / "checkpoint-6"
    unmarked.mkdir()
    (tmp_path / "checkpoint-4/optimizer.pt").write_bytes(b"0" * 50)
    newest = newest_complete(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-2"
    assert not unmarked.exists()


def test_c3_8_too_few_pairs_end_before_training_without_a_marker(stage: Stage, tiny: Path) -> None:
    from cai_bootstrap.steps.train import run

    (stage.workspace.data / "preference_pairs.jsonl").write_text("")
    stage.model_path = tiny
    with pytest.raises(CaiError, match="only 0 preference pairs are left, at least 8 are needed") as caught:
        run(stage.context(config_of(pairs__min_pairs=8)), "f" * 64)
    assert caught.value.exit_code == 1
    assert list(stage.workspace.checkpoints.iterdir()) == []


# 9. Counts add up


@pytest.mark.parametrize("count", [*range(1, 14), 100, 101, 102, 103])
def test_c3_9_exactly_n_come_and_types_differ_by_at_most_one(count: int) -> None:
    found = instructions_of(count)
    assert len(found) == count
    assert len({i.id for i in found}) == count
    by_type = [sum(i.type == kind for i in found) for kind in TASK_TYPES]
    assert max(by_type) - min(by_type) <= 1
    assert by_type == sorted(by_type, reverse=True)  # earlier types get the remainder


def test_c3_9_the_command_writes_exactly_n(tmp_path: Path, cai: Cai) -> None:
    code, _, _ = cai("instructions", "--count", 37, "--out", tmp_path / "i.jsonl")
    assert code == 0
    assert len(rows_of(tmp_path / "i.jsonl")) == 37


def test_c3_9_more_than_the_pool_holds_is_exit_2_with_its_size(tmp_path: Path, cai: Cai) -> None:
    code, _, err = cai("instructions", "--count", 10_000_000, "--out", tmp_path / "i.jsonl")
    assert code == 2
    assert any(word.strip(".,;:()").replace(",", "").isdigit() for word in err.split())
    assert not (tmp_path / "i.jsonl").exists()


@pytest.mark.parametrize("more", [{"generation__count": 1_000_000}, {"generation__later_count": 1_000_000}])
def test_c3_9_more_than_the_pool_holds_is_refused_before_anything_is_done(more: dict[str, int]) -> None:
    from cai_bootstrap.cli.run import _check_early
    from cai_bootstrap.errors import UsageError

    with pytest.raises(UsageError, match="the pool holds"):
        _check_early(config_of(**more), ("prepare", "baseline", "generate"))


def test_c3_9_a_count_that_the_pool_cannot_give_leaves_no_data_to_fit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_bootstrap.errors import UsageError
    from cai_bootstrap.instructions import sampler
    from cai_bootstrap.steps.run import run_step

    monkeypatch.setattr(sampler, "pool_sizes", lambda: dict.fromkeys(TASK_TYPES, 5))
    with pytest.raises(UsageError, match="holds 20 instructions"):
        run_step("generate", stage.context(config_of(generation__count=400)))
    assert not (stage.workspace.data / "data_identity.json").exists()
    run_step("generate", stage.context(config_of(generation__count=8)))


def test_c3_9_generation_makes_what_was_asked_for(stage: Stage) -> None:
    from cai_bootstrap.steps.run import run_step

    run_step("generate", stage.context(config_of(generation__count=27)))
    summary = json.loads((stage.workspace.data / "generation_summary.json").read_text())
    assert (summary["requested"], summary["produced"]) == (27, 27)
    assert [summary["by_type"][kind] for kind in TASK_TYPES] == [7, 7, 7, 6]
