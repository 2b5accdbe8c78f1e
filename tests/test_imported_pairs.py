"""Pairs of one's own: every form is read, nothing is lost in silence, and what follows generation takes them."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stubs import Cai, KilledError, Stage, config_of
from test_constitution_stage import Workbench

from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.files import read_json, sha256_file
from cai_bootstrap.inference.hub_rows import HubSplit, hub_split
from cai_bootstrap.instructions.held_back import held_back
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.run.lock import hold
from cai_bootstrap.run.markers import write_marker
from cai_bootstrap.steps import import_pairs as module
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.run import run_step

NOUNS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "jetty")
Row = dict[str, Any]


def message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def explicit(count: int = len(NOUNS)) -> list[Row]:
    return [
        {"prompt": f"Describe the {noun} in a word.", "chosen": f"A calm {noun}.", "rejected": f"No idea {n}"}
        for n, noun in enumerate(NOUNS[:count])
    ]


def implicit(row: Row) -> Row:
    return {side: f"{row['prompt']}\n{row[side]}" for side in ("chosen", "rejected")}


def transcript(row: Row) -> Row:
    return {side: f"\n\nHuman: {row['prompt']}\n\nAssistant: {row[side]}" for side in ("chosen", "rejected")}


def conversational(row: Row) -> Row:
    answers = {side: [message("assistant", row[side])] for side in ("chosen", "rejected")}
    return {"prompt": [message("system", ""), message("user", row["prompt"])], **answers}


def conversational_implicit(row: Row) -> Row:
    user = message("user", row["prompt"])
    return {side: [user, message("assistant", row[side])] for side in ("chosen", "rejected")}


def told_twice(row: Row) -> Row:
    """As some sets of the hub have it: the prompt as a text, and again in both lists."""
    return {"prompt": row["prompt"], **conversational_implicit(row)}


def from_value(row: Row) -> Row:
    parts = [{"type": "text", "text": row["prompt"]}]
    answers = {side: [{"from": "gpt", "value": row[side]}] for side in ("chosen", "rejected")}
    return {"prompt": [{"from": "human", "value": parts}], **answers}


FORMS: dict[str, tuple[Callable[[Row], Row], str]] = {
    "explicit": (dict, "explicit"),
    "implicit": (implicit, "implicit"),
    "transcript": (transcript, "transcript"),
    "conversational": (conversational, "conversational"),
    "conversational implicit": (conversational_implicit, "conversational_implicit"),
    "prompt told twice": (told_twice, "conversational"),
    "from and value": (from_value, "conversational"),
}


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def stubbed(stage: Stage, base: Path, tiny: Path) -> Stage:  # noqa: ARG001 - the settings of `base` hold
    """The steps on stub engines, with the tiny model's tokenizer."""
    stage.model_path = tiny
    return stage


@pytest.fixture
def base(tmp_path: Path, tiny: Path, tiny_suites: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base directory that is not there yet; its settings are a tiny model's."""
    settings = {
        "MODEL": tiny, "EVALUATION__SUITE": tiny_suites[0], "EVALUATION__DEV_SUITE": tiny_suites[1], "THREADS": 1,
        "TRAINING__MAX_STEPS": 2, "TRAINING__BATCH_SIZE": 2, "TRAINING__LORA_R": 4, "TRAINING__WATCH_EVERY": 0,
        "FAST": "false",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"CAI_{name}", str(value))
    return tmp_path / "work"


def records(base: Path, name: str) -> list[Row]:
    lines = (base / "data" / "stage1" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def trained(base: Path) -> Row:
    """The success marker after the step `train` with this process's settings."""
    from cai_bootstrap.config import resolve

    config = resolve({"paths.base_dir": base}).config
    workspace = RunFolder.at(base)
    progress = Progress(EventLog(workspace.events("t"), "t"), "train")
    run_step("train", StepContext(config, workspace, progress, lambda: False, "t"))
    return read_json(next((base / "checkpoints" / "stage1").glob("*/TRAINING_SUCCESS")))  # type: ignore[no-any-return]


# --- what is read


@pytest.mark.parametrize("name", FORMS)
def test_each_form_gives_the_same_pairs_and_the_adapter_trained_on_them_names_their_source(
    tmp_path: Path, base: Path, cai: Cai, name: str
) -> None:
    formed, form = FORMS[name]
    source = write(tmp_path / "p.jsonl", [formed(row) for row in explicit()])
    code, out, err = cai("pairs", "import", source, "--base-dir", base)
    assert code == 0, err
    assert "pairs that may train" in out
    pairs = records(base, "preference_pairs.jsonl")
    assert [(p["prompt"], p["chosen"], p["rejected"]) for p in pairs] == [
        (f"{row['prompt']}\n", row["chosen"], row["rejected"]) for row in explicit()
    ]
    assert {(p["label_source"], p["chosen_source"], p["principle_id"]) for p in pairs} == {("imported", "imported", "")}
    marker = trained(base)
    assert marker["pairs"] == len(pairs)
    assert marker["labels"] == {"imported": len(pairs)}
    assert marker["imported"]["source"] == str(source)
    assert marker["imported"]["sha256"] == sha256_file(source)
    assert marker["imported"]["forms"] == {form: len(pairs)}
    assert marker["pairs_sha256"] == [sha256_file(base / "data" / "stage1" / "preference_pairs.jsonl")]


def columns(rows: list[Row]) -> list[Row]:
    return [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in rows]


def as_json(path: Path) -> None:
    path.write_text(json.dumps(columns(explicit())))


def as_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as target:
        table = csv.DictWriter(target, ("bad", "q", "good"), lineterminator="\r\n")
        table.writeheader()
        table.writerows(columns(explicit()))


def as_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(columns(explicit())), path)


def as_lines(path: Path) -> None:
    text = "".join(json.dumps(row) + "\r\n" for row in columns(explicit()))
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())


@pytest.mark.parametrize(
    ("name", "writer"), [("a.json", as_json), ("a.csv", as_csv), ("a.parquet", as_parquet), ("a.jsonl", as_lines)]
)
def test_each_kind_of_file_is_read_by_the_columns_that_are_named(
    tmp_path: Path, base: Path, cai: Cai, name: str, writer: Callable[[Path], None]
) -> None:
    writer(tmp_path / name)
    named = ("--prompt-column", "q", "--chosen-column", "good", "--rejected-column", "bad")
    assert cai("pairs", "import", tmp_path / name, "--base-dir", base, *named)[0] == 0
    pairs = records(base, "preference_pairs.jsonl")
    assert [p["chosen"] for p in pairs] == [row["chosen"] for row in explicit()]
    imported = read_json(base / "data" / "stage1" / "generation_summary.json")["imported"]
    assert imported["columns"] == {"prompt": "q", "chosen": "good", "rejected": "bad"}


