"""Damage to a text file, drawn by a seed: odd values in the place of its own, or bytes cut, doubled and flipped."""

import copy
import datetime
import json
import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

DEEP: Any = []
for _ in range(90):
    DEEP = [DEEP]
ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 10**9, 10**40, 10**400, -(10**400), 1e308, 1e-320, math.inf, -math.inf, math.nan,
    0.5, "", " ", "0",
    "1e400", "010", "\n", "a\nb", "a\u2028b\u0085c", "\x1b[31m[/b]", "\u202e", "\ud800", "a\0b", "é" * 3000,
    "../../etc/passwd", "/", "~", "all",
    [], {}, [[]], [None], {"": None}, {"check": "words"}, {"check": ["words"]}, DEEP, datetime.date(2026, 1, 2),
    "2026-13-45", ["a", 1, {}],
)  # fmt: skip
NAMES = (
    "",
    "id",
    "version",
    "name",
    "text",
    "check",
    "all",
    "not",
    "event",
    "training",
    "beta",
    "\x1b[1m",
    "a.b",
    "é",
    "<<",
)
SNIPPETS = (
    b"\xff", b"\xe9", b"\0", b"\xef\xbb\xbf", "\u2028".encode(), "\u0085".encode(), b"\r\n", b"\r", b"\n\n", b"\t",
    b"  ", b"---\n", b"...\n",
    b"&a ", b"*a", b"<<: *a\n", b"? [a]\n", b"!!python/name:os.system ", b"!!timestamp ", b"!!int ", b"!!binary ",
    b"[" * 2000, b"{a: " * 300,
    b"- " * 500, b"NaN", b"-Infinity", b"1" * 5000, b"1:30", b"2026-13-45", b'"', b"'", b"{", b"}", b"[", b"]", b",",
    b":", b"#", b"\\ud800",
    b"\xff\xfe", b"|", b">", b"%YAML 9.9\n",
)  # fmt: skip
RAW = (
    b"2026-13-45", b"2026-01-02", b".inf", b"-.nan", b"1e400", b"!!int x", b"!!float []", b"!!bool x",
    b"!!timestamp x", b"!!binary =",
    b"9" * 5000, b"[" * 3000, b"{a: " * 400, b"&a [*a]", b"*a", b'"\\ud800"', b'"\\0"', b"NaN", b"-Infinity",
    b"1" + b"0" * 400, b"1:30", b"yes",
    b"? [a]", b"!!set {a}", b"!!omap [a: 1]", b"!!python/tuple [1]", b"'" + b"x" * 70_000 + b"'",
)  # fmt: skip
Dump = Callable[[Any], bytes]


def as_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def as_json(value: Any) -> bytes:
    return json.dumps(value, default=str, skipkeys=True).encode()


def as_jsonl(rows: Any) -> bytes:
    rows = rows if isinstance(rows, list) else [rows]
    return b"".join(as_json(row) + b"\n" for row in rows)


def damaged(value: Any, dump: Dump, draw: Random) -> bytes:
    """The value as a file, with one to four damages to its structure, its bytes, or both."""
    if draw.random() < 0.75:
        value = copy.deepcopy(value)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            value = _altered(value, draw)
        data = dump(value)
        if draw.random() < 0.8:
            return data
    else:
        data = dump(value)
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = _cut_up(data, draw)
    return data


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each container with each of its keys or indices."""
    places: list[tuple[Any, Any]] = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        places.append((value, key))
        places += _places(inner) if inner is not DEEP else []
    return places


def _altered(value: Any, draw: Random) -> Any:
    places = _places(value)
    if not places or draw.random() < 0.01:
        return copy.deepcopy(draw.choice(ODD))
    container, key = draw.choice(places)
    kind = draw.choice(("odd", "odd", "odd", "odd", "gone", "renamed", "wrapped", "moved", "doubled", "text"))
    if kind == "odd":
        container[key] = draw.choice(ODD)
    elif kind == "gone":
        del container[key]
    elif kind == "renamed" and isinstance(container, dict):
        container[draw.choice((*NAMES, f"{key}x", 3, None, datetime.date(2026, 1, 2)))] = container.pop(key)
    elif kind == "wrapped":
        container[key] = draw.choice(([container[key]], {"a": container[key]}, str(container[key])))
    elif kind == "doubled" and isinstance(container, list):
        container.insert(key, container[key])  # the same object: YAML writes an alias
    elif kind == "text" and isinstance(container[key], str):
        at = draw.randint(0, len(container[key]))
        container[key] = (
            container[key][:at] + draw.choice([odd for odd in ODD if isinstance(odd, str)]) + container[key][at:]
        )
    else:
        other, where = draw.choice(places)
        container[key] = (
            copy.deepcopy(other[where]) if where in (other if isinstance(other, dict) else range(len(other))) else 7
        )
    return value


def _cut_up(data: bytes, draw: Random) -> bytes:
    at = draw.randint(0, len(data))
    kind = draw.choice(
        (
            "raw value",
            "raw value",
            "raw value",
            "raw value",
            "insert",
            "insert",
            "insert",
            "flip",
            "cut",
            "drop",
            "line gone",
            "line twice",
            "lines swapped",
        )
    )
    lines = data.splitlines(keepends=True)
    if kind == "raw value":
        starts = [place.end() for place in re.finditer(rb": |- ", data)]
        if starts:
            start = draw.choice(starts)
            end = next((n for n in range(start, len(data)) if data[n] in b"\n,}]"), len(data))
            return data[:start] + draw.choice(RAW) + data[end:]
    if kind == "insert":
        return data[:at] + draw.choice(SNIPPETS) + data[at:]
    if kind == "flip" and at < len(data):
        return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "drop":
        return data[:at] + data[at + draw.randint(1, 40) :]
    if not lines:
        return data
    first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
    if kind == "line gone":
        del lines[first]
    elif kind == "line twice":
        lines.insert(second, lines[first])
    else:
        lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)
