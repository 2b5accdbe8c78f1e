"""The table of rooms in docs/ARCHITECTURE.md is what the import contract and the rooms themselves say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("room_table", ROOT / "tools" / "room_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_table_that_the_contract_and_the_docstrings_give(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--check"]) == 0
    page = tmp_path / "ARCHITECTURE.md"
    text = tool.PAGE.read_text(encoding="utf-8")
    page.write_text(text.replace("| 1 | `cli/` |", "| 2 | `cli/` |"), encoding="utf-8")
    monkeypatch.setattr(tool, "PAGE", page)
    assert tool.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert tool.main(["--write"]) == 0
    assert page.read_text(encoding="utf-8") == text


def test_every_room_stands_in_the_contract_once(tool: ModuleType) -> None:
    package = ROOT / "src" / "cai_bootstrap"
    there = {path.parent.name for path in package.glob("*/__init__.py")} | {path.stem for path in package.glob("*.py")}
    rooms = [room for layer in tool.layers() for room in layer]
    assert sorted(rooms) == sorted(there - {"__init__", "__main__"})
