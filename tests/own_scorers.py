"""A module of own scorers, with the suite or the constitution that names it."""

import json
from pathlib import Path

from cai_bootstrap.judging.own.sources import read_source, trust

HEAD = "from cai_bootstrap.judging.own import scorer\n\n\n"
SHOUTS = HEAD + (
    "@scorer\ndef shouts(instruction: str, output: str, *, marks: int = 1) -> bool:\n"
    "    return output.isupper() and output.count('!') == marks\n"
)
NEVER_RUN = "raise SystemExit(open('{}', 'w').write('ran'))\n"


def row(**fields: object) -> dict[str, object]:
    return {
        "id": "m1", "split": "test", "type": "generation", "template": "t", "instruction": "Shout about the cold rain.",
        "scorer": "mine.py:shouts", "args": {}, "gold": ["COLD RAIN!"], "source": "own", "difficulty": "easy",
    } | fields  # fmt: skip


def suite_file(folder: Path, source: str | None, *rows: dict[str, object], trusted: bool = True) -> Path:
    """A suite `mine.jsonl` and, beside it, the module `mine.py` that it names."""
    folder.mkdir(exist_ok=True)
    if source is not None:
        (folder / "mine.py").write_text(source, encoding="utf-8")
        if trusted:
            trust(read_source(folder / "mine.py"))
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(fields) + "\n" for fields in rows or (row(),)), encoding="utf-8")
    return path


def constitution_file(folder: Path, source: str, check: str, *, trusted: bool = True) -> Path:
    suite_file(folder, source, trusted=trusted)
    path = folder / "mine.yaml"
    path.write_text(
        f"""name: mine
version: 2
principles:
  - id: loud
    category: form
    text: A good answer is in capital letters.
    demonstrations:
      - {{instruction: "What is a kite?", answer: A kite is a toy!, critique: It is quiet., better: A KITE IS A TOY!}}
      - {{instruction: "Who mends shoes?", answer: A cobbler!, critique: It whispers., better: A COBBLER!}}
    check: {check}
""",
        encoding="utf-8",
    )
    return path
