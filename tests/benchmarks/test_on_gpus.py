"""The script of all GPU measurements: what fails or hangs is reported, the others go on, nothing is left running."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import alive

HERE = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def on_gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    for name in ("on_gpus", "generation"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import importlib

    return importlib.import_module("on_gpus")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Writes its cards, or fails, or never ends, by its first argument."""
    path = tmp_path / "script.py"
    path.write_text(
        "import json, os, sys, signal\n"
        "kind, file = sys.argv[1], sys.argv[sys.argv.index('--json') + 1]\n"
        "if kind == 'hangs':\n"
        "    open(file + '.pid', 'w').write(str(os.getpid()))\n"
        "    signal.pause()\n"
        "if kind == 'fails':\n"
        "    json.dump({'half': 1}, open(file, 'w'))\n"
        "    sys.exit('no such card')\n"
        "json.dump({'cards': os.environ['CUDA_VISIBLE_DEVICES']}, open(file, 'w'))\n"
    )
    return path


def bench(on_gpus: Any, tmp_path: Path, devices: list[str]) -> Any:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return on_gpus.Bench(tmp_path / "out", "m", devices, scratch, 2, quick=False)


def test_what_fails_or_hangs_is_told_and_the_others_go_on(on_gpus: Any, script: Path, tmp_path: Path) -> None:
    def asked(name: str, kind: str, **fields: Any) -> Any:
        return on_gpus.Measurement(name, "found", [str(script), kind], **fields)

    wanted = [
        asked("a", "fails"), asked("b", "hangs", limit=1.5), asked("c", "works"),
        asked("d", "works", cards=2), asked("e", "works", after="a"),
    ]  # fmt: skip
    made = bench(on_gpus, tmp_path, ["0", "1"])
    made.run(wanted, 600)
    status = {name: told["status"] for name, told in made.told.items()}
    assert status == {"a": "failed", "b": "failed", "c": "done", "d": "done", "e": "not started"}
    found = json.loads((tmp_path / "out/found.json").read_text())
    assert found["a"] == {"half": 1, "incomplete": "exit code 1"}
    assert "not done after" in found["b"]["failed"]
    assert found["d"] == {"cards": "0,1"}
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["a"]["log"][-1] == "no such card"
    assert summary["e"]["why"] == "a gave nothing"
    assert not alive(int((tmp_path / "scratch/b.json.pid").read_text()))


def test_nothing_is_started_after_the_budget(on_gpus: Any, script: Path, tmp_path: Path) -> None:
    made = bench(on_gpus, tmp_path, ["0"])
    made.run([on_gpus.Measurement("a", "found", [str(script), "works"])], -1)
    assert made.told["a"]["status"] == "not started"


def test_what_needs_two_cards_is_left_out_with_one_and_unknown_names_are_refused(on_gpus: Any) -> None:
    assert {what.cards for what in on_gpus.chosen("", 1)} == {1}
    assert {what.name for what in on_gpus.chosen("several", 2)} >= {"dpo on 1", "dpo on 2"}
    assert [what.name for what in on_gpus.chosen("raw vllm, memory", 2)] == ["raw vllm", "memory"]
    with pytest.raises(SystemExit, match="is none of"):
        on_gpus.chosen("everything", 2)


def test_every_measurement_is_a_script_that_exists_and_fits_eight_files(on_gpus: Any) -> None:
    assert all((HERE / what.script[0]).is_file() for what in on_gpus.MEASUREMENTS)
    assert len({what.file for what in on_gpus.MEASUREMENTS}) + 1 <= 8
    names = [what.name for what in on_gpus.MEASUREMENTS]
    assert len(set(names)) == len(names)
    assert all(what.after in (None, *names[: names.index(what.name)]) for what in on_gpus.MEASUREMENTS)


def test_the_aims_are_judged_from_the_rows(on_gpus: Any, tmp_path: Path) -> None:
    rows = {
        "vllm": {"passes": {"whole_seconds": 60.0}, "warm": {"tokens_per_second": 20_000.0}},
        "raw vllm": {"passes": {"whole_seconds": 100.0}, "warm": {"tokens_per_second": 10_000.0}},
        "transformers": {"failed": "exit code 1"},
        "raw transformers": {
            "passes": {"whole_seconds": 90.0}, "warm": {"tokens_per_second": 9_000.0},
            "one_at_a_time": {"tokens_per_second": 40.0},
        },
    }  # fmt: skip
    (tmp_path / "generation.json").write_text(json.dumps(rows))
    said = "\n".join(on_gpus.conclusions(tmp_path))
    assert "tokens/s warm, vllm (warm) against raw vLLM: 2 (aim >= 0.95)" in said
    assert "whole time with start-up, vllm (passes) against the better raw library: 0.667 (aim <= 0.8)" in said
    assert "the best engine against one prompt at a time: 500 (aim >= 300)" in said