def test_a_dataset_of_the_hub_is_streamed_and_recorded(
    tmp_path: Path, base: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").mkdir()
    write(tmp_path / "hub" / "train.jsonl", explicit())
    write(tmp_path / "hub" / "test.jsonl", explicit(9))
    asked: list[tuple[str, str | None]] = []

    def opened(dataset: str, configuration: str | None, split: str | None) -> HubSplit:
        asked.append((dataset, configuration))
        return hub_split(str(tmp_path / "hub"), None, split)

    monkeypatch.setattr(module, "hub_split", opened)
    monkeypatch.chdir(tmp_path)
    code, _, err = cai("pairs", "import", "some-one/pairs:main", "--split", "test", "--base-dir", base, "--limit", "8")
    assert code == 0, err
    assert asked == [("some-one/pairs", "main")]
    imported = read_json(base / "data" / "stage1" / "generation_summary.json")["imported"]
    assert (imported["source"], imported["split"], imported["rows"]) == ("some-one/pairs:main", "test", 8)
    code, _, err = cai("pairs", "import", "some-one/pairs", "--split", "tset", "--base-dir", tmp_path / "other")
    assert code == 2
    assert "no split 'tset'; there are: " in err


# --- what is dropped, each with its reason

USER, ANSWER = message("user", "Describe the kelp in a word."), message("assistant", "A calm kelp.")
OTHER = [message("assistant", "No idea")]
LONG = "A kelp that sways from side to side in the cold water of the bay"
DROPPED: dict[str, Row] = {
    "missing_chosen": {"prompt": "Describe the kelp.", "rejected": "No"},
    "missing_rejected": {"prompt": "Describe the kelp.", "chosen": "A kelp", "rejected": None},
    "mixed_forms": {"prompt": "Describe the kelp.", "chosen": [ANSWER], "rejected": "No"},
    "not_text": {"prompt": "Describe the kelp.", "chosen": 7, "rejected": "No"},
    "no_shared_prompt": {"chosen": "A calm kelp", "rejected": "No idea"},
    "prompt_differs": {"prompt": "Other.", "chosen": [USER, ANSWER], "rejected": [USER, *OTHER]},
    "system_message": {"prompt": [message("system", "Be brief."), USER], "chosen": [ANSWER], "rejected": OTHER},
    "other_role": {"prompt": [USER, message("tool", "7")], "chosen": [ANSWER], "rejected": OTHER},
    "more_turns": {"prompt": [USER, ANSWER, USER], "chosen": [ANSWER], "rejected": OTHER},
    "no_user_message": {"prompt": [ANSWER], "chosen": [ANSWER], "rejected": OTHER},
    "no_answer": {"prompt": [USER], "chosen": [ANSWER], "rejected": []},
    "empty_prompt": {"prompt": "?!", "chosen": "A calm kelp", "rejected": "No idea"},
    "empty_chosen": {"prompt": "Describe the kelp.", "chosen": " \u200b", "rejected": "No"},
    "empty_rejected": {"prompt": "Describe the kelp.", "chosen": "A kelp", "rejected": ""},
    "too_long": {"prompt": "Describe the kelp.", "chosen": "kelp " * 20_000, "rejected": "No"},
    "same_texts": {"prompt": "Describe the kelp.", "chosen": "A kelp", "rejected": "A kelp\n"},
    "duplicate": explicit(1)[0],
    "too_similar": {"prompt": "Describe the kelp.", "chosen": f"{LONG}.", "rejected": f"{LONG}!"},
    "run_on_chosen": {"prompt": "Describe the kelp.", "chosen": "A kelp.\n\nAnd a bay.", "rejected": "No"},
    "truncated_chosen": {"prompt": "Describe the kelp.", "chosen": "k" * 900, "rejected": "No"},
    "held_back": {"prompt": held_back()[0].instruction, "chosen": "A kelp", "rejected": "No"},
}


def test_every_row_that_may_not_train_is_kept_with_its_reason_and_the_counts_add_up(
    tmp_path: Path, base: Path, tiny_suites: tuple[Path, Path], cai: Cai
) -> None:
    held_out = load_suite(str(tiny_suites[0])).items[0].instruction
    dropped = {**DROPPED, "leak_text": {"prompt": held_out, "chosen": "A kelp", "rejected": "No"}}
    source = write(tmp_path / "p.jsonl", [*explicit(), *dropped.values()])
    code, out, err = cai("pairs", "import", source, "--base-dir", base, "--json")
    assert code == 0, err
    rejected = {row["instruction_id"]: row for row in records(base, "rejected_pairs.jsonl")}
    reasons = {row["reason"]: int(id.removeprefix("i")) for id, row in rejected.items()}
    assert reasons == {reason: line for line, reason in enumerate(dropped, len(explicit()) + 1)}
    told = json.loads(out)
    assert told["first_places"] == reasons
    assert told["dropped"] == dict.fromkeys(dropped, 1)
    assert told["produced"] == told["pairs"] + sum(told["dropped"].values()) == len(explicit()) + len(dropped)
    assert rejected[f"i{reasons['more_turns']}"]["chosen"] == json.dumps([ANSWER])
    assert rejected[f"i{reasons['too_long']}"]["chosen"].startswith("kelp kelp")


CAT = {"chosen": "The cat sat down.", "rejected": "The cat ran off."}
EMPTY: dict[str, Any] = {"nothing": "", "null": None, "blanks": " \n", "hidden": "\u200b", "no messages": []}


@pytest.mark.parametrize("name", EMPTY)
def test_a_prompt_that_is_there_and_empty_is_never_guessed_from_the_answers(
    tmp_path: Path, base: Path, cai: Cai, name: str
) -> None:
    lacking = implicit({"prompt": "Describe the kelp.", "chosen": "Calm.", "rejected": "No"})  # the key, too
    source = write(tmp_path / "p.jsonl", [*explicit(), {"prompt": EMPTY[name], **CAT}, lacking])
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0
    rejected = records(base, "rejected_pairs.jsonl")
    assert [(row["instruction_id"], row["reason"]) for row in rejected] == [("i11", "empty_prompt")]
    assert records(base, "preference_pairs.jsonl")[-1]["prompt"] == "Describe the kelp.\n"


def test_a_row_without_the_prompt_that_was_named_is_not_guessed_either(tmp_path: Path, base: Path, cai: Cai) -> None:
    source = write(tmp_path / "p.jsonl", [*explicit(), CAT])
    assert cai("pairs", "import", source, "--base-dir", base, "--prompt-column", "prompt")[0] == 0
    assert [row["reason"] for row in records(base, "rejected_pairs.jsonl")] == ["empty_prompt"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_blank_cell_of_a_table_is_an_empty_prompt(tmp_path: Path, base: Path, cai: Cai, ending: str) -> None:
    rows = [*explicit(), {"prompt": None, **CAT}]
    path = tmp_path / f"p.{ending}"
    if ending == "csv":
        with path.open("w", newline="", encoding="utf-8") as target:
            table = csv.DictWriter(target, ("prompt", "chosen", "rejected"))
            table.writeheader()
            table.writerows(rows)
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert cai("pairs", "import", path, "--base-dir", base)[0] == 0
    assert [row["reason"] for row in records(base, "rejected_pairs.jsonl")] == ["empty_prompt"]


# --- bad input

GOOD = "".join(json.dumps(row) + "\n" for row in explicit()).encode()
BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jsonl", b"", "the file is empty"),
    "blank": ("a.jsonl", b"\n\n", "0 usable pairs of 0 rows"),
    "binary": ("a.jsonl", b"PK\x03\x04\x00\x00", "line 1, byte 5: a zero byte"),
    "not UTF-8": ("a.jsonl", GOOD + b'{"prompt": "\xe9"}\n', "line 11, byte"),
    "UTF-16": ("a.jsonl", GOOD.decode().encode("utf-16"), "UTF-16 text"),
    "torn": ("a.jsonl", GOOD[:-5], "line 10: not valid JSON"),
    "no object": ("a.jsonl", GOOD + b'"a text"\n', "line 11: no object with a pair"),
    "plain text": ("a.txt", b"What?\n", "its ending is .txt; known are .jsonl"),
    "no such column": ("a.jsonl", b'{"prompt": "a", "good": "b"}\n', "no column 'chosen'; there are: prompt, good"),
    "torn parquet": ("a.parquet", b"PAR1", "not readable as Parquet"),
    "duplicates": ("a.jsonl", GOOD.splitlines()[0] * 1 + b"\n" + GOOD.splitlines(keepends=True)[0] * 20,
                   "1 usable pairs of 21 rows; dropped: 20 duplicate (first: line or row 2). At least 8"),
    "too few": ("a.jsonl", b"".join(GOOD.splitlines(keepends=True)[:7]), "7 usable pairs of 7 rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_2_says_where_and_writes_nothing(tmp_path: Path, base: Path, cai: Cai, name: str) -> None:
    file, content, said = BAD[name]
    (tmp_path / file).write_bytes(content)
    code, _, err = cai("pairs", "import", tmp_path / file, "--base-dir", base)
    assert code == 2
    assert said in err
    assert not base.exists() or [path.name for path in base.rglob("*") if path.is_file()] == ["pairs_import.jsonl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--prompt-column", "ask"), "no column 'ask'; there are: prompt, chosen, rejected"),
        (
            ("--rejected-column", "bad"),
            "no column 'bad'; there are: prompt, chosen, rejected. Name another: --rejected",
        ),
        (("--split", "train"), "a file has no splits"),
        (("--set", "stage=constitution"), "pairs are imported for Stage 1 alone"),
        (("--count", "7"), "does not use --count"),
    ],
)
def test_wrong_options_are_2(tmp_path: Path, base: Path, cai: Cai, options: tuple[str, ...], said: str) -> None:
    source = write(tmp_path / "p.jsonl", explicit())
    code, _, err = cai("pairs", "import", source, "--base-dir", base, *options)
    assert code == 2
    assert said in err
    assert not base.exists() or [path.name for path in base.rglob("*") if path.is_file()] == ["pairs_import.jsonl"]


