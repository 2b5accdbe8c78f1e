"""The table of rooms in docs/ARCHITECTURE.md: from the import contract in pyproject.toml and the rooms' docstrings.

python tools/room_table.py            print it
python tools/room_table.py --write    put it into the page
python tools/room_table.py --check    exit code 1 if the page holds another one
"""

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "cai_bootstrap"
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
BEGIN = "<!-- the table of rooms, by tools/room_table.py --write -->\n"
END = "<!-- end of the table of rooms -->\n"


def layers() -> list[list[str]]:
    """The rooms of each layer, the highest layer first; a room imports those of lower layers only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    return [layer.split(" | ") for layer in contract["layers"]]


def row(layer: int, room: str) -> str:
    """The line of one room: its first sentence, and the place that its docstring names for a reader to begin."""
    package = (PACKAGE / room).is_dir()
    path = PACKAGE / room / "__init__.py" if package else PACKAGE / f"{room}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if docstring is None:
        raise SystemExit(f"{path.relative_to(ROOT)}: has no docstring; say in its first sentence what the room does")
    sentence = re.split(r"(?<=[.!?])\s", docstring, maxsplit=1)[0].replace("\n", " ").removesuffix(".")
    start = re.search(r"^Start reading at (.+)\.$", docstring, re.MULTILINE)
    name = f"{room}/" if package else f"{room}.py"
    return f"| {layer} | `{name}` | {sentence} | {start[1] if start else ''} |"


def table() -> Iterator[str]:
    """The table's lines."""
    yield "| layer | room | what it does | start reading at |"
    yield "|---|---|---|---|"
    for number, rooms in enumerate(layers(), 1):
        yield from (row(number, room) for room in rooms)


def with_table(page: str) -> str:
    """The page with the present table between its two comments."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "".join(f"{line}\n" for line in table()) + END + rest.split(END)[1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put the table into the page")
    action.add_argument("--check", action="store_true", help="exit code 1 if the page holds another table")
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    if options.write:
        PAGE.write_text(with_table(page), encoding="utf-8")
    elif options.check:
        if page != with_table(page):
            print("docs/ARCHITECTURE.md: run `python tools/room_table.py --write`", file=sys.stderr)
            return 1
    else:
        print("\n".join(table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
