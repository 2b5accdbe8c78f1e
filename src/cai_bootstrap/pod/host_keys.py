"""Host keys: pinned at the first contact, compared with what the provider prints or confirmed by a person, then
binding.
"""

import base64
import fcntl
import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from cai_bootstrap.files import write_atomic
from cai_bootstrap.pod.errors import HostKeyError, ProviderError, UnreachableError
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.ssh import CONNECT_SECONDS, GONE, REFUSED, known_hosts_path

KEY_TYPES = "ed25519,ecdsa,rsa"
KEY_LINE = re.compile(r"[a-z0-9-]{1,64} (?:[A-Za-z0-9+/]{4}){8,4096}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
Confirm = Callable[[str], bool]


def host_label(settings: PodSettings) -> str:
    """The pod's name in known_hosts."""
    return settings.host if settings.port == 22 else f"[{settings.host}]:{settings.port}"


def fingerprint(line: str) -> str:
    """`SHA256:…` of a known_hosts line."""
    blob = base64.b64decode(line.split()[2])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def pinned(settings: PodSettings) -> list[str]:
    """The pinned known_hosts lines of this pod."""
    try:
        lines = known_hosts_path().read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.split()[:1] == [host_label(settings)]]


def forget(settings: PodSettings) -> None:
    """Remove this pod's pins."""
    _rewrite(settings, [])


def ensure_pinned(settings: PodSettings, confirm: Confirm, printed: Callable[[], Sequence[str]] | None = None) -> None:
    """Pin the pod's host keys unless they are.

    They are accepted if one is `host_key` of pod.yaml, or is among `printed()` (the provider's fingerprints), or else
    if `confirm`, asked once with the fingerprints, says so. Raises HostKeyError otherwise, UnreachableError if nothing
    answers.
    """
    if pinned(settings):
        return
    offered = offered_keys(settings)
    by_print = {fingerprint(line): line for line in offered}
    if settings.host_key is not None:
        if settings.host_key not in by_print:
            raise HostKeyError(
                f"{settings.address}: offers {', '.join(by_print)}, not the host_key of pod.yaml; nothing was sent"
            )
        _rewrite(settings, [by_print[settings.host_key]])
        return
    known: Sequence[str] = ()
    if printed is not None:
        try:
            known = printed()
        except ProviderError:
            known = ()
    if known:
        matching = [line for name, line in by_print.items() if name in known]
        if not matching:
            raise HostKeyError(
                f"{settings.address}: offers {', '.join(by_print)}, but the provider's log of this pod shows "
                f"{', '.join(known)}; nothing was sent. Check host, port and pod_id in pod.yaml; if the log is "
                "not of this start, compare by hand and set host_key"
            )
        _rewrite(settings, matching)
        return
    question = (
        f"{settings.address} is new here. Its host keys:\n"
        + "\n".join(f"  {name} ({line.split()[1]})" for name, line in by_print.items())
        + "\nCompare with what the pod's log shows. Pin them?"
    )
    if not confirm(question):
        raise HostKeyError(
            f"{settings.address}: its host key was not confirmed, nothing was sent. Compare "
            f"{', '.join(by_print)} with the pod's log, then confirm, or set host_key in pod.yaml"
        )
    _rewrite(settings, offered)


def offered_keys(settings: PodSettings) -> list[str]:
    """The host keys that the pod offers now, as known_hosts lines. Raises UnreachableError within five seconds."""
    if problem := _reach(settings):
        raise UnreachableError(f"{settings.address}: {problem}")
    command = ["ssh-keyscan", "-T", str(CONNECT_SECONDS), "-p", str(settings.port), "-t", KEY_TYPES, settings.host]
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=CONNECT_SECONDS * 2,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{settings.address}: offers no ssh host key in time") from error
    keys = []
    for line in process.stdout.splitlines():
        words = line.split()
        if len(words) >= 3 and KEY_LINE.fullmatch(" ".join(words[1:3])):
            keys.append(" ".join([host_label(settings), *words[1:3]]))
    if not keys:
        raise UnreachableError(f"{settings.address}: something listens there, but it offers no ssh host key")
    return keys


def _reach(settings: PodSettings) -> str | None:
    """What is wrong with the way to the pod, in words; None if an ssh server greets."""
    try:
        with socket.create_connection((settings.host, settings.port), timeout=CONNECT_SECONDS) as line:
            line.settimeout(CONNECT_SECONDS)
            greeting = line.recv(64)
    except socket.gaierror:
        return "no such host name"
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return f"no answer within {CONNECT_SECONDS} s; is the pod running, and are host and port right?"
    except OSError as error:
        return error.strerror or str(error)
    return None if greeting.startswith(b"SSH-") else "what listens there is no ssh server; is the port that of ssh?"


def changed_key_message(settings: PodSettings) -> str:
    """What to say when ssh refused the host key: both fingerprints."""
    ours = ", ".join(fingerprint(line) for line in pinned(settings)) or "none"
    try:
        theirs = ", ".join(fingerprint(line) for line in offered_keys(settings))
    except UnreachableError:
        theirs = "unknown"
    return (
        f"{settings.address}: THE HOST KEY HAS CHANGED. Pinned: {ours}. Offered now: {theirs}. "
        f"Nothing was sent. {GONE.capitalize()}"
    )


def _rewrite(settings: PodSettings, lines: Sequence[str]) -> None:
    path = known_hosts_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path.with_name("known_hosts.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        label = host_label(settings)
        others = [line for line in _all_lines(path) if line.split()[:1] != [label]]
        write_atomic(path, "".join(f"{line}\n" for line in [*others, *lines]))
        os.chmod(path, 0o600)


def _all_lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []
