"""RunPod's REST API v2: read a pod, stop it, and believe it stopped only when the provider says it no longer costs.

Used by the command line and by the watchdog on the pod, so: standard library only. The key travels in the Authorization
header and appears in no message.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

API_URL = "https://api.runpod.io/v2"
STOPPED = ("EXITED", "TERMINATED")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_ANSWER_BYTES = 4 << 20


class ApiError(Exception):
    """The provider did not give a usable answer. `status` is the HTTP status, 0 if there was none."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether trying again may help."""
        return self.status in (0, 408, 409, 425, 429) or self.status >= 500


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class RunPod:
    """One pod at RunPod. Raises ApiError for every answer but the expected one, ValueError for an unsafe URL."""

    def __init__(self, pod_id: str, key: str, api_url: str = API_URL, timeout: float = 10.0) -> None:
        parts = urllib.parse.urlsplit(api_url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ValueError(f"{api_url}: the provider's address must begin with https://")
        self.pod_id = pod_id
        self.api_url = api_url.rstrip("/")
        self.timeout = timeout
        self._key = key
        self._opener = urllib.request.build_opener(_NoRedirects)

    def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> str:
        headers = {"Authorization": "Bearer " + self._key, "Accept": "application/json", "User-Agent": "cai-bootstrap"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.api_url + path, data=data, headers=headers, method=method)
        what = f"RunPod: {method} {path}"
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return str(answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            error.close()
            raise ApiError(f"{what}: {_meaning(error.code)}", error.code, _retry_after(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ApiError(f"{what}: no answer ({reason})") from None
        except Exception as error:
            raise ApiError(f"{what}: not an HTTP answer ({type(error).__name__})") from None

    def _path(self, rest: str = "") -> str:
        return "/pods/" + urllib.parse.quote(self.pod_id, safe="") + rest

    def read(self) -> dict[str, Any]:
        """The pod: `status` (text), `cost` ($ per hour, 0 when stopped), `startedAt` (text or None)."""
        text = self._call("GET", self._path())
        try:
            pod = json.loads(text)
        except ValueError:
            raise ApiError(f"RunPod: GET {self._path()}: the answer is not JSON") from None
        if isinstance(pod, dict) and isinstance(pod.get("pod"), dict):
            pod = pod["pod"]
        cost = pod.get("cost") if isinstance(pod, dict) else None
        if (
            not isinstance(pod, dict)
            or not isinstance(pod.get("status"), str)
            or isinstance(cost, bool)
            or not isinstance(cost, (int, float))
            or not 0 <= cost < 10000
        ):
            raise ApiError(f"RunPod: GET {self._path()}: the answer is not a pod with a status and a cost")
        return pod

    def fingerprints(self) -> list[str]:
        """The SSH host-key fingerprints (`SHA256:…`) that the container's log shows."""
        return re.findall(r"SHA256:[A-Za-z0-9+/]{43}", self._call("GET", self._path("/logs")))

    def ask_to_stop(self) -> None:
        """Ask once. Whether it worked is told by `read` alone."""
        self._call("POST", self._path("/action"), {"action": "stop"})

    def stop(
        self,
        say: Callable[[str], None],
        limit_seconds: float = 180.0,
        pause_seconds: float = 2.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> dict[str, Any]:
        """Stop the pod and return it once the provider says that it no longer costs.

        409 means "re-read"; 429, 5xx and silence are tried again; anything else is final. Raises ApiError, also when
        the pod still costs after `limit_seconds`.
        """
        until = time.monotonic() + limit_seconds
        asked = False
        problem: ApiError | None = None
        pause = pause_seconds
        while True:
            try:
                pod = self.read()
                if no_longer_costs(pod):
                    return pod
                if not asked:
                    try:
                        self.ask_to_stop()
                        asked = True
                        say(f"asked RunPod to stop pod {self.pod_id}")
                    except ApiError as error:
                        if error.status != 409:
                            raise
                        say(str(error))
                    pause = pause_seconds
                    problem = None
            except ApiError as error:
                if not error.passing:
                    raise
                say(str(error))
                problem = error
                pause = min(max(pause * 2, error.retry_after or 0), 60)
            if time.monotonic() + pause > until:
                raise problem or ApiError(
                    f"RunPod was asked to stop pod {self.pod_id} and {limit_seconds:.0f} s later it still costs"
                )
            sleep(pause)


def no_longer_costs(pod: dict[str, Any]) -> bool:
    """Whether an answer of `read` says that the meter stands still: the pod has ended and its hourly cost is 0."""
    return pod["status"].upper() in STOPPED and pod["cost"] == 0


def _meaning(status: int) -> str:
    known = {
        401: "401, the key is not accepted; make a new one at https://www.runpod.io/console/user/settings",
        403: "403, the key may not do this; it needs write access to pods",
        404: "404, no such pod for this key; check pod_id",
        409: "409, the pod is changing state",
        429: "429, too many requests",
    }
    return known.get(status, f"{status}, the provider has a problem" if status >= 500 else str(status))


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    try:
        return min(60.0, max(0.0, float(error.headers.get("Retry-After", ""))))
    except (TypeError, ValueError):
        return None
