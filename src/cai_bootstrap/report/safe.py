"""Model output is hostile text: what cannot be seen is made visible, what is too long is cut, nothing becomes markup.

Escaping itself is done by the template engine, and by `textContent` in the browser; data reach the page as JSON in a
script element of a type that browsers do not run.
"""

import base64
import hashlib
import json
import math
from typing import Any

from cai_bootstrap.printable import clip, visible

__all__ = ["clip", "csp", "script_json", "shown", "visible"]


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
