"""Coming to the pod: clear words within five seconds, host keys that bind, a proxy that is refused."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from .conftest import make_pod
from .loopback import Pod, RunPodStandIn, Sshd, free_port, make_key, until

LIMIT_SECONDS = 5.0


@pytest.fixture
def pod(tmp_path: Path, shared_sshd: Sshd, checkout: Path) -> Pod:
    """A pod that is new here; each command logs in by itself."""
    made = make_pod(tmp_path, shared_sshd, checkout)
    made.shared_login = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return made


def refusal(pod: Pod, *words: str) -> str:
    """What the command says when it cannot connect; it must say so in time."""
    before = time.monotonic()
    done = pod.cai(*words, code=1)
    assert time.monotonic() - before <= LIMIT_SECONDS
    return done.stderr


def test_a_wrong_key_is_named_with_what_to_do(pod: Pod, tmp_path: Path) -> None:
    pod.write(key=str(make_key(tmp_path / "another key")))
    said = refusal(pod, "check")
    assert "refuses" in said
    assert "authorized_keys" in said


def test_a_refused_connection_is_named(pod: Pod) -> None:
    pod.write(port=free_port())
    assert "nothing listens there" in refusal(pod, "check")


def test_a_refused_connection_after_the_first_contact_is_named(pod: Pod, own_sshd: Sshd) -> None:
    pod.write(port=own_sshd.port, key=str(own_sshd.client_key), host_key=own_sshd.fingerprint())
    pod.cai("status")
    own_sshd.stop()
    assert "nothing listens there" in refusal(pod, "status")


@contextlib.contextmanager
def silent_listener() -> Iterator[int]:
    """Takes connections and never says a word: what a firewall that swallows packets looks like from here on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_black_hole_is_named_in_time(pod: Pod) -> None:
    with silent_listener() as port:
        pod.write(port=port)
        assert "no answer within 4 s" in refusal(pod, "check")


def test_a_black_hole_after_the_first_contact_is_named_in_time(pod: Pod) -> None:
    pod.cai("status")
    known = pod.home / "state" / "known_hosts"
    with silent_listener() as port:
        known.write_text(known.read_text() + known.read_text().replace(str(pod.config["port"]), str(port)))
        pod.write(port=port)
        with mock.patch("cai_bootstrap.pod.ssh.CONNECT_SECONDS", 1):
            assert "no answer within 1 s" in refusal(pod, "status")


def test_a_listener_that_is_no_ssh_server_is_named(pod: Pod) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pod.write(port=listener.getsockname()[1])

        def greet() -> None:
            line, _ = listener.accept()
            with line:
                line.sendall(b"220 mail.example.org ready\r\n")

        threading.Thread(target=greet, daemon=True).start()
        assert "no ssh server" in refusal(pod, "check")


@pytest.mark.slow
def test_a_changed_host_key_stops_everything_until_it_is_pinned_anew(pod: Pod, own_sshd: Sshd) -> None:
    pod.write(port=own_sshd.port, key=str(own_sshd.client_key), host_key=own_sshd.fingerprint())
    pod.cai("check")
    before = own_sshd.fingerprint()
    own_sshd.restart(new_key=True)
    for words in (["check"], ["status"], ["push", "--source", str(pod.source)], ["run"], ["pull"], ["deploy", "--yes"]):
        said = refusal(pod, *words)
        assert "THE HOST KEY HAS CHANGED" in said
        assert before in said
        assert own_sshd.fingerprint() in said
    pod.write(host_key=own_sshd.fingerprint())
    pod.cai("check", "--new-host-key")


def test_an_unknown_host_key_is_asked_about_once_and_refused_without_an_answer(pod: Pod) -> None:
    pod.write(host_key=None)
    said = refusal(pod, "check")
    assert "was not confirmed" in said
    assert pod.sshd.fingerprint() in said
    with mock.patch("cai_bootstrap.cli.pod_context.confirm", return_value=True) as asked:
        pod.cai("check")
        pod.cai("status")
    assert asked.call_count == 1


def test_a_host_key_other_than_that_of_pod_yaml_is_refused(pod: Pod) -> None:
    pod.write(host_key="SHA256:" + "A" * 43)
    assert "not the host_key of pod.yaml" in refusal(pod, "check")
    assert not (pod.home / "state" / "known_hosts").exists()


