"""RunPod's answers, good and bad: stopped means that the provider says so, and a bad answer never means stopped."""

import json
import socket
import threading
from unittest import mock

import pytest

from cai_bootstrap.pod.onpod.runpod import ApiError, RunPod, no_longer_costs
from cai_bootstrap.pod.ssh import Remote

from .loopback import Pod, RunPodStandIn

NONSENSE = [b"<html>oops</html>", b"", b"[]", b"null", b"{}", b'{"status": "EXITED"}',
            b'{"status": "EXITED", "cost": "0"}',
            b'{"status": 3, "cost": 0}', b'{"status": "EXITED", "cost": NaN}', b'{"status": "EXITED", "cost": -1}',
            b'{"status": "EXITED", "cost": false}', b'{"status": "EXITED", "cost": 0', b"\xff\xfe"]  # fmt: skip


def api(runpod: RunPodStandIn, **more: float) -> RunPod:
    return RunPod("pod123", runpod.key, runpod.url, **more)


def quick(runpod: RunPodStandIn, said: list[str] | None = None, limit: float = 5.0) -> dict[str, object]:
    return api(runpod).stop((said if said is not None else []).append, limit, 0.02)


def posts(runpod: RunPodStandIn) -> int:
    return sum(method == "POST" for method, _ in runpod.seen)


def rental(pod: Pod) -> dict[str, object]:
    return dict(json.loads((pod.home / "state" / "pods.json").read_text())["rentals"][-1])


def test_stop_asks_once_and_waits_until_the_pod_costs_nothing(runpod: RunPodStandIn) -> None:
    runpod.stop_takes = 3
    assert quick(runpod)["cost"] == 0
    assert posts(runpod) == 1
    assert runpod.seen[0][0] == "POST"
    assert runpod.seen.count(("GET", "/v2/pods/pod123")) == 4


def test_stopping_a_stopped_pod_asks_once_and_believes_the_read(runpod: RunPodStandIn) -> None:
    runpod.pod.update(status="EXITED", cost=0)
    runpod.faults = [("POST", 409, b"{}", {})]
    assert quick(runpod)["status"] == "EXITED"
    assert runpod.seen == [("POST", "/v2/pods/pod123/action"), ("GET", "/v2/pods/pod123")]


@pytest.mark.parametrize(("status", "cost"), [("EXITED", 0.1), ("RUNNING", 0), ("", 0), ("STOPPING", 0)])
def test_only_ended_and_free_counts_as_stopped(status: str, cost: float) -> None:
    assert not no_longer_costs({"status": status, "cost": cost})
    assert no_longer_costs({"status": "TERMINATED", "cost": 0})


def test_409_is_read_again_and_asked_again(runpod: RunPodStandIn) -> None:
    runpod.faults = [("POST", 409, b"{}", {}), ("POST", 409, b"{}", {})]
    quick(runpod)
    assert posts(runpod) == 3


def test_409_because_it_stopped_already_is_success(runpod: RunPodStandIn) -> None:
    runpod.faults = [("POST", 409, b"{}", {})]
    runpod.faults.append(("GET", 200, b'{"status": "EXITED", "cost": 0}', {}))
    quick(runpod)
    assert posts(runpod) == 1


@pytest.mark.parametrize("fault", [429, 500, 502, 503])
def test_a_passing_fault_is_tried_again(runpod: RunPodStandIn, fault: int) -> None:
    said: list[str] = []
    runpod.faults = [("POST", fault, b"", {}), ("GET", fault, b"", {}), ("GET", fault, b"", {})]
    quick(runpod, said)
    assert sum(str(fault) in line for line in said) == 3


def test_429_waits_as_long_as_it_is_told(runpod: RunPodStandIn) -> None:
    waited: list[float] = []
    runpod.faults = [("GET", 429, b"", {"Retry-After": "7"})]
    api(runpod).stop(lambda _: None, 60, 0.01, sleep=waited.append)
    assert waited[0] == 7


@pytest.mark.parametrize(("fault", "said"), [(401, "key is not accepted"), (403, "write access"), (404, "no such pod")])
def test_a_lasting_fault_ends_it_at_once_and_names_the_reason(runpod: RunPodStandIn, fault: int, said: str) -> None:
    runpod.faults = [("POST", fault, b"{}", {})]
    with pytest.raises(ApiError, match=said):
        quick(runpod)
    assert len(runpod.seen) == 2  # the request, and one look whether the pod has stopped all the same


