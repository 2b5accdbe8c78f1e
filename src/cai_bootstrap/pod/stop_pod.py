"""Stop the pod, and believe it only when the provider says that it no longer costs."""

from collections.abc import Callable

from cai_bootstrap.pod import ledger
from cai_bootstrap.pod.errors import NotStoppedError, ProviderError
from cai_bootstrap.pod.onpod.runpod import ApiError
from cai_bootstrap.pod.session import provider
from cai_bootstrap.pod.settings import PodSettings

CONSOLE_PAGE = "https://console.runpod.io/pods"


def stop_pod(settings: PodSettings, say: Callable[[str], None]) -> None:
    """Stop the pod through the provider and close its rental.

    Raises ProviderError if the provider gives no usable answer, NotStoppedError (with the command or page to use) if it
    cannot be asked. The rental stays open in both cases.
    """
    api = provider(settings)
    if api is None:
        raise NotStoppedError(f"the pod was NOT stopped: {way_out(settings)}")
    try:
        pod = api.stop(say, settings.stop.limit_seconds, min(2.0, settings.stop.check_seconds * 2))
    except ApiError as error:
        raise ProviderError(f"the pod may STILL COST MONEY: {error}. Or {way_out(settings, keyless=False)}") from None
    how = f"provider says {pod['status']}, 0 $/h"
    say(f"the pod is stopped: the {how}")
    total = ledger.close(settings.name, settings.address, how, settings.provider.pod_id)
    if total is not None:
        say(f"{total:.2f} $ in all")


def already_stopped(settings: PodSettings, address: str, say: Callable[[str], None]) -> None:
    """Close the rental at an address on the user's word, unless the provider can be asked and says otherwise."""
    if provider(settings) is not None and address == settings.address:
        stop_pod(settings, say)
        return
    total = ledger.close(settings.name, address, "the user says so")
    outcome = f"rental closed on your word, {total:.2f} $ in all" if total is not None else "no such rental was open"
    say(f"{settings.name} at {address}: {outcome}")


def way_out(settings: PodSettings, *, keyless: bool = True) -> str:
    """The exact command or page that stops this pod by hand."""
    pod_id = settings.provider.pod_id
    steps = []
    if pod_id:
        steps.append(f"run `runpodctl stop pod {pod_id}`")
    steps.append(f"open {CONSOLE_PAGE}{'?id=' + pod_id if pod_id else ''} and press Stop")
    text = " or ".join(steps) + ", then `cai pod stop --already-stopped`"
    if keyless:
        need = "" if pod_id else "provider.pod_id in pod.yaml and "
        text += f" (to have it done from here: set {need}the variable {settings.provider.api_key_env})"
    return text
