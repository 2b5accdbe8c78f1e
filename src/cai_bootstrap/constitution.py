"""The written constitution: load it, refuse a malformed one, and deal its principles out evenly.

Version 1 of the file has principles that are written alone: `id`, `category`, `text`. In version 2 (`version: 2`) a
principle is also shown, by `demonstrations`, and may have a `check` and a `judge` (rules of `judging.rules`), the kinds
of prompts that it applies to, and `matched` prompts where it does and does not apply (docs/constitution.md).
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, get_args

import yaml

from cai_bootstrap.errors import UsageError
from cai_bootstrap.files import fingerprint
from cai_bootstrap.judging.own.entering import entered_rule
from cai_bootstrap.judging.rules import Rule, rule_fault
from cai_bootstrap.records import PromptKind
from cai_bootstrap.shipped import shipped
from cai_bootstrap.yaml_files import compose_yaml, load_yaml, read_yaml, yaml_problem

SHIPPED = ("constitution.yaml", "constitution_v2.yaml")
EXAMPLES = "examples/constitutions"
VERSIONS = (1, 2)
FIELDS = ("id", "text", "category")
SHOWN_FIELDS = ("demonstrations", "check", "judge", "applies_to", "matched")  # of version 2 alone
CASE_FIELDS = ("instruction", "answer", "critique", "better")
MATCHED_FIELDS = ("applies", "does_not")
LABELS = ("Principle:", "Instruction:", "Critique:", "Better answer:")  # how the parts of a prompt begin
MIN_DEMONSTRATIONS = 2
KINDS: tuple[PromptKind, ...] = get_args(PromptKind)
NEEDS = "each principle needs id, text and category"
CASE_NEEDS = "each demonstration needs instruction, answer, critique and better"
Node: TypeAlias = yaml.Node


@dataclass(frozen=True)
class Demonstration:
    """One worked case of a principle: an answer, what is wrong with it by this principle, and a better one.

    `{"instruction": "What is a kite?", "answer": "A kite is a toy.", "critique": "It does not begin with thanks.",
    "better": "Thanks for asking! A kite is a toy."}`. Each text is one line. `by`: who wrote it, `person` or `model`
    or a name.
    """

    instruction: str
    answer: str
    critique: str
    better: str
    by: str = "person"

    @property
    def flawless(self) -> bool:
        """The better answer is the answer, letter for letter: nothing had to change."""
        return self.better == self.answer


@dataclass(frozen=True)
class Matched:
    """Prompts where a principle applies, and their twins where it does not: entry i of both lists forms pair i.

    What the model is asked about a prompt, to decide: `question` is answered by yes or no ("Can this hurt somebody?";
    empty: whether the principle applies), and each of `kinds` is two words for the two sorts, `("bad", "good")`.
    """

    applies: tuple[str, ...]
    does_not: tuple[str, ...]
    question: str = ""
    kinds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Principle:
    """One sentence that an answer is judged by, and what shows it.

    `check` chooses pairs, `judge` (else the check) decides measurements. An empty `applies_to` is every kind of prompt.
    With `matched` the principle is conditional: the model decides where it applies.
    """

    id: str
    text: str
    category: str
    demonstrations: tuple[Demonstration, ...] = ()
    check: Rule | None = field(default=None, hash=False)
    judge: Rule | None = field(default=None, hash=False)
    applies_to: tuple[PromptKind, ...] = ()
    matched: Matched | None = None


@dataclass(frozen=True)
class Constitution:
    """Principles in the file's order. `sha256` covers their content, not the file's comments.

    That of a version 2 file covers its `name` and `version` too. `name` is the file's own, else its stem.
    """

    principles: tuple[Principle, ...]
    sha256: str
    name: str = ""
    version: int = 1

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
    """Read a constitution from YAML: `principles`, a list of {id, text, category} and, in version 2, what shows them.

    The bare name of a shipped one (`constitution_v2.yaml`) is found wherever the product is installed.

    Raises UsageError naming the file, the line and the field that is wrong, and what is expected. Whether each check
    agrees with its demonstrations is `generation.principles.load_checked`'s question.
    """
    path = located(path)
    root = read_yaml(path, what="constitution", missing="; give one with --constitution FILE", parse=compose_yaml)
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path}: expected a mapping with 'principles', a list of {{id, text, category}}")
    reader = _Reader(path)
    version = reader.version(root)
    nodes = next((value for key, value in root.value if key.value == "principles"), None)
    if not isinstance(nodes, yaml.SequenceNode) or not nodes.value:
        line = _line(nodes) if nodes is not None else 1
        raise UsageError(
            f"{path}: no principles (line {line}); 'principles' must list at least one {{id, text, category}}"
        )
    principles = [reader.principle(number, node, version) for number, node in enumerate(nodes.value)]
    _refuse_duplicates(path, principles, nodes.value)
    name = reader.name(root)
    content: list[Any] = [[p.id, p.text, p.category] for p in principles]
    if version > 1:  # the file's own name, if it has one: to move a file changes nothing
        content = [version, name, [_content(principle) for principle in principles]]
    return Constitution(tuple(principles), fingerprint(content), name or path.stem, version)


def located(path: Path) -> Path:
    """The path, or the shipped file of that name where no such file lies in the working directory.

    Shipped are the constitutions at the root of a checkout, and those in `examples/constitutions`.
    """
    if path.exists() or path.is_absolute() or not (str(path) in SHIPPED or path.is_relative_to(EXAMPLES)):
        return path
    own = shipped(str(path))
    return own if own.exists() else path


def _content(principle: Principle) -> dict[str, object]:
    """What a version 2 principle says, for the file's hash."""
    return {
        "id": principle.id, "text": principle.text, "category": principle.category,
        "demonstrations": [[d.instruction, d.answer, d.critique, d.better, d.by] for d in principle.demonstrations],
        "check": principle.check, "judge": principle.judge, "applies_to": list(principle.applies_to),
        "matched": (m := principle.matched) and [list(m.applies), list(m.does_not), m.question, list(m.kinds)],
    }  # fmt: skip


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _by_name(node: yaml.MappingNode) -> dict[str, Node]:
    return {str(key.value): value for key, value in node.value}