READS = [
    (500, b""), (403, b"{}"), (404, b"{}"), (401, b"{}"), (429, b""), (200, b"<html>"), (200, b"[]"), (200, b"{"),
    (200, b'{"status": "RUNNING"}'), (200, b'{"status": "RUNNING", "cost": "1.74"}'), (200, b"[" * 100_000),
    (200, b'{"status": "RUNNING", "cost": NaN}'), (200, b'{"status": "RUNNING", "cost": null}'),
    (200, b'{"status": "RUNNING", "cost": ' + b"9" * 400 + b"}"), (200, b'{"status": "EXITED", "cost": true}'),
    (200, b'{"status": "RUNNING", "cost": ' + b"9" * 5000 + b"}"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "body"), READS)
def test_the_stop_is_asked_for_whatever_the_read_answers(runpod: RunPodStandIn, code: int, body: bytes) -> None:
    runpod.faults = [("GET", code, body, {})] * 400
    with pytest.raises(ApiError, match="was asked to stop pod pod123"):
        quick(runpod, limit=0.3)
    assert runpod.seen[0][0] == "POST"
    assert runpod.pod["status"] == "STOPPING"


@pytest.mark.parametrize(("code", "body"), READS)
def test_a_read_that_comes_right_is_believed(runpod: RunPodStandIn, code: int, body: bytes) -> None:
    runpod.faults = [("GET", code, body, {})] * 2
    assert quick(runpod)["cost"] == 0


def test_a_pod_that_runs_on_although_the_request_was_accepted_is_asked_again(runpod: RunPodStandIn) -> None:
    runpod.faults = [("POST", 200, b"{}", {})]
    runpod.faults += [("GET", 200, b'{"status": "RUNNING", "cost": 1.74}', {})] * 7
    assert quick(runpod)["cost"] == 0
    assert posts(runpod) > 1


def test_a_provider_that_dribbles_does_not_hold_the_stop_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def dribble() -> None:
            line, _ = server.accept()
            with line:
                while not over.wait(0.02):
                    line.sendall(b"H")

        threading.Thread(target=dribble, daemon=True).start()
        api = RunPod("p", "k", f"http://127.0.0.1:{server.getsockname()[1]}/v2", timeout=0.1)
        with pytest.raises(ApiError, match="no answer"):
            api.ask_to_stop()
        over.set()


@pytest.mark.parametrize("body", NONSENSE)
def test_nonsense_never_means_stopped(runpod: RunPodStandIn, body: bytes) -> None:
    runpod.faults = [("GET", 200, body, {})] * 400
    with pytest.raises(ApiError, match="not"):
        quick(runpod, limit=0.3)


def test_a_pod_that_goes_on_costing_is_an_error(runpod: RunPodStandIn) -> None:
    runpod.stop_takes = 100_000
    with pytest.raises(ApiError, match="still costs"):
        quick(runpod, limit=0.5)


def test_a_redirect_does_not_carry_the_key_away(runpod: RunPodStandIn) -> None:
    other = RunPodStandIn()
    runpod.faults = [("GET", 302, b"", {"Location": other.url + "/pods/pod123"})]
    with pytest.raises(ApiError):
        quick(runpod, limit=0.3)
    other.close()
    assert other.seen == []


def test_the_key_goes_over_https_only() -> None:
    with pytest.raises(ValueError, match="https"):
        RunPod("pod123", "key", "http://api.example.org/v2")