def test_a_host_key_that_the_provider_printed_is_pinned_without_asking(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.write(host_key=None)
    runpod.log = f"256 {rented.sshd.fingerprint()} root@pod (ED25519)"
    rented.cai("status")
    assert (rented.home / "state" / "known_hosts").read_text().count("ssh-ed25519") == 1


def test_a_host_key_that_the_provider_did_not_print_stops_everything(rented: Pod, runpod: RunPodStandIn) -> None:
    rented.write(host_key=None)
    runpod.log = "256 SHA256:" + "B" * 43 + " root@pod (ED25519)"
    said = refusal(rented, "check")
    assert "the provider's log of this pod shows" in said
    assert not (rented.home / "state" / "known_hosts").exists()


@pytest.mark.parametrize("host", ["ssh.runpod.io", "SSH.RunPod.IO", "ssh.runpod.io."])
def test_the_proxy_host_is_refused_with_the_way_out(pod: Pod, host: str) -> None:
    pod.write(host=host)
    said = pod.cai("check", code=2).stderr
    assert "cannot transfer files" in said
    assert "direct TCP" in said


def test_check_reports_each_thing_that_the_job_needs(pod: Pod) -> None:
    before = time.monotonic()
    found = pod.json("check")
    assert time.monotonic() - before <= 30
    levels = {finding["name"]: finding["level"] for finding in found["findings"]}
    assert levels == {
        "connection": "ok", "GPU": "ok", "disk": "ok", "Python": "ok", "torch": "warning", "transfer": "ok"
    }  # fmt: skip


def test_check_fails_a_pod_without_the_gpu_that_the_run_needs(pod: Pod) -> None:
    pod.write(gpu="auto")
    assert "no nvidia-smi" in pod.cai("check", code=1).stdout


@pytest.mark.parametrize(("memory", "level"), [("81559", "ok"), ("24564", "failed")])
def test_check_compares_gpu_memory_with_the_presets_need(
    own_sshd: Sshd, tmp_path: Path, checkout: Path, memory: str, level: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\necho 'NVIDIA A100-SXM4, {memory}'\n")
    (tools / "nvidia-smi").chmod(0o755)
    own_sshd.extra = f"SetEnv HOME={own_sshd.folder} PATH={tools}:/usr/bin:/bin\n"
    own_sshd.restart()
    pod = make_pod(tmp_path / "p", own_sshd, checkout)
    pod.write(gpu="auto", preset="qwen2.5-32b-a100")
    found = json.loads(pod.cai("check", "--json", code=None).stdout)
    gpu = next(finding for finding in found["findings"] if finding["name"] == "GPU")
    assert gpu["level"] == level
    assert "A100" in gpu["detail"]


def test_check_gives_torch_a_time_limit(pod: Pod, tmp_path: Path) -> None:
    slow = tmp_path / "slow python"
    slow.write_text(f'#!/bin/sh\ncase "$*" in *torch*) exec sleep 60;; esac\nexec {pod.config["python"]} "$@"\n')
    slow.chmod(0o755)
    pod.write(python=str(slow))
    with mock.patch("cai_bootstrap.pod.check.IMPORT_SECONDS", 1):
        found = pod.json("check")
    torch = next(finding for finding in found["findings"] if finding["name"] == "torch")
    assert "took more than" in torch["detail"]


def test_no_configuration_of_the_users_own_ssh_is_used(pod: Pod) -> None:
    from cai_bootstrap.pod.settings import load_settings
    from cai_bootstrap.pod.ssh import Remote

    words = Remote(load_settings(pod.path)).command(["echo", "a b", "$(id)"])
    assert words[words.index("-F") + 1] == "/dev/null"
    assert "StrictHostKeyChecking=yes" in words
    assert words[-1] == "echo 'a b' '$(id)'"


def test_names_with_blanks_quotes_and_dollars_are_harmless(pod: Pod) -> None:
    from cai_bootstrap.pod.session import connect
    from cai_bootstrap.pod.settings import load_settings

    words = ["a b", "it's", 'say "x"', "$HOME", "$(touch /tmp/owned)", "`id`", "a;b", "*", "", "-n", "\\", "ü"]
    with mock.patch.dict("os.environ", pod.env(), clear=True):
        remote = connect(load_settings(pod.path), lambda _: False, print)
        answer = remote.run(["printf", "%s\\n", *words])
        remote.close()
    assert answer.output.decode().split("\n")[:-1] == words


def test_the_shared_login_ends_with_the_command(own_sshd: Sshd, tmp_path: Path, checkout: Path) -> None:
    pod = make_pod(tmp_path / "p", own_sshd, checkout)
    pod.cai("status")
    until(lambda: not own_sshd.sessions(), "no session is left")
