"""RunPod's REST API v2: stop a pod, then read it; it is believed only when the provider says that it no longer costs.

Used by the command line and by the watchdog on the pod, so: standard library only. The key travels in the Authorization
header and appears in no message.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypedDict, cast

API_URL = "https://api.runpod.io/v2"
STOPPED = ("EXITED", "TERMINATED")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_ANSWER_BYTES = 4 << 20
RUNNING = "RUNNING"
LONGEST_PAUSE = 60.0
READS_BEFORE_REPEATING = 5  # of a pod that runs on after it was asked to stop
LASTING_READS = 3  # refused for good, one after the other


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


class Pod(TypedDict):
    """What the provider says of a pod: `cost` in $ per hour, 0 when stopped; `startedAt` whatever it sent."""

    status: str
    cost: float
    startedAt: object


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
        """One request, in bounded time: a socket's own limit starts anew with each byte that comes."""
        answers: list[str] = []
        errors: list[ApiError] = []

        def ask() -> None:
            try:
                answers.append(self._ask(method, path, body))
            except ApiError as error:
                errors.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(self.timeout * 2)
        if errors:
            raise errors[0]
        if not answers:
            raise ApiError(f"RunPod: {method} {path}: no answer ({self.timeout * 2:.0f} s)")
        return answers[0]

    def _ask(self, method: str, path: str, body: dict[str, str] | None) -> str:
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

    def read(self) -> Pod:
        """The pod: `status` (text), `cost` ($ per hour, 0 when stopped), `startedAt` (text or None)."""
        text = self._call("GET", self._path())
        try:
            pod: Any = json.loads(text)
        except (ValueError, RecursionError):
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
        return cast(Pod, pod)

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
    ) -> Pod:
        """Ask for the stop at once, then read; returns the pod once the provider says that it no longer costs.

        Reads only decide whether to believe it: whatever they answer, the request has been sent, and is sent again
        (it may be repeated) while it was not accepted, while nothing readable comes back, or while the pod still runs.
        Raises ApiError when the request is refused for good, when reading is, or when the pod still costs after
        `limit_seconds`.
        """
        until = time.monotonic() + limit_seconds
        stopping = _Stopping(self, say)
        pause = pause_seconds
        while True:
            if stopping.is_to_be_sent:
                stopping.ask()
            pod = stopping.read()
            if pod is not None and no_longer_costs(pod):
                return pod
            stopping.raise_for_good()
            # Only trouble makes us slower: a pod that is just stopping is looked at again soon.
            trouble = stopping.trouble
            pause = min(max(pause * 2, trouble.retry_after or 0), LONGEST_PAUSE) if trouble else pause_seconds
            if time.monotonic() + pause > until:
                raise stopping.given_up(limit_seconds)
            sleep(pause)


class _Stopping:
    """How far the stopping of one pod has come: was the request accepted, and what did the last read say."""

    def __init__(self, api: RunPod, say: Callable[[str], None]) -> None:
        self.api, self.say = api, say
        self.accepted = False
        self.refusal: ApiError | None = None  # of the last request
        self.unreadable: ApiError | None = None  # the last read
        self.lasting_reads = 0
        self.reads_while_running = 0

    @property
    def is_to_be_sent(self) -> bool:
        return not self.accepted or self.unreadable is not None or self.reads_while_running >= READS_BEFORE_REPEATING

    @property
    def trouble(self) -> ApiError | None:
        return self.refusal or self.unreadable

    def ask(self) -> None:
        self.reads_while_running = 0
        try:
            self.api.ask_to_stop()
        except ApiError as error:
            self.refusal = error
            self.say(f"the request to stop pod {self.api.pod_id} was not accepted: {error}")
            return
        self.refusal = None
        self.say(f"asked RunPod {'again ' if self.accepted else ''}to stop pod {self.api.pod_id}")
        self.accepted = True

    def read(self) -> Pod | None:
        try:
            pod = self.api.read()
        except ApiError as error:
            self.unreadable = error
            self.lasting_reads = 0 if error.passing else self.lasting_reads + 1
            self.say(f"whether pod {self.api.pod_id} still costs cannot be read: {error}")
            return None
        self.unreadable, self.lasting_reads = None, 0
        running = pod["status"].upper() == RUNNING
        self.reads_while_running = self.reads_while_running + 1 if running else 0
        return pod

    def raise_for_good(self) -> None:
        """Raise if trying again cannot help: the stop is refused, or reading is, several times."""
        if self.refusal is not None and not self.refusal.passing and not self.accepted:
            raise ApiError(f"pod {self.api.pod_id} was NOT stopped: {self.refusal}", self.refusal.status)
        redirected = self.unreadable is not None and 300 <= self.unreadable.status < 400
        if self.unreadable is not None and (redirected or self.lasting_reads >= LASTING_READS):
            raise ApiError(f"{self._account()}: {self.unreadable}", self.unreadable.status)

    def given_up(self, seconds: float) -> ApiError:
        if self.trouble is not None:
            return ApiError(f"{self._account()}: {self.trouble}", self.trouble.status)
        return ApiError(f"RunPod was asked to stop pod {self.api.pod_id} and {seconds:.0f} s later it still costs")

    def _account(self) -> str:
        if not self.accepted:
            return f"pod {self.api.pod_id} was NOT stopped"
        return f"RunPod was asked to stop pod {self.api.pod_id}, and nothing believable says that it did"


def no_longer_costs(pod: Pod) -> bool:
    """Whether an answer of `read` says that the meter stands still: the pod has ended and its hourly cost is 0."""
    return pod["status"].upper() in STOPPED and pod["cost"] == 0


def _meaning(status: int) -> str:
    meanings = {
        401: "401, the key is not accepted; make a new one at https://www.runpod.io/console/user/settings",
        403: "403, the key may not do this; it needs write access to pods",
        404: "404, no such pod for this key; check pod_id",
        409: "409, the pod is changing state",
        429: "429, too many requests",
    }
    return meanings.get(status, f"{status}, the provider has a problem" if status >= 500 else str(status))


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    try:
        return min(60.0, max(0.0, float(error.headers.get("Retry-After", ""))))
    except (TypeError, ValueError):
        return None