def test_a_silent_or_garbled_provider_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v2"
        with pytest.raises(ApiError, match="no answer"):
            RunPod("p", "k", url, timeout=0.2).read()

        def babble() -> None:
            for _ in range(2):
                line, _ = silent.accept()
                with line:
                    line.sendall(b"this is no HTTP\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        with pytest.raises(ApiError):
            RunPod("p", "k", url, timeout=2).read()


def test_no_message_holds_the_key(runpod: RunPodStandIn) -> None:
    said: list[str] = []
    for fault in (401, 409, 429, 500):
        runpod.faults = [("POST", fault, runpod.key.encode(), {}), ("GET", fault, runpod.key.encode(), {})]
        try:
            quick(runpod, said, limit=0.5)
        except ApiError as error:
            said.append(str(error) + repr(error))
    assert said
    assert runpod.key not in "".join(said)


@pytest.mark.usefixtures("runpod")
def test_cai_pod_stop_closes_the_rental_when_the_provider_says_so(rented: Pod) -> None:
    rented.cai("status")
    done = rented.cai("stop")
    assert "EXITED, 0 $/h" in done.stderr
    assert "A RENTED POD" not in done.stderr
    assert rental(rented)["ended_how"] == "provider says EXITED, 0 $/h"


@pytest.mark.parametrize("fault", [(401, b"{}"), (500, b""), (200, b"nonsense")])
def test_cai_pod_stop_leaves_the_rental_open_and_reminds_when_the_provider_does_not_say_so(
    rented: Pod, runpod: RunPodStandIn, fault: tuple[int, bytes]
) -> None:
    rented.write(stop={"limit_seconds": 0.5})
    rented.cai("status")
    runpod.faults = [("GET", *fault, {})] * 400
    done = rented.cai("stop", code=1)
    assert "STILL COST MONEY" in done.stderr
    assert "A RENTED POD MAY STILL BE RUNNING" in done.stderr
    assert rental(rented)["ended"] is None


@pytest.mark.parametrize("body", [b'{"status": "RUNNING", "cost": "1.74"}', b"<html>"])
def test_cai_pod_stop_sends_the_request_although_no_read_is_believed(
    rented: Pod, runpod: RunPodStandIn, body: bytes
) -> None:
    rented.write(stop={"limit_seconds": 0.5})
    runpod.faults = [("GET", 200, body, {})] * 400
    done = rented.cai("stop", code=1)
    assert "STILL COST MONEY" in done.stderr
    assert "https://console.runpod.io/pods?id=pod123" in done.stderr
    assert runpod.pod["status"] == "STOPPING"


def test_whatever_the_pod_says_does_not_keep_it_from_being_stopped(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.cai("status")
    with mock.patch.object(Remote, "call", side_effect=RuntimeError("a fault of ours")):
        assert "stopping the pod nevertheless" in rented.cai("stop", "--yes").stderr
    assert runpod.pod["status"] == "EXITED"


def test_cai_pod_stop_without_a_key_names_command_and_page(pod: Pod) -> None:
    pod.write(provider={"pod_id": "pod123"})
    pod.cai("status")
    said = pod.cai("stop", code=1).stderr
    assert "runpodctl stop pod pod123" in said
    assert "https://" in said
    assert "NOT stopped" in said
    assert rental(pod)["ended"] is None
    pod.cai("stop", "--already-stopped")
    assert rental(pod)["ended_how"] == "the user says so"


def test_cai_pod_stop_needs_no_ssh_key(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.cai("check", code=None)
    rented.write(key=str(rented.home / "gone"))
    assert "stopping the pod nevertheless" in rented.cai("stop", "--yes").stderr
    assert runpod.pod["status"] == "EXITED"


def test_already_stopped_is_not_believed_while_the_provider_says_otherwise(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.cai("status")
    runpod.faults = [("POST", 500, b"", {})] * 400
    rented.write(stop={"limit_seconds": 0.5})
    assert "STILL COST MONEY" in rented.cai("stop", "--already-stopped", code=1).stderr
    assert rental(rented)["ended"] is None


@pytest.mark.usefixtures("rented")
def test_stop_asks_before_it_ends_a_running_job(ready: Pod, runpod: RunPodStandIn) -> None:
    ready.cai("run", "--", "--lines", "300", "--pause", "0.1")
    assert "a job runs" in ready.cai("stop", code=2).stderr
    assert posts(runpod) == 0
    ready.cai("stop", "--yes")
    assert json.loads((ready.job_folder() / "exit.json").read_text())["exit_code"] == 143
    assert runpod.pod["status"] == "EXITED"


def test_price_and_start_come_from_the_provider(rented: Pod, runpod: RunPodStandIn) -> None:
    runpod.pod["cost"] = 2.5
    rented.cai("status")
    assert rental(rented)["price"] == 2.5
    assert rental(rented)["start_known_from"] == "provider"


def test_cost_notices_that_the_pod_was_stopped_elsewhere(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.cai("status")
    runpod.pod.update(status="EXITED", cost=0)
    rented.cai("cost")
    assert rental(rented)["ended"] is not None


def test_a_provider_that_is_down_does_not_keep_anyone_from_working(rented: Pod, runpod: RunPodStandIn) -> None:
    runpod.faults = [("GET", 500, b"", {})] * 10
    assert "could not be asked" in rented.cai("status").stderr