@pytest.mark.parametrize("source", ["absent.jsonl", "."])
def test_a_source_that_is_no_file_and_no_dataset_is_2(base: Path, cai: Cai, source: str) -> None:
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 2
    assert not base.exists()


# --- beside other data


def test_a_folder_in_use_is_75(tmp_path: Path, base: Path, cai: Cai) -> None:
    source = write(tmp_path / "p.jsonl", explicit())
    for name in ("run", "step"):
        with hold(RunFolder.at(base).create(), "cai run X", name=name):
            code, _, err = cai("pairs", "import", source, "--base-dir", base)
        assert code == 75
        assert "held by cai run X" in err
    assert list((base / "data" / "stage1").iterdir()) == []


def test_the_same_import_again_changes_nothing_and_another_one_needs_force(
    tmp_path: Path, base: Path, cai: Cai
) -> None:
    source = write(tmp_path / "p.jsonl", explicit())
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (base / "data" / "stage1").iterdir()}
    code, out, _ = cai("pairs", "import", source, "--base-dir", base)
    assert (code, "holds these pairs already" in out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in (base / "data" / "stage1").iterdir()} == before
    other = write(tmp_path / "q.jsonl", explicit(9))
    code, _, err = cai("pairs", "import", other, "--base-dir", base)
    assert code == 2
    assert f"imported from {source}" in err
    assert len(records(base, "preference_pairs.jsonl")) == 10
    assert cai("pairs", "import", other, "--base-dir", base, "--force-data")[0] == 0
    assert len(records(base, "preference_pairs.jsonl")) == 9


