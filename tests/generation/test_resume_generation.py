"""C5: a generation that is killed anywhere and started again gives the files of one that was not."""

import itertools
import json
from pathlib import Path

import pytest
from stubs import KilledError, StubEngine, bytes_of, config_of, instructions_of, run_generator

from cai_bootstrap.errors import DataError, InterruptedRunError

COUNT = 12
PASS_FILES = ("responses.jsonl", "critiques.jsonl", "revisions.jsonl", "judgements.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "data"
    run_generator(folder, StubEngine(), instructions_of(COUNT))
    return bytes_of(folder)


def test_every_interruption_gives_the_uninterrupted_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Stopped politely before each planned batch of each pass in turn."""
    instructions = instructions_of(COUNT)
    interrupted = 0
    for stop_at in itertools.count():
        asked = itertools.count()
        folder = tmp_path / str(stop_at)
        try:
            run_generator(folder, StubEngine(), instructions, stopping=lambda a=asked, n=stop_at: next(a) == n)
        except InterruptedRunError:
            interrupted += 1
            run_generator(folder, StubEngine(), instructions)
            assert bytes_of(folder) == whole
        else:
            break
    assert interrupted == 5 * COUNT // 4  # five passes of three batches each


def test_every_kill_gives_the_uninterrupted_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Killed after each number of completions, at once, with nothing written down on the way out."""
    instructions = instructions_of(COUNT)
    killed = 0
    for die_after in itertools.count(0, 5):
        folder = tmp_path / str(die_after)
        try:
            run_generator(folder, StubEngine(die_after=die_after), instructions)
        except KilledError:
            killed += 1
            run_generator(folder, StubEngine(), instructions)
            assert bytes_of(folder) == whole
        else:
            break
    assert killed > 10


@pytest.mark.parametrize("name", PASS_FILES)
@pytest.mark.parametrize("kept", [0.0, 0.13, 0.5, 0.77, 0.999])
def test_a_torn_file_is_cut_and_made_again(tmp_path: Path, whole: dict[str, bytes], name: str, kept: float) -> None:
    """A file that ends anywhere, as a kill in the middle of a write leaves it; later passes had not begun."""
    folder = tmp_path / "data"
    folder.mkdir()
    for earlier in PASS_FILES[: PASS_FILES.index(name)]:
        (folder / earlier).write_bytes(whole[earlier])
    torn = whole[name][: int(len(whole[name]) * kept)]
    (folder / name).write_bytes(torn)
    said: list[str] = []
    run_generator(folder, StubEngine(), instructions_of(COUNT), say=said.append)
    assert bytes_of(folder) == whole
    if torn and not torn.endswith(b"\n"):
        assert any("the last line was torn" in message for message in said)


def test_finished_batches_are_not_asked_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "data"
    run_generator(folder, StubEngine(), instructions_of(COUNT))
    again = StubEngine()
    run_generator(folder, again, instructions_of(COUNT))
    assert again.prompts == []
    assert bytes_of(folder) == whole


def test_records_hold_no_times_and_no_paths(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "elsewhere" / "data"
    run_generator(folder, StubEngine(), instructions_of(COUNT))
    assert bytes_of(folder) == whole


def test_seeds_belong_to_the_planned_batch(tmp_path: Path) -> None:
    """Sampled answers carry their batch's seed: the same in one batch, another in the next, another with --seed."""
    folder = tmp_path / "data"
    config = config_of(generation__temperature=0.7)
    run_generator(folder, StubEngine(), instructions_of(COUNT), config)
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    sampled = [row["seed"] for row in rows if row["prompting"] == "few_shot"]
    assert len(set(sampled)) == COUNT // 4
    other = tmp_path / "other"
    run_generator(other, StubEngine(), instructions_of(COUNT), config_of(generation__temperature=0.7, seed=1))
    assert bytes_of(other)["responses.jsonl"] != bytes_of(folder)["responses.jsonl"]


@pytest.mark.parametrize("die_after", [3, 11, 30, 50])
def test_out_of_memory_halves_enters_the_plan_and_survives_a_kill(tmp_path: Path, die_after: int) -> None:
    """Answers depend on the batch size here, as in bf16: only a run that resumes with the plan's sizes agrees."""
    instructions = instructions_of(COUNT)
    whole = tmp_path / "whole"
    said: list[str] = []
    run_generator(whole, StubEngine(fits=2, depends_on_batch=True), instructions, say=said.append)
    plan = json.loads((whole / "generation_plan.json").read_text())
    assert [row[2] for row in plan["reductions"]] == [2] * len(plan["reductions"])
    assert plan["reductions"][0] == ["respond", 0, 2]
    assert any("out of memory: from here on 2 prompts" in message for message in said)

    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        run_generator(folder, StubEngine(fits=2, depends_on_batch=True, die_after=die_after), instructions)
    # The other memory hog is gone now: without the plan, four prompts would be decoded together.
    run_generator(folder, StubEngine(fits=2, depends_on_batch=True), instructions)
    assert bytes_of(folder) == bytes_of(whole)


def test_a_reduction_holds_for_a_resumed_run_that_has_more_memory(tmp_path: Path) -> None:
    instructions = instructions_of(COUNT)
    folder = tmp_path / "data"
    with pytest.raises(KilledError):
        run_generator(folder, StubEngine(fits=2, depends_on_batch=True, die_after=40), instructions)
    run_generator(folder, StubEngine(depends_on_batch=True), instructions)
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    assert {row["text"].rsplit(" ", 1)[1] for row in rows} == {"2"}


def test_a_plan_of_other_data_is_not_followed(tmp_path: Path) -> None:
    from cai_bootstrap.batches import BatchPlan

    path = tmp_path / "plan.json"
    first = BatchPlan(path, batch_size=8, fingerprint="a")
    first.reduce("respond", 3, 2)
    again = BatchPlan(path, batch_size=8, fingerprint="a")
    assert [again.batch_size("respond", n) for n in (2, 3, 4)] == [8, 2, 2]
    assert again.batch_size("critique", 4) == 8
    assert BatchPlan(path, batch_size=8, fingerprint="b").batch_size("respond", 4) == 8


def test_more_records_than_planned_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    run_generator(folder, StubEngine(), instructions_of(COUNT))
    with pytest.raises(DataError, match="more records than this run plans"):
        run_generator(folder, StubEngine(), instructions_of(4))


def test_a_record_of_another_kind_is_named_with_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    run_generator(folder, StubEngine(), instructions_of(COUNT))
    path = folder / "critiques.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = '{"id": "x"}\n'
    path.write_text("".join(lines))
    (folder / "revisions.jsonl").unlink()
    (folder / "chunks.json").unlink()  # as an earlier version left it: else the changed file is refused before
    with pytest.raises(DataError, match=r"critiques\.jsonl: line 3 is not a Critique record"):
        run_generator(folder, StubEngine(), instructions_of(COUNT))
