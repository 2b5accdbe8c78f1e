"""The pod's `host`, and what people paste there instead: the right form is named, never guessed at in silence."""

import ipaddress
import re
from itertools import pairwise

LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
NAME = re.compile(rf"{LABEL}(\.{LABEL})*\.?")
EXAMPLE = "host: 203.0.113.10 and port: 22022 in lines of their own"


def check_host(value: object) -> str:
    """A host name or address, and nothing else. Raises ValueError with the form that pod.yaml takes."""
    if not isinstance(value, str):
        raise ValueError(f"must be a host name or address as text; write {EXAMPLE}")
    if _is_address(value) or (NAME.fullmatch(value) and len(value) <= 253 and not _only_numbers(value)):
        return value
    raise ValueError(f"must be a host name or address alone; {_right_form(value)}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _only_numbers(text: str) -> bool:
    """Such as 203.0.113 or 999.1.1.1, which is no address, and which some resolvers take for another."""
    return all(part.isdigit() for part in text.rstrip(".").split("."))


def _right_form(value: str) -> str:
    """What was most likely meant, field by field; the value itself is not repeated, since a password may be in it."""
    words = value.strip().split()
    port = next((after for word, after in pairwise(words) if word == "-p"), None)
    login = next((after for word, after in pairwise(words) if word == "-l"), None)
    place = next((word for word in words if "@" in word), None) or next(
        (word for word in words if word not in ("ssh", "-p", "-l", port, login) and not word.startswith("-")), ""
    )
    place = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", place).split("/")[0]
    user, at, host = place.rpartition("@")
    user = user.partition(":")[0] if at else (login or "")
    if bracketed := re.fullmatch(r"\[([^\]]*)\](?::(\d*))?", host):
        host, port = bracketed[1], bracketed[2] or port
    elif not _is_address(host) and re.fullmatch(r"[^:]+:\d*", host):
        host, _, after = host.partition(":")
        port = after or port
    if not (_is_address(host) or (NAME.fullmatch(host) and not _only_numbers(host))):
        return f"write {EXAMPLE}"
    fields = [f"host: {host}"]
    if port and port.isdigit() and 1 <= int(port[:6]) <= 65535:
        fields.append(f"port: {int(port)}")
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", user):
        fields.append(f"user: {user}")
    return f"write {', '.join(fields)} (each in a line of its own)"