def test_generated_data_are_replaced_with_force_alone(tmp_path: Path, stubbed: Stage, cai: Cai) -> None:
    run_step("generate", stubbed.context(config_of()))
    folder, made = stubbed.workspace.base, stubbed.workspace.round_data(1)
    before = made.pairs.read_bytes()
    source = write(tmp_path / "p.jsonl", explicit())
    code, _, err = cai("pairs", "import", source, "--base-dir", folder)
    assert (code, made.pairs.read_bytes()) == (2, before)
    assert "holds data already" in err
    (made.path / "data_identity.json").unlink()  # files that nobody vouches for may be somebody's too
    assert cai("pairs", "import", source, "--base-dir", folder)[0] == 2
    assert cai("pairs", "import", source, "--base-dir", folder, "--force-data")[0] == 0
    assert len(records(folder, "preference_pairs.jsonl")) == 10
    assert not made.critiques.exists()


def second_round(workspace: RunFolder) -> dict[Path, bytes]:
    """Pairs of the model's own in round 2, with their summary and marker."""
    data = workspace.round_data(2)
    data.path.mkdir(parents=True)
    data.pairs.write_bytes(
        workspace.round_data(1).pairs.read_bytes() if workspace.round_data(1).pairs.exists() else b""
    )
    data.summary.write_text("{}")
    write_marker(workspace, "generate", 2, fingerprint="f", outputs={"pairs": data.pairs, "summary": data.summary})
    return {path: path.read_bytes() for path in (data.pairs, data.summary, workspace.marker("generate", 2))}


@pytest.mark.parametrize("name", ["mine.json", "mine.jsonl", "round-2/mine.jsonl"])
def test_a_file_of_somebodys_needs_force_and_survives_it(tmp_path: Path, base: Path, cai: Cai, name: str) -> None:
    mine = base / "data" / "stage1" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    source = write(tmp_path / "p.jsonl", explicit())
    code, _, err = cai("pairs", "import", source, "--base-dir", base)
    assert (code, str(mine) in err, [path.name for path in mine.parent.iterdir()]) == (2, True, [mine.name])
    assert cai("pairs", "import", source, "--base-dir", base, "--force-data")[0] == 0
    assert mine.read_text() == "mine"
    assert len(records(base, "preference_pairs.jsonl")) == 10


