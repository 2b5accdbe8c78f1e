"""Calibration: the scorers against outputs of the real model that were labelled by reading."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent / "calibration"
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


def test_a_hundred_fresh_outputs_were_read_after_the_last_change_of_the_scorers() -> None:
    first = {(row["id"], row["text"]) for row in calibrate.judged(HERE)}
    fresh = {(row["id"], row["text"]) for row in calibrate.judged(HERE / "fresh")}
    assert len(fresh) >= 100
    assert not first & fresh


def test_the_scorers_agree_with_the_reader() -> None:
    for folders in ([HERE], [HERE / "fresh"], [HERE, HERE / "fresh"]):
        table, _ = calibrate.agreement(row for folder in folders for row in calibrate.judged(folder))
        by_part = {row["part"]: row["kappa"] for row in table}
        assert by_part["all"] >= 0.9
        assert by_part["those that ended"] >= 0.9
    assert min(by_part.values()) >= 0.9


def test_the_readers_sheet_tells_neither_the_source_nor_the_verdict() -> None:
    for folder in (HERE, HERE / "fresh"):
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
