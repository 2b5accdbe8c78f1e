"""The ledger of rentals: which pod, since when, at what price, until when, and what was planned and used per step.

One small JSON file in the user's state directory, never in a repository; it holds no secret. Only the standard library
is imported, because every command looks here before it ends.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_bootstrap.errors import UsageError

Rental = dict[str, Any]


def state_dir() -> Path:
    """Where ledger and pinned host keys live: $CAI_STATE_DIR, else the user's state directory. Creates nothing."""
    if folder := os.environ.get("CAI_STATE_DIR"):
        return Path(folder).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home).expanduser().absolute() / "cai-bootstrap"


def ledger_path() -> Path:
    """The ledger file: `{"rentals": [...]}`."""
    return state_dir() / "pods.json"


def rentals() -> list[Rental]:
    """All rentals, oldest first; empty if there is no ledger. Raises UsageError for a file that is not a ledger."""
    path = ledger_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(rental, dict) for rental in content["rentals"]):
            raise TypeError("a rental is no object")
        return list(content["rentals"])
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: not a ledger of rentals ({error}), and left as it is; move it away to begin a new one, and look "
            "at your provider's site for a pod that still runs"
        ) from error


@contextlib.contextmanager
def changing() -> Iterator[list[Rental]]:
    """The rentals, to be changed in place; written atomically when the block ends, one writer at a time."""
    path = ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = rentals()
        yield entries
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "w", encoding="utf-8") as target:
            json.dump({"rentals": entries}, target, indent=1)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)


def current(found: list[Rental], pod: str, address: str) -> Rental | None:
    """The open rental of a pod at an address (`user@host:port`), or None."""
    return next((r for r in reversed(found) if r["pod"] == pod and r["address"] == address and not r["ended"]), None)


def open_rental(
    pod: str, address: str, price: float, started: float | None = None, pod_id: str | None = None
) -> Rental:
    """The open rental of this pod, begun now if there is none. `started` (epoch) comes from the provider.

    Without it a rental begins at the first contact, and says so.
    """
    with changing() as entries:
        rental = current(entries, pod, address)
        if rental is None:
            rental = {"pod": pod, "address": address, "started": started or time.time(), "ended": None, "total": None}
            entries.append(rental)
        if started is not None:
            rental["started"] = started
        rental["start_known_from"] = (
            "provider" if started is not None else rental.get("start_known_from", "first contact")
        )
        rental["price"] = price
        rental["pod_id"] = pod_id
        return dict(rental)


def update(pod: str, address: str, **values: Any) -> None:
    """Set fields of the open rental (`estimate`, `steps`, `preset`, …); nothing if there is none."""
    with changing() as entries:
        rental = current(entries, pod, address)
        if rental is not None:
            rental.update(values)


def close(pod: str, address: str, how: str, pod_id: str | None = None) -> float | None:
    """End the open rentals of a pod (at this address, or known by this id at an earlier one), saying who confirmed it.

    Returns their total in dollars, None if there was none.
    """
    with changing() as entries:
        ended = [
            rental
            for rental in entries
            if rental["pod"] == pod
            and not rental["ended"]
            and (rental["address"] == address or (pod_id is not None and rental.get("pod_id") == pod_id))
        ]
        for rental in ended:
            rental["ended"] = time.time()
            rental["total"] = dollars(rental)
            rental["ended_how"] = how
        return sum(rental["total"] for rental in ended) if ended else None


def dollars(rental: Rental, now: float | None = None) -> float:
    """What a rental has cost so far, or in all if it has ended. Raises UsageError where price or start is no number."""
    until = rental["ended"] or now or time.time()
    try:
        return float(max(0.0, until - rental["started"]) / 3600 * rental["price"])
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{ledger_path()}: the rental of pod '{rental['pod']}' ({rental['address']}) has no price or no start; "
            "write it there ('price' in $/h, 'started' in seconds since 1970)"
        ) from error