def test_a_forced_generation_leaves_files_of_somebodys(stubbed: Stage) -> None:
    run_step("generate", stubbed.context(config_of()))
    data = stubbed.workspace.round_data(1)
    (data.path / "mine.json").write_text("mine")
    assert run_step("generate", stubbed.context(config_of(force_data=True, seed=7))) is True
    assert (data.path / "mine.json").read_text() == "mine"


@pytest.mark.parametrize("force", [(), ("--force-data",)])
def test_a_source_in_the_data_folder_is_refused_always(
    tmp_path: Path, base: Path, cai: Cai, force: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mydata").mkdir()
    source = write(tmp_path / "mydata" / "pairs.json", explicit())
    before = source.read_bytes()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "mydata")
    for named in ("mydata/pairs.json", "link/pairs.json"):
        code, _, err = cai("pairs", "import", named, "--base-dir", base, "--data-dir", "mydata", *force)
        assert (code, "lies in the data folder" in err) == (2, True)
    assert [path.name for path in (tmp_path / "mydata").iterdir()] == ["pairs.json"]
    assert source.read_bytes() == before


def test_a_later_rounds_data_are_removed_with_force_alone(tmp_path: Path, base: Path, cai: Cai) -> None:
    kept = second_round(RunFolder.at(base).create())
    source = write(tmp_path / "p.jsonl", explicit())
    code, _, err = cai("pairs", "import", source, "--base-dir", base)
    assert (code, "round-2" in err) == (2, True)
    assert {path: path.read_bytes() for path in kept} == kept
    assert cai("pairs", "import", source, "--base-dir", base, "--force-data")[0] == 0
    assert [path for path in kept if path.exists()] == []


