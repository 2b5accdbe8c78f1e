"""Where a run's files lie: every name in one place, by stage, round and name."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from cai_bootstrap.run.folder import CONSTITUTION, INSTRUCTIONS, DataFolder, RunFolder, is_measurement, output_name

SRC = Path(__file__).parents[1] / "src" / "cai_bootstrap"
# Names that other code must not spell: as a string, alone or at the end of a path.
NAMES = (
    "baseline_assessment.json", "elicitation.json", "run.json", "instructions.jsonl", "responses.jsonl",
    "critiques.jsonl", "revisions.jsonl", "proposals.jsonl", "judgements.jsonl", "preference_pairs.jsonl",
    "rejected_pairs.jsonl", "generation_summary.json", "diversity.json", "data_identity.json", "model.json",
    "pair_preflight.json", "TRAINING_SUCCESS", ".config.yaml", ".standby.log", "stage1_evaluation",
)  # fmt: skip


def paths(workspace: RunFolder) -> list[Path]:
    """Files of one stage: of its first two rounds, its measurements, steps and record."""
    rounds = [path for number in (1, 2) for path in workspace.round_data(number).outputs().values()]
    markers = [workspace.marker(step, number) for step in ("generate", "train") for number in (1, 2)]
    own = [workspace.evaluation("2026-11-22T10:31:00Z"), workspace.adapter("f" * 64), workspace.record]
    return [*rounds, *markers, *own]


def test_every_file_of_a_run_has_a_place_of_its_own_over_rounds_and_stages(tmp_path: Path) -> None:
    places = Counter(
        path for stage in (INSTRUCTIONS, CONSTITUTION) for path in paths(RunFolder.at(tmp_path, stage=stage))
    )
    assert [path for path, count in places.items() if count > 1] == []


def test_a_path_says_its_stage_round_and_name(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path)
    assert workspace.relative(workspace.round_data(1).pairs) == "data/stage1/preference_pairs.jsonl"
    assert workspace.relative(workspace.round_data(3).pairs) == "data/stage1/round-3/preference_pairs.jsonl"
    assert workspace.relative(workspace.step_log("R", "generate", 2)) == "logs/R.generate-2.log"
    assert workspace.relative(workspace.step_log("R", "evaluate", 2)) == "logs/R.evaluate.log"
    assert workspace.relative(workspace.marker("train", 2)) == "logs/steps/train-2.json"
    assert workspace.relative(Path("/elsewhere/x")) == "/elsewhere/x"
    evaluation = workspace.evaluation("2026-11-22T10:31:00Z")
    assert evaluation.name == "stage1_evaluation_20261122T103100Z.json"
    assert is_measurement(evaluation.name)
    assert not is_measurement("report.html")


def test_rounds_and_evaluations_are_found_in_their_order(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    for name in ("round-10", "round-2", "round-x", "other"):
        (workspace.data / name).mkdir()
    assert [data.round for data in workspace.rounds()] == [1, 2, 10]
    for time in ("2026-11-22T10:31:00Z", "2026-11-23T10:31:00Z"):
        workspace.evaluation(time).write_text("{}")
    assert [path.name[18:26] for path in workspace.evaluations()] == ["20261123", "20261122"]
    assert RunFolder.around(workspace.evaluations()[0]) == workspace
    assert RunFolder.around(tmp_path / "x.json") is None


@pytest.mark.parametrize(
    ("path", "name"),
    [("checkpoints/stage1/9f/TRAINING_SUCCESS", "success"), ("data/stage1/preference_pairs.jsonl", "pairs"),
     ("results/baseline_assessment.json", "baseline"), ("logs/model.json", "model"),
     ("results/stage1_evaluation_20261122T103100Z.json", "results"), ("x/odd.json", "odd.json")],
)  # fmt: skip
def test_an_output_of_an_earlier_marker_is_known_by_its_file(path: str, name: str) -> None:
    assert output_name(path) == name


def test_no_other_module_spells_a_file_of_a_run() -> None:
    """Docstrings and sentences may name files; a string that is a file's name, its end or its path may not."""
    spelled = [
        f"{path.relative_to(SRC)}: {text}"
        for path in sorted(SRC.rglob("*.py"))
        if path != SRC / "run" / "folder.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(text := node.value, str) and len(text.split()) == 1
        if text != "cai_model.json" and any(name in text for name in NAMES)
    ]
    assert spelled == []


def test_the_files_of_a_rounds_data_are_those_of_either_stage_and_nobody_elses(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    own = {
        *data.outputs().values(), *data.steering_outputs(3).values(), data.identity, data.plan, data.chunks,
        *data.waiting, data.critiques_by(12),
    }  # fmt: skip
    others = {tmp_path / name for name in ("mine.json", "critiques-mine.jsonl", "revisions-1a.jsonl", "notes.jsonl")}
    for path in own | others:
        path.write_text("")
    (tmp_path / "round-2").mkdir()
    files = data.files()
    assert set(files) == own
    assert (files[0], files[-1]) == (data.summary, data.identity)