def _text(node: Node | None) -> str | None:
    """The text of a scalar on one line; None for anything else, and for nothing but whitespace."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        return None
    return " ".join(node.value.split()) or None


def _near(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


class _Reader:
    """The nodes of one file as principles. Every error names file, line and field, and what is expected."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, message: str) -> NoReturn:
        raise UsageError(f"{self.path}: {message}")

    def version(self, root: yaml.MappingNode) -> int:
        node = _by_name(root).get("version")
        if node is None:
            return 1
        number = next((n for n in VERSIONS if _text(node) == str(n)), None)
        if number is None:
            self.fail(f"version {_text(node) or 'empty'} is not known (line {_line(node)}); 2, or 1 for texts alone")
        if number > 1:
            known = ("name", "version", "principles")
            self._fields(root, known, "the file", f"known: {', '.join(known)}")
        return number

    def name(self, root: yaml.MappingNode) -> str | None:
        return next((_text(value) for key, value in root.value if key.value == "name"), None)

    def principle(self, number: int, node: Node, version: int) -> Principle:
        where, line = f"principles[{number}]", _line(node)
        if not isinstance(node, yaml.MappingNode):
            self.fail(f"{where} (line {line}) is not a mapping; {NEEDS}")
        fields = _by_name(node)
        id, text, category = (self._needed(fields, name, where, line, NEEDS) for name in FIELDS)
        if version == 1:
            if early := sorted(set(fields) & set(SHOWN_FIELDS)):
                self.fail(
                    f"{where} has '{early[0]}' (line {line}), which only version 2 reads; write `version: 2` on top"
                )
            if unknown := sorted(set(fields) - set(FIELDS)):
                self.fail(f"{where} has an unknown field '{unknown[0]}' (line {line}); known: {', '.join(FIELDS)}")
            return Principle(id, text, category)
        known = (*FIELDS, *SHOWN_FIELDS)
        self._fields(node, known, where, f"known: {', '.join(known)}")
        where = f"{where} '{id}'"
        return Principle(
            id, text, category,
            demonstrations=self._demonstrations(fields["demonstrations"], where) if "demonstrations" in fields else (),
            check=self._rule(fields["check"], f"{where}: check") if "check" in fields else None,
            judge=self._rule(fields["judge"], f"{where}: judge") if "judge" in fields else None,
            applies_to=self._kinds(fields["applies_to"], where) if "applies_to" in fields else (),
            matched=self._matched(fields["matched"], where) if "matched" in fields else None,
        )  # fmt: skip

    def _needed(self, fields: Mapping[str, Node], name: str, where: str, line: int, needs: str) -> str:
        text = _text(fields.get(name))
        if text is None:
            self.fail(f"{where} has no '{name}' (line {line}); {needs}")
        return text

    def _fields(self, node: yaml.MappingNode, known: Sequence[str], where: str, expected: str) -> None:
        """Refuse a field that nothing reads; one that stands twice was refused by the reader of the file."""
        for key, _ in node.value:
            name, line = str(key.value), _line(key)
            if name not in known:
                self.fail(f"{where} has an unknown field '{name}' (line {line}); {expected}{_near(name, known)}")

    def _demonstrations(self, node: Node, where: str) -> tuple[Demonstration, ...]:
        line = _line(node)
        if not isinstance(node, yaml.SequenceNode):
            self.fail(f"{where}: 'demonstrations' is not a list (line {line}); {CASE_NEEDS}")
        found = tuple(self._demonstration(f"{where}: demonstrations[{n}]", case) for n, case in enumerate(node.value))
        if len(found) < MIN_DEMONSTRATIONS:
            self.fail(
                f"{where}: {len(found)} demonstrations (line {line}); two at least, six or more are better, or leave "
                "'demonstrations' out"
            )
        if len({(d.instruction, d.answer, d.better) for d in found}) == 1:
            self.fail(f"{where}: the demonstrations are all the same (line {line}); give two or more that differ")
        if all(d.flawless for d in found):
            self.fail(
                f"{where}: in each of the demonstrations 'better' is the same as 'answer' (line {line}); "
                "one at least must show what to mend"
            )
        return found

    def _demonstration(self, where: str, node: Node) -> Demonstration:
        line = _line(node)
        if not isinstance(node, yaml.MappingNode):
            self.fail(f"{where} (line {line}) is not a mapping; {CASE_NEEDS}")
        known = (*CASE_FIELDS, "by")
        self._fields(node, known, where, f"known: {', '.join(known)}")
        fields = _by_name(node)
        instruction, answer, critique, better = (
            self._needed(fields, name, where, line, CASE_NEEDS) for name in CASE_FIELDS
        )
        for name in CASE_FIELDS:
            label = next((label for label in LABELS if label in (_text(fields[name]) or "")), None)
            if label is not None:
                self.fail(
                    f"{where}: '{name}' holds '{label}' (line {_line(fields[name])}), with which a part of the prompt "
                    "begins; word it otherwise"
                )
        by = "person"
        if "by" in fields:
            author = "'by' says who wrote it: person, model or a name; or leave it out"
            by = self._needed(fields, "by", where, line, author)
        return Demonstration(instruction, answer, critique, better, by)

    def _rule(self, node: Node, where: str) -> Rule:
        try:
            rule = load_yaml(yaml.serialize(node))
            try:
                rule = entered_rule(rule, self.path.parent)
            except UsageError as error:
                self.fail(f"{where}: {error} (line {_line(node)})")
            fault = rule_fault(rule)
            if fault is None:
                json.dumps(rule, allow_nan=False)  # a date in a check's arguments is none of JSON's values
        except yaml.YAMLError as error:
            self.fail(f"{where}: not a value (line {_line(node)}): {yaml_problem(error)}")
        except (ValueError, TypeError) as error:
            self.fail(f"{where}: not a value (line {_line(node)}): {error}")
        if fault is not None:
            self.fail(f"{where}: {fault} (line {_line(node)})")
        assert isinstance(rule, dict)
        return rule

    def _kinds(self, node: Node, where: str) -> tuple[PromptKind, ...]:
        expected = f"'applies_to' is a list of {', '.join(KINDS)}; leave it out for all"
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.fail(f"{where}: no list of kinds (line {_line(node)}); {expected}")
        found: list[PromptKind] = []
        for entry in node.value:
            text = _text(entry) or "nothing"
            kind = next((kind for kind in KINDS if kind == text), None)
            if kind is None:
                self.fail(f"{where}: unknown kind '{text}' (line {_line(entry)}); {expected}{_near(text, KINDS)}")
            if kind in found:
                self.fail(f"{where}: '{kind}' stands twice in 'applies_to' (line {_line(entry)}); leave one")
            found.append(kind)
        return tuple(found)

    def _matched(self, node: Node, where: str) -> Matched:
        expected = "'matched' needs applies and does_not: two lists of prompts, entry by entry a pair"
        if not isinstance(node, yaml.MappingNode):
            self.fail(f"{where}: 'matched' is not a mapping (line {_line(node)}); {expected}")
        self._fields(node, (*MATCHED_FIELDS, "question", "kinds"), f"{where}: matched", expected)
        fields = _by_name(node)
        lines: dict[str, int] = {}
        lists: list[tuple[str, ...]] = []
        for name in MATCHED_FIELDS:
            entries = fields.get(name)
            if not isinstance(entries, yaml.SequenceNode) or not entries.value:
                at = _line(entries if entries is not None else node)
                self.fail(f"{where}: matched has no '{name}' (line {at}); {expected}")
            lists.append(
                tuple(self._matched_prompt(entry, f"{where}: matched.{name}", lines) for entry in entries.value)
            )
        if len(lists[0]) != len(lists[1]):
            self.fail(
                f"{where}: 'matched' has {len(lists[0])} prompts in applies and {len(lists[1])} in does_not "
                f"(line {_line(node)}); entry i of one is the twin of entry i of the other, so they must be as many"
            )
        question = ""
        if "question" in fields:
            asked = "'question' is a sentence that yes or no answers; or leave it out"
            question = self._needed(fields, "question", f"{where}: matched", _line(fields["question"]), asked)
        kinds = self._matched_kinds(fields["kinds"], where) if "kinds" in fields else ()
        return Matched(lists[0], lists[1], question, kinds)

    def _matched_kinds(self, node: Node, where: str) -> tuple[tuple[str, str], ...]:
        kinds: list[tuple[str, str]] = []
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for entry in entries:
            words = [_text(word) for word in entry.value] if isinstance(entry, yaml.SequenceNode) else []
            if len(words) != 2 or words[0] is None or words[1] is None or words[0] == words[1]:
                self.fail(
                    f"{where}: matched.kinds has no two words that differ (line {_line(entry)}); each entry is the "
                    "word for prompts where it applies and the word for the others, such as [[bad, good]]"
                )
            kinds.append((words[0], words[1]))
        return tuple(kinds)

    def _matched_prompt(self, node: Node, where: str, lines: dict[str, int]) -> str:
        """One prompt; `lines` holds those before it, folded, with their line."""
        text, line = _text(node), _line(node)
        if text is None:
            self.fail(f"{where}: an entry that is no text (line {line}); each entry is a prompt")
        if (before := lines.get(text.casefold())) is not None:
            self.fail(
                f"{where}: '{text}' stands twice (lines {before} and {line}); a prompt stands in one list, and once"
            )
        lines[text.casefold()] = line
        return text


def _refuse_duplicates(path: Path, principles: Sequence[Principle], nodes: Sequence[Node]) -> None:
    seen: dict[str, int] = {}
    for principle, node in zip(principles, nodes, strict=True):
        line = _line(node)
        if principle.id in seen:
            raise UsageError(
                f"{path}: the id '{principle.id}' stands twice (lines {seen[principle.id]} and {line}); ids must differ"
            )
        seen[principle.id] = line