@pytest.mark.parametrize("state", ["gone", "torn"])
def test_a_lost_marker_is_written_again_and_nothing_else(tmp_path: Path, base: Path, cai: Cai, state: str) -> None:
    source = write(tmp_path / "p.jsonl", [*explicit(), *DROPPED.values()])
    workspace = RunFolder.at(base)
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0
    second_round(workspace)
    marker = workspace.marker("generate")
    files = [path for path in base.rglob("*") if path.is_file() and path.parent != workspace.logs and path != marker]
    before = {path: path.stat().st_mtime_ns for path in files if path.name[0] != "."}
    written = read_json(marker)
    marker.write_text('{"step": ') if state == "torn" else marker.unlink()
    moved = source.rename(tmp_path / "moved.jsonl")  # the same pairs, wherever they lie now
    code, out, _ = cai("pairs", "import", moved, "--base-dir", base)
    assert (code, "holds these pairs already" in out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {**read_json(marker), "finished_at": ""} == {**written, "finished_at": ""}


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("name", ["instructions", "responses", "preference_pairs", "rejected_pairs", "summary", "gone"])
def test_a_touched_file_is_never_overwritten_in_silence(
    tmp_path: Path, base: Path, cai: Cai, name: str, marked: bool
) -> None:
    source = write(tmp_path / "p.jsonl", [*explicit(), CAT | {"prompt": ""}])
    workspace = RunFolder.at(base)
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0
    kept, data = second_round(workspace), workspace.round_data(1)
    if not marked:
        workspace.marker("generate").unlink()
    if name == "gone":
        data.rejected.unlink()
    elif name == "summary":
        data.summary.write_text(json.dumps({**read_json(data.summary), "pairs": 11}))
    else:
        path = data.path / f"{name}.jsonl"
        path.write_bytes(path.read_bytes() + b"\n")
    before = {path: path.read_bytes() for path in data.path.iterdir() if path.is_file()}
    code, _, err = cai("pairs", "import", source, "--base-dir", base)
    assert (code, "is not what `cai pairs import` wrote" in err, "--force-data" in err) == (4, True, True)
    assert {path: path.read_bytes() for path in data.path.iterdir() if path.is_file()} == before
    assert {path: path.read_bytes() for path in kept} == kept
    assert cai("pairs", "import", source, "--base-dir", base, "--force-data")[0] == 0
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0


@pytest.mark.parametrize("forced", [True, False])
def test_a_killed_import_is_one_that_did_not_end_at_whatever_file(
    tmp_path: Path, stubbed: Stage, cai: Cai, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    folder, data = stubbed.workspace.base, stubbed.workspace.round_data(1)
    force = ("--force-data",) if forced else ()
    source = write(tmp_path / "p.jsonl", explicit())
    writer = module.write_atomic

    def killed_at(last: str) -> Callable[[Path, bytes], None]:
        def write_or_die(path: Path, content: bytes) -> None:
            if path.name == last:
                raise KilledError
            writer(path, content)

        return write_or_die

    for name in ("instructions.jsonl", "preference_pairs.jsonl", "rejected_pairs.jsonl"):
        if forced:
            shutil.rmtree(data.path, ignore_errors=True)
            run_step("generate", stubbed.context(config_of()))
        monkeypatch.setattr(module, "write_atomic", killed_at(name))
        with pytest.raises(KilledError):
            cai("pairs", "import", source, "--base-dir", folder, *force)
        monkeypatch.setattr(module, "write_atomic", writer)
        assert not data.summary.exists()
        with pytest.raises(UsageError, match="did not end"):
            run_step("generate", stubbed.context(config_of()))
        code, _, err = cai("pairs", "export", tmp_path / "out.jsonl", "--base-dir", folder)
        assert (code, "not whole" in err, (tmp_path / "out.jsonl").exists()) == (1, True, False)
    assert cai("pairs", "import", source, "--base-dir", folder)[0] == 0
    assert len(records(folder, "preference_pairs.jsonl")) == 10


def test_generation_is_skipped_until_it_is_forced(tmp_path: Path, stubbed: Stage, cai: Cai) -> None:
    source = write(tmp_path / "p.jsonl", explicit())
    folder = stubbed.workspace.base
    assert cai("pairs", "import", source, "--base-dir", folder)[0] == 0
    imported = stubbed.workspace.round_data(1).pairs.read_bytes()
    assert run_step("generate", stubbed.context(config_of())) is False
    assert run_step("generate", stubbed.context(config_of(seed=7))) is False
    assert stubbed.workspace.round_data(1).pairs.read_bytes() == imported
    assert run_step("generate", stubbed.context(config_of(force_data=True))) is True
    assert {row["label_source"] for row in records(folder, "preference_pairs.jsonl")} != {"imported"}
    assert read_json(stubbed.workspace.round_data(1).summary).get("imported") is None


def test_imported_data_in_another_base_directory_are_taken_as_they_are(
    tmp_path: Path, stubbed: Stage, cai: Cai
) -> None:
    source = write(tmp_path / "p.jsonl", explicit())
    assert cai("pairs", "import", source, "--base-dir", tmp_path / "first")[0] == 0
    shutil.copytree(tmp_path / "first" / "data" / "stage1", stubbed.workspace.data, dirs_exist_ok=True)
    assert run_step("generate", stubbed.context(config_of())) is True
    assert len(records(stubbed.workspace.base, "preference_pairs.jsonl")) == 10
    assert run_step("generate", stubbed.context(config_of())) is False


def test_changed_and_unfinished_imports_are_refused_by_what_follows(tmp_path: Path, stubbed: Stage, cai: Cai) -> None:
    source = write(tmp_path / "p.jsonl", explicit())
    folder, data = stubbed.workspace.base, stubbed.workspace.round_data(1)
    assert cai("pairs", "import", source, "--base-dir", folder)[0] == 0
    data.pairs.write_bytes(b"".join(data.pairs.read_bytes().splitlines(keepends=True)[1:]))
    for step in ("generate", "train"):
        with pytest.raises(UntrustedResultError, match="cai pairs import"):
            run_step(step, stubbed.context(config_of()))
    touched = data.pairs.read_bytes()
    code, _, err = cai("pairs", "import", source, "--base-dir", folder)  # it may have been touched on purpose
    assert (code, "--force-data" in err, data.pairs.read_bytes()) == (4, True, touched)
    assert cai("pairs", "import", source, "--base-dir", folder, "--force-data")[0] == 0
    data.summary.unlink()  # as a kill before the last file leaves it
    with pytest.raises(UsageError, match="did not end"):
        run_step("train", stubbed.context(config_of()))
    assert cai("pairs", "import", source, "--base-dir", folder)[0] == 0
    assert run_step("generate", stubbed.context(config_of())) is False


@pytest.mark.parametrize("count", [8, 9])
def test_a_constitution_neither_takes_imported_pairs_nor_writes_over_them(
    tmp_path: Path, cai: Cai, monkeypatch: pytest.MonkeyPatch, tiny: Path, count: int
) -> None:
    """Of few pairs too, which would give way if they were its own."""
    source = write(tmp_path / "p.jsonl", explicit(count))
    monkeypatch.setenv("CAI_MODEL", str(tiny))
    assert cai("pairs", "import", source, "--base-dir", tmp_path / "first")[0] == 0
    monkeypatch.delenv("CAI_MODEL")
    bench = Workbench(tmp_path / "work", monkeypatch)
    shutil.copytree(tmp_path / "first" / "data" / "stage1", bench.workspace.data, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in bench.workspace.data.iterdir()}
    with pytest.raises(UsageError, match="holds imported pairs, and a constitution is taught on pairs that its"):
        bench.run("generate", pairs__min_pairs=9)
    assert {path.name: path.read_bytes() for path in bench.workspace.data.iterdir()} == before
    assert cai("pairs", "import", source, "--base-dir", tmp_path / "work", "--stage", "constitution")[0] == 2
    assert bench.run("generate", force_data=True) == [True]
    assert "imported" not in read_json(bench.workspace.round_data(1).identity)["identity"]


# --- the report, and other trainers


def test_the_report_says_where_the_pairs_came_from(tmp_path: Path, base: Path, cai: Cai) -> None:
    source = write(tmp_path / "p.jsonl", [*explicit(), *DROPPED.values()])
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0
    assert cai("report", "--base-dir", base)[0] == 0
    page = (base / "results" / "report.html").read_text(encoding="utf-8")
    assert "Imported pairs" in page
    assert str(source) in page
    assert sha256_file(source) in page
    assert "the model's own" not in page


def test_a_generation_that_did_not_end_is_not_exported(tmp_path: Path, stubbed: Stage, cai: Cai) -> None:
    run_step("generate", stubbed.context(config_of()))
    stubbed.workspace.round_data(1).summary.unlink()
    stubbed.workspace.marker("generate").unlink()
    code, _, err = cai("pairs", "export", tmp_path / "out.jsonl", "--base-dir", stubbed.workspace.base)
    assert (code, "cai generate" in err, (tmp_path / "out.jsonl").exists()) == (1, True, False)


@pytest.mark.parametrize("form", ["plain", "messages"])
def test_an_export_loads_into_trl_and_comes_back_as_the_same_pairs(
    tmp_path: Path, base: Path, cai: Cai, form: str
) -> None:
    from datasets import Dataset
    from trl.data_utils import is_conversational

    source = write(tmp_path / "p.jsonl", explicit())
    assert cai("pairs", "import", source, "--base-dir", base)[0] == 0
    target = tmp_path / "out.jsonl"
    assert cai("pairs", "export", target, "--base-dir", base, "--format", form)[0] == 0
    loaded = Dataset.from_json(str(target), cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["prompt", "chosen", "rejected"]
    assert is_conversational(loaded[0]) is (form == "messages")
    assert cai("pairs", "import", target, "--base-dir", tmp_path / "again")[0] == 0
    assert records(tmp_path / "again", "preference_pairs.jsonl") == records(base, "preference_pairs.jsonl")
    code, _, err = cai("pairs", "export", target, "--base-dir", base)
    assert (code, "is there already" in err) == (2, True)
    code, _, err = cai("pairs", "export", tmp_path / "none.jsonl", "--base-dir", tmp_path / "nothing")
    assert (code, "cai pairs import" in err) == (1, True)
