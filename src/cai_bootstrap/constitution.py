"""The written constitution: load it, refuse a malformed one, and deal its principles out evenly."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.yaml_files import read_yaml

FIELDS = ("id", "text", "category")


@dataclass(frozen=True)
class Principle:
    """One sentence that an answer is judged by."""

    id: str
    text: str
    category: str


@dataclass(frozen=True)
class Constitution:
    """Principles in the file's order. `sha256` covers their content, not the file's comments."""

    principles: tuple[Principle, ...]
    sha256: str

    def assign(self, count: int, *, seed: int) -> list[Principle]:
        """A principle for each of `count` places: every one is used equally often, to within one, in seeded order."""
        order = random.Random(f"{self.sha256}:{seed}")
        dealt: list[Principle] = []
        while len(dealt) < count:
            dealt.extend(order.sample(self.principles, len(self.principles)))
        return dealt[:count]

    def principle(self, principle_id: str) -> Principle:
        """The principle of that id. Raises UsageError naming the known ones."""
        for principle in self.principles:
            if principle.id == principle_id:
                return principle
        raise UsageError(f"no principle '{principle_id}'; known: {', '.join(p.id for p in self.principles)}")


def load_constitution(path: Path) -> Constitution:
    """Read a constitution from YAML: `principles`, a list of {id, text, category}.

    Raises UsageError naming the file, the line and the field that is wrong, and what is expected.
    """
    root = read_yaml(path, what="constitution", missing="; give one with --constitution FILE", parse=yaml.compose)
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path}: expected a mapping with 'principles', a list of {{id, text, category}}")
    nodes = next((value for key, value in root.value if key.value == "principles"), None)
    if not isinstance(nodes, yaml.SequenceNode) or not nodes.value:
        line = nodes.start_mark.line + 1 if nodes is not None else 1
        raise UsageError(
            f"{path}: no principles (line {line}); 'principles' must list at least one {{id, text, category}}"
        )
    principles = [_principle(path, number, node) for number, node in enumerate(nodes.value)]
    _refuse_duplicates(path, principles, nodes.value)
    content = [[p.id, p.text, p.category] for p in principles]
    return Constitution(tuple(principles), fingerprint(content))


def _principle(path: Path, number: int, node: Any) -> Principle:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(
            f"{path}: principles[{number}] (line {line}) is not a mapping; each principle needs id, text and category"
        )
    fields = {key.value: value for key, value in node.value}
    for name in FIELDS:
        value = fields.get(name)
        if not isinstance(value, yaml.ScalarNode) or not value.value.strip() or value.tag == "tag:yaml.org,2002:null":
            raise UsageError(
                f"{path}: principles[{number}] has no '{name}' (line {line}); "
                "each principle needs id, text and category"
            )
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise UsageError(
            f"{path}: principles[{number}] has an unknown field '{unknown[0]}' (line {line}); "
            f"known: {', '.join(FIELDS)}"
        )
    return Principle(*(" ".join(fields[name].value.split()) for name in FIELDS))


def _refuse_duplicates(path: Path, principles: Sequence[Principle], nodes: Sequence[Any]) -> None:
    seen: dict[str, int] = {}
    for principle, node in zip(principles, nodes, strict=True):
        line = node.start_mark.line + 1
        if principle.id in seen:
            raise UsageError(
                f"{path}: the id '{principle.id}' stands twice (lines {seen[principle.id]} and {line}); ids must differ"
            )
        seen[principle.id] = line
