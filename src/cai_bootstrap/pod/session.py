"""Coming to the pod: pin its host key, see that it lets us in, and write the rental down, since from then on it
costs.
"""

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cai_bootstrap.pod import host_keys, ledger
from cai_bootstrap.pod.errors import HostKeyError, PodConfigError, PodError, ProviderError
from cai_bootstrap.pod.onpod.runpod import ApiError, Pod, RunPod
from cai_bootstrap.pod.settings import PodSettings, require_price
from cai_bootstrap.pod.ssh import Remote

CONNECT_LIMIT_SECONDS = 8.0


def provider(settings: PodSettings) -> RunPod | None:
    """The provider's API for this pod; None without a pod_id or a key in the environment."""
    key = settings.provider.api_key
    if settings.provider.pod_id is None or key is None:
        return None
    try:
        return RunPod(settings.provider.pod_id, key, settings.provider.api_url)
    except ValueError as error:
        raise PodConfigError(f"pod.yaml: provider.api_url: {error}") from None


def read_provider(settings: PodSettings) -> Pod | None:
    """What the provider says of the pod now, None if it cannot be asked. Raises ProviderError if it gives no answer."""
    api = provider(settings)
    if api is None:
        return None
    try:
        return api.read()
    except ApiError as error:
        raise ProviderError(str(error)) from None


def printed_fingerprints(settings: PodSettings) -> Callable[[], list[str]] | None:
    """Asks the provider for the fingerprints in the pod's log; None if it cannot be asked."""
    api = provider(settings)
    if api is None:
        return None

    def ask() -> list[str]:
        try:
            return api.fingerprints()
        except ApiError as error:
            raise ProviderError(str(error)) from None

    return ask


def connect(settings: PodSettings, confirm: host_keys.Confirm, say: Callable[[str], None]) -> Remote:
    """A pod that has let us in. Its rental is open in the ledger afterwards.

    Raises UnreachableError, AccessError or HostKeyError, each within about five seconds.
    """
    if not (shutil.which("ssh") and shutil.which("ssh-keyscan")):
        raise PodError("ssh and ssh-keyscan are not installed here; install OpenSSH's client")
    host_keys.ensure_pinned(settings, confirm, printed_fingerprints(settings))
    remote = Remote(settings)
    try:
        remote.open(CONNECT_LIMIT_SECONDS)
    except HostKeyError:
        raise HostKeyError(host_keys.changed_key_message(settings)) from None
    price, started = settings.hourly_price, None
    try:
        if seen := read_provider(settings):
            price = float(seen["cost"]) or price
            started = epoch(seen.get("startedAt"))
    except ProviderError as error:
        say(f"the provider could not be asked for price and start: {error}")
    ledger.open_rental(settings.name, settings.address, price, started, settings.provider.pod_id)
    return remote


def require_budget_with_price(settings: PodSettings) -> None:
    """Raise PodConfigError for a budget without a price, as far as that shows before the provider is asked for one."""
    open_rental = rental(settings) or {}
    if provider(settings) is None or settings.hourly_price:
        require_price(settings, settings.budget, settings.hourly_price or open_rental.get("price"))


def rental(settings: PodSettings) -> ledger.Rental | None:
    """This pod's open rental."""
    return ledger.current(ledger.rentals(), settings.name, settings.address)


def epoch(stamp: Any) -> float | None:
    """An ISO-8601 time as epoch seconds; None for anything else or a time to come."""
    if not isinstance(stamp, str):
        return None
    try:
        seconds = datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds <= time.time() + 60 else None
