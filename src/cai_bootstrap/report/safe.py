"""Model output is hostile text: what cannot be seen is made visible, what is too long is cut, nothing becomes markup.

Escaping itself is done by the template engine, and by `textContent` in the browser; data reach the page as JSON in a
script element of a type that browsers do not run.
"""

import base64
import hashlib
import json
import math
import unicodedata
from typing import Any

# Cc: C0 and C1 controls; Cf: bidi, zero-width and tag characters; Cs: lone surrogates; Co: private use; Zl, Zp: odd
# line ends.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_KEPT = frozenset("\n\t")


def visible(text: str) -> str:
    """The text with every control, bidi, zero-width or private-use character written as a visible one.

    C0 controls become their control pictures (ESC is ␛), all others their code point (⟨U+202E⟩). Line feeds and tabs
    stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in _KEPT or c.isprintable() or unicodedata.category(c) not in _HIDDEN else _picture(c) for c in text
    )


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def clip(text: str, limit: int) -> str:
    """At most `limit` characters of a text, made visible, saying how many were left out."""
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])} … [{len(text) - limit:,} more characters]"


def shown(value: Any) -> Any:
    """A JSON value with every string in it made visible, keys too; NaN and infinity become their names."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def script_json(value: Any) -> str:
    """A JSON value as text for a script element: no character in it can end the element or begin a comment."""
    text = json.dumps(shown(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def csp(*, scripts: list[str], styles: list[str], live: bool) -> str:
    """The page's content security policy: only these scripts and styles, and no network but a live page's own."""
    policy = [
        "default-src 'none'",
        f"script-src {' '.join(map(_hash, scripts))}",
        f"style-src {' '.join(map(_hash, styles))}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*policy, "connect-src 'self'"] if live else policy)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
