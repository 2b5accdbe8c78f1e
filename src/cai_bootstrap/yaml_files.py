"""A user's YAML file, with errors that say what, where and what to do.

The one place where YAML of others is read. It holds what a text editor writes by intent: each key once, finite nesting,
whole text. What a tag, a date or a number cannot be is an error of the file, never of this program.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.errors import UsageError

LARGEST_YAML = 4 * 1024**2  # bytes: a constitution of a thousand demonstrations has half a MB
DEEPEST_YAML = 64  # levels; a constitution has 8
MOST_NODES = 200_000  # with every alias written out; a constitution of a thousand demonstrations has 10,000
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# What SafeLoader's constructors raise for a value that is not of its tag: `2026-13-45`, `!!int x`, 5,000 digits.
_NO_VALUE = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses keys that stand twice, aliases that explode or contain themselves, and deep nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        alias = self.check_event(yaml.AliasEvent)
        before = self._count
        self._depth += 1
        if self._depth > DEEPEST_YAML:
            raise yaml.composer.ComposerError(None, None, f"it is nested deeper than {DEEPEST_YAML} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and node not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias stands within what it stands for", mark)
        self._count += self._sizes[node] if alias and node is not None else 1
        if self._count > MOST_NODES:
            why = f"with its aliases written out it holds more than {MOST_NODES:,} values"
            raise yaml.composer.ComposerError(None, None, why, mark)
        if node is not None and not alias:
            self._sizes[node] = self._count - before
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if odd := _NO_TEXT.search(node.value):
            why = f"it holds U+{ord(odd.group()):04X}, which is no text"
            raise yaml.composer.ComposerError(None, None, why, node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.composer.ComposerError(None, None, "a key is no text", key.start_mark)
            if key.value in lines:
                why = f"the key '{key.value}' stands twice (lines {lines[key.value]} and {line}); leave one"
                raise yaml.composer.ComposerError(None, None, why, key.start_mark)
            lines[key.value] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except yaml.YAMLError:
            raise
        except _NO_VALUE as error:
            kind = node.tag.rsplit(":", 1)[-1]
            short = node.value[:40] if isinstance(node.value, str) else "this"
            why = f"'{short}' is no {kind}, which it looks like: {error}; put quotes around a text"
            raise yaml.constructor.ConstructorError(None, None, why, node.start_mark) from error


# As in YAML 1.2, `010` is no eight and `1:30` no ninety, but texts; where a number belongs, 010 is ten.
_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)\Z",
    "tag:yaml.org,2002:float": r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?"
    r"|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))\Z",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in _NUMBERS]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_form), list("-+.0123456789"))


def load_yaml(text: str) -> Any:
    """The value of a YAML text; None if it is empty. Raises yaml.YAMLError, and nothing else, for what is none."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def compose_yaml(text: str) -> yaml.Node | None:
    """The same as nodes, each with its line."""
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def read_yaml(path: Path, *, what: str, missing: str = "", parse: Callable[[str], Any] = load_yaml) -> Any:
    """The content of a file; None if it is empty. `what` is it to its reader; `missing`: what to do without it.

    `parse` gives the content (`compose_yaml`: nodes with their lines). Raises UsageError naming file, line and problem.
    """
    try:
        with path.open("rb") as source:
            data = source.read(LARGEST_YAML + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such {what}{missing}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise UsageError(f"{path}: the {what} cannot be read: {error}") from error
    if len(data) > LARGEST_YAML:
        raise UsageError(f"{path}: the {what} is larger than {LARGEST_YAML // 1024**2} MiB, the most that is read")
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: the {what} {_no_utf8(data, error)}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise UsageError(f"{path}: not valid YAML{where}: {yaml_problem(error)}") from error


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, in one line."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return " ".join(str(problem).split())


def _no_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16 text (its first two bytes say so); save it as UTF-8"
    line = data.count(b"\n", 0, error.start) + 1
    return f"is not UTF-8 text (line {line}, byte {error.start + 1} is 0x{data[error.start]:02x}); save it as UTF-8"
