"""Write docs/stage1_suite.md: the suite's hashes, its mix, and what prompting alone reaches, from the files themselves.

python tools/describe_suite.py           write the page
python tools/describe_suite.py --check   compare instead of writing; exit 1 if it differs
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from cai_bootstrap.files import read_json, write_atomic  # noqa: E402
from cai_bootstrap.judging.suite import (  # noqa: E402
    HELD_OUT_SKILLS,
    NAMED_SUITES,
    SUITE_SHA256,
    SUITE_VERSION,
    counts,
    load_suite,
)
from cai_bootstrap.measuring import facts  # noqa: E402
from cai_bootstrap.records import TASK_TYPES, EvalItem  # noqa: E402

PAGE = ROOT / "docs" / "stage1_suite.md"
PROMPTED = ROOT / "tools" / "suite_sources" / "prompted_base.json"
LEVELS = ("easy", "medium", "hard")
HEAD = """# The shipped suite

Written by `python tools/describe_suite.py`, and compared with the files by a test. The items and their hashes are
older than every model that is reported on them, and recipes were chosen on the dev items, never on the test items."""


def page() -> str:
    """The whole page."""
    test, dev = load_suite("stage1").items, load_suite("stage1-dev").items
    tiers = "; ".join(_tier(name, items) for name, items in (("test", test), ("dev", dev)))
    parts = [
        HEAD,
        f"## Hashes\nVersion {SUITE_VERSION}; `stage1.jsonl` has the sha256 `{SUITE_SHA256}`.\n"
        "A suite's own hash is that of its items, in order.",
        _table(("suite", "items", "sha256"), [_hash_row(name) for name in NAMED_SUITES]),
        "## What stands in it\nItems by type and difficulty (test / dev).",
        _table(("", *LEVELS, "all", "templates"), [_mix_row(kind, test, dev) for kind in TASK_TYPES]),
        f"Label tier: {tiers}.",
        "Skills of the test items (**held out**: never trained, never shown in an exemplar):",
        _table(("type", "skills"), [_skill_row(kind, test) for kind in TASK_TYPES]),
        _prompted(),
        _flags(),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _hash_row(name: str) -> tuple[str, ...]:
    suite = load_suite(name)
    return f"`{name}`", str(len(suite.items)), f"`{suite.sha256}`"


def _mix_row(kind: str, test: tuple[EvalItem, ...], dev: tuple[EvalItem, ...]) -> tuple[str, ...]:
    mine = [[item for item in items if item.type == kind] for items in (test, dev)]
    levels = [" / ".join(str(sum(i.difficulty == level for i in items)) for items in mine) for level in LEVELS]
    templates = " / ".join(str(len({item.template for item in items})) for items in mine)
    return kind, *levels, " / ".join(str(len(items)) for items in mine), templates


def _tier(name: str, items: tuple[EvalItem, ...]) -> str:
    tiers = counts(items)["tier"]
    return f"{name}: {tiers['constraint']} decided by the instruction, {tiers['gold']} by knowledge of the world"


def _skill_row(kind: str, items: tuple[EvalItem, ...]) -> tuple[str, ...]:
    skills = Counter(item.skill for item in items if item.type == kind)
    held_out = HELD_OUT_SKILLS[kind]  # type: ignore[index]
    shown = [f"**{name}** {count}" if name == held_out else f"{name} {count}" for name, count in sorted(skills.items())]
    return kind, ", ".join(shown)


def _prompted() -> str:
    found = read_json(PROMPTED)
    rows = [(f"`{name}`", f"{rate:.1f}%") for name, rate in sorted(found["rates"].items(), key=lambda r: -r[1])]
    head = f"""## How far prompting alone gets
The untrained {found["model"]} on the {found["dev_items"]} dev items, each output cut at its first line
(`{found["command"]}`; {found["measured"]}; version {found["scorer_version"]} of the
scorers). The best of them is the rival of every trained model."""
    return head + "\n\n" + _table(("rendering", "followed"), rows)


def _flags() -> str:
    flags = facts.flags()
    right, needed = flags.right, flags.needed
    rows = []
    for name in ("stage1", "stage1-dev"):
        chosen = [right[item.id] for item in load_suite(name).items if item.id in right]
        spread = Counter(chosen)
        told = sum(n >= needed for n in chosen)
        rows.append((f"`{name}`", str(len(chosen)), str(told), *(str(spread[n]) for n in range(6))))
    how = f"`cai elicit --flags`; {flags.model}, {flags.precision}, greedy, {flags.max_new_tokens} tokens"
    weights = flags.base_weights_sha256[:16]
    head = f"""## Facts that the untrained base can be brought to tell
Each fact is asked in five typed prompts ({how}).
It is *elicitable* if at least {needed} answers begin rightly. The flags come from the untrained base alone, made on
2026-11-22 from 21:05 to 21:26 UTC, when recipes had been tried on dev and no trained model had met a test item; the
look at the test items that they took stands in the ledger. They never gate: results show the rate among elicitable
facts and among the others beside each other. They hold for the base weights `{weights}…` only."""
    return head + "\n\n" + _table(("suite", "facts", "elicitable", *(f"{n} right" for n in range(6))), rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        write_atomic(PAGE, page())
        return 0
    if PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE.relative_to(ROOT)} is not what the suite says; run python tools/describe_suite.py")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
