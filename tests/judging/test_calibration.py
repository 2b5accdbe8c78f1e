"""Calibration: the scorers against outputs of the real model that were labelled by reading."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent / "calibration"
FRESH = [HERE / "fresh", *(HERE / f"version-{version}" for version in (4, 5, 6, 7))]
ROOT = Path(__file__).parents[2]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


calibrate = tool("calibrate")


def test_two_hundred_outputs_were_read_of_both_verdicts_and_of_every_source() -> None:
    rows = calibrate.judged(HERE)
    assert len(rows) == 200
    assert sum(row["ended"] != "not" for row in rows) >= 150
    assert min(Counter(row["read"] for row in rows).values()) >= 60
    assert {row["source"].partition(":")[0] for row in rows} == {"raw", "cued", "k-shot", "trained"}
    assert len({(row["id"], row["text"]) for row in rows}) == 200


def test_a_hundred_fresh_outputs_were_read_after_each_change_of_the_scorers() -> None:
    assert FRESH[-1].name == f"version-{calibrate.SCORER_VERSION}"
    known = {(row["id"], row["text"]) for row in calibrate.judged(HERE)}
    for folder in FRESH:
        rows = calibrate.judged(folder)
        fresh = {(row["id"], row["text"]) for row in rows}
        assert len(fresh) == len(rows) >= 100
        assert min(Counter(row["type"] for row in rows).values()) >= 25
        assert not known & fresh
        known |= fresh


def test_the_scorers_agree_with_the_reader() -> None:
    for folders in ([HERE], *([folder] for folder in FRESH), [HERE, *FRESH]):
        table, _ = calibrate.agreement(row for folder in folders for row in calibrate.judged(folder))
        by_part = {row["part"]: row["kappa"] for row in table}
        assert by_part["all"] >= 0.9
        assert by_part["those that ended"] >= 0.9
    assert min(by_part.values()) >= 0.9


def test_the_readers_sheet_tells_neither_the_source_nor_the_verdict() -> None:
    for folder in (HERE, *FRESH):
        for line in (folder / "sheet.jsonl").read_text(encoding="utf-8").splitlines():
            assert set(json.loads(line)) == {"n", "instruction", "output", "ended"}


def test_kappa_is_cohens() -> None:
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert calibrate.kappa(pairs) == pytest.approx(0.4)
    assert calibrate.kappa([(True, True)] * 3) == 1.0


def test_an_output_without_a_label_is_refused(tmp_path: Path) -> None:
    for name in ("outputs.jsonl", "labels.jsonl"):
        text = (HERE / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text if name == "outputs.jsonl" else text.split("\n", 1)[1], encoding="utf-8")
    with pytest.raises(SystemExit, match="label every row once"):
        calibrate.judged(tmp_path)


def test_the_sampler_takes_evenly_from_types_and_sources_and_nothing_twice(tmp_path: Path) -> None:
    trained = {"items": []}
    base = []
    for item in calibrate.load_suite("stage1-dev").items:
        trained["items"].append({"id": item.id, "trained": {"response": "Yes.", "finished": True}})
        for source in ("raw", "cued", "k-shot"):
            base.append({"id": item.id, "source": source, "text": f"No.\nAnd {source}", "ended_by": "length"})
    (tmp_path / "t.json").write_text(json.dumps(trained), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in base), encoding="utf-8")
    common = ["--base", str(tmp_path / "b.jsonl"), "--trained", str(tmp_path / "t.json")]
    calibrate.main(["sample", str(tmp_path / "one"), *common])
    rows = [json.loads(line) for line in (tmp_path / "one" / "outputs.jsonl").read_text().splitlines()]
    kinds = {item.id: item.type for item in calibrate.load_suite("stage1-dev").items}
    assert len(set(Counter(kinds[row["id"]] for row in rows).values())) == 1
    assert sum(row["ended"] == "not" for row in rows) == 16
    assert {row["text"] for row in rows if row["source"] == "raw"} == {"No."}
    calibrate.main(["sample", str(tmp_path / "two"), *common, "--without", str(tmp_path / "one" / "outputs.jsonl")])
    again = [json.loads(line) for line in (tmp_path / "two" / "outputs.jsonl").read_text().splitlines()]
    assert not {(row["id"], row["text"]) for row in rows} & {(row["id"], row["text"]) for row in again}


def test_the_sampler_takes_every_side_of_a_results_file_and_no_item_that_is_to_be_skipped(tmp_path: Path) -> None:
    items = calibrate.load_suite("stage1").items
    rows = [
        {
            "id": item.id,
            "base": {"response": f"{item.id}\nand on", "finished": False},
            "rival": {"response": f" {item.id}?", "finished": True},
            "trained": {"response": f"{item.id}.", "finished": True},
        }
        for item in items
    ]
    (tmp_path / "row.json").write_text(json.dumps({"items": rows}), encoding="utf-8")
    skipped = [item.id for item in items[::2]]
    given = ["--trained", str(tmp_path / "row.json"), "--all-sides", "--fraction", "0.5", "--skip", *skipped]
    calibrate.main(["sample", str(tmp_path / "out"), *given])
    found = [json.loads(line) for line in (tmp_path / "out" / "outputs.jsonl").read_text().splitlines()]
    assert Counter(row["source"] for row in found) == {"raw": 16, "k-shot": 36, "trained:row": 56}
    assert {row["source"]: row["ended"] for row in found} == {
        "raw": "first line", "k-shot": "first line", "trained:row": "itself",
    }  # fmt: skip
    assert not {row["id"] for row in found} & set(skipped)
