"""The held-out suite: frozen items that no training pool shares a template, an entity or a fact with.

`stage1.jsonl` is data, built by tools/build_suite.py; its hash is frozen here, and a file that has another one is
refused. Named suites are all test items, all dev items, and two fixed stratified subsets. A user's own suite is a file
in the same format.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from cai_bootstrap.errors import DataError, UntrustedResultError, UsageError
from cai_bootstrap.files import canonical_json, fingerprint, jsonl_lines, parse_json, read_json, sha256_file
from cai_bootstrap.judging.closed_sets import closed_set_names
from cai_bootstrap.judging.own.entering import entered_item, sources_of, without_sources
from cai_bootstrap.judging.own.names import plain
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.judging.suite.format import item_fault
from cai_bootstrap.records import TASK_TYPES, EvalItem, TaskType

SUITE_VERSION = "1"
SUITE_SHA256 = "3ee3227adb780139f4cd26063552889ce117f2dfb240f69306b83c2f7b0c601e"
WHOLE_SUITE = "stage1"
DEV_SUITE = "stage1-dev"
NAMED_SUITES = (WHOLE_SUITE, DEV_SUITE, "stage1-120", "quick")
USER_VERSION = "user"
HERE = Path(__file__).parent
HELD_OUT_SKILLS: dict[TaskType, str] = {
    "question": "which_not_listed",
    "completion": "analogy_in_context",
    "generation": "numbered_list",
    "transformation": "surround",
}


def shipped_name(sha256: str) -> str | None:
    """The shipped suite that has this hash, whatever a file or a suite is called; None for a user's own."""
    return next((name for name in NAMED_SUITES if load_suite(name).sha256 == sha256), None)


def undecided_on(name: str, sha256: str) -> str | None:
    """What was measured, in words, if Stage 1 is not decided on it: a shipped subset, or a user's own suite.

    None for the whole suite.
    """
    shipped = shipped_name(sha256)
    if shipped == WHOLE_SUITE:
        return None
    return f"the user's suite {name!r}" if shipped is None else f"the subset '{shipped}'"


def kind_of_items(name: str) -> str:
    """What a suite's items are called where a rate is told: `dev` items were looked at while recipes were made."""
    return "dev" if name == DEV_SUITE else "held-out"


@dataclass(frozen=True)
class Suite:
    """A named, ordered set of items. `sha256` is the hash of the items themselves, so two equal suites share it."""

    name: str
    sha256: str
    version: str
    items: tuple[EvalItem, ...]

    @property
    def asked_sha256(self) -> str:
        """`sha256` but for the sources of own scorers: to mend a scorer changes nothing of what a model may not see."""
        return asked_sha256(self.items) if sources_of(self.items) else self.sha256


def load_suite(name_or_path: str | Path) -> Suite:
    """A named suite (`NAMED_SUITES`), or a user's own suite from a JSONL file.

    Raises UntrustedResultError if the shipped suite is not the frozen one, and UsageError naming file and line of the
    first item of a user's suite that is not one.
    """
    name = str(name_or_path)
    if name in NAMED_SUITES:
        return _named(name)
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        known = ", ".join(NAMED_SUITES)
        raise UsageError(f"{name}: neither a named suite ({known}) nor a file; give one of these")
    items = read_suite_file(path)
    return Suite(path.stem, items_sha256(items), USER_VERSION, items)


@cache
def _named(name: str) -> Suite:
    items = _shipped_items()
    if name == "stage1":
        chosen = tuple(item for item in items if item.split == "test")
    elif name == "stage1-dev":
        chosen = tuple(item for item in items if item.split == "dev")
    else:
        by_id = {item.id: item for item in items}
        chosen = tuple(by_id[id] for id in read_json(HERE / "subsets.json")[name])
    return Suite(name, items_sha256(chosen), SUITE_VERSION, chosen)


@cache
def _shipped_items() -> tuple[EvalItem, ...]:
    path = HERE / "stage1.jsonl"
    found = sha256_file(path)
    if found != SUITE_SHA256:
        raise UntrustedResultError(
            f"{path}: its sha256 is {found[:16]}…, the frozen suite's is {SUITE_SHA256[:16]}…; "
            "install the package again"
        )
    return read_suite_file(path)


def read_suite_file(path: Path) -> tuple[EvalItem, ...]:
    """The items of a suite file, in order. Raises UsageError naming file and line of what is wrong."""
    try:
        lines = list(jsonl_lines(path))
    except DataError as error:
        raise UsageError(str(error)) from error
    items: list[EvalItem] = []
    seen: dict[str, int] = {}
    for number, line in lines:
        where = f"{path}: line {number}"
        try:
            item = EvalItem.model_validate(parse_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"]) or "the line"
            raise UsageError(f"{where}: {field}: {problem['msg']}; each line is one suite item as JSON") from error
        except ValueError as error:
            raise UsageError(f"{where}: not valid JSON: {error}; each line is one suite item as JSON") from error
        try:
            item = entered_item(item, path.parent)
        except UsageError as error:
            raise UsageError(f"{where} ({item.id}): {error}") from error
        if fault := item_fault(item, closed_set_names()):
            raise UsageError(f"{where} ({item.id}): {fault}")
        if item.id in seen:
            raise UsageError(f"{where}: the id {item.id} stands on line {seen[item.id]} already; ids must be unique")
        seen[item.id] = number
        items.append(item)
    if not items:
        raise UsageError(f"{path}: holds no item; a suite needs at least one")
    return tuple(items)


def items_sha256(items: Iterable[EvalItem]) -> str:
    """SHA-256 (hex) of the items' canonical lines, in order."""
    return fingerprint([item.model_dump() for item in items])


def asked_sha256(items: Iterable[EvalItem]) -> str:
    """`items_sha256` but for the sources of own scorers."""
    return items_sha256(without_sources(item) for item in items)


def canonical_line(item: EvalItem) -> str:
    """An item as its line in a suite file, newline included: the same item always gives the same bytes."""
    return canonical_json(item.model_dump()) + "\n"


def held_out_skills() -> frozenset[str]:
    """The skills, one per type, that stand in the suite only: never trained on, never shown in an exemplar."""
    return frozenset(HELD_OUT_SKILLS.values())


@cache
def references() -> dict[str, str]:
    """For each shipped item, an output that passes: what an oracle would answer."""
    rows = (json.loads(line) for _, line in jsonl_lines(HERE / "references.jsonl"))
    return {row["id"]: row["text"] for row in rows}


@cache
def entities() -> dict[str, tuple[str, ...]]:
    """For each shipped item, the names, words and facts that belong to its split and to no other."""
    return {id: tuple(names) for id, names in read_json(HERE / "entities.json").items()}


def counts(items: Iterable[EvalItem]) -> dict[str, Counter[str]]:
    """How many items there are by split, type, skill, difficulty, tier and scorer, and how many templates by type."""
    table: dict[str, Counter[str]] = {
        key: Counter() for key in ("split", "type", "skill", "difficulty", "tier", "scorer")
    }
    templates: dict[str, set[str]] = {kind: set() for kind in TASK_TYPES}
    for item in items:
        for key in ("split", "type", "skill", "difficulty"):
            table[key][getattr(item, key)] += 1
        table["scorer"][plain(item.scorer)] += 1
        table["tier"][label_tier(item)] += 1
        templates[item.type].add(item.template)
    table["templates"] = Counter({kind: len(names) for kind, names in templates.items()})
    return table
