"""pod.yaml: refused with the field's name when wrong, never a place for secrets; and secrets that leave no trace."""

import os
import stat
import subprocess
import threading
from pathlib import Path
from unittest import mock

import pytest
import yaml

from cai_bootstrap.pod.errors import PodConfigError
from cai_bootstrap.pod.onpod import secrets as pod_secrets
from cai_bootstrap.pod.onpod.state import Control
from cai_bootstrap.pod.settings import load_settings

from .loopback import Pod, RunPodStandIn, until

TOKEN = "hf_" + "sentinel" * 4


def written(folder: Path, **fields: object) -> Path:
    path = folder / "pod.yaml"
    path.write_text(yaml.safe_dump({"host": "203.0.113.1", **fields}))
    return path


@pytest.mark.parametrize(("fields", "said"), [
    ({"hots": "x"}, "hots"),
    ({"port": 0}, "port"),
    ({"port": "ssh"}, "port"),
    ({"host": "-oProxyCommand=id"}, "host"),
    ({"host": "a b"}, "host"),
    ({"user": "-l"}, "user"),
    ({"hourly_price": -1}, "hourly_price"),
    ({"hourly_price": float("nan")}, "hourly_price"),
    ({"budget": 0}, "budget"),
    ({"remote_base": "relative"}, "remote_base"),
    ({"remote_base": "/"}, "remote_base"),
    ({"remote_base": "/a/../b"}, "remote_base"),
    ({"remote_base": "/a\nb"}, "remote_base"),
    ({"via": "ftp"}, "via"),
    ({"host_key": "MD5:00"}, "host_key"),
    ({"stop": {"whendone": True}}, "stop.whendone"),
    ({"secrets": ["hf_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"]}, "NAME of an environment variable"),
    ({"secrets": ["a-b"]}, "NAME of an environment variable"),
    ({"provider": {"api_key_env": "rpa_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abc"}}, "NAME of an environment variable"),
    ({"env": {"HF_TOKEN": "x"}}, "looks like a secret"),
])  # fmt: skip
def test_a_wrong_field_is_refused_by_name_without_repeating_its_value(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(PodConfigError) as refused:
        load_settings(written(tmp_path, **fields))
    assert said in str(refused.value)
    assert "pod.yaml" in str(refused.value)
    assert "rpa_" not in str(refused.value)
    assert "hf_" not in str(refused.value)


@pytest.mark.parametrize(("host", "form"), [
    ("203.0.113.7:40022", "host: 203.0.113.7, port: 40022"),
    ("root@203.0.113.7:40022", "host: 203.0.113.7, port: 40022, user: root"),
    ("root@203.0.113.7", "host: 203.0.113.7, user: root"),
    ("[::1]:22", "host: ::1, port: 22"),
    ("[2001:db8::7]", "host: 2001:db8::7"),
    ("me@[2001:db8::7]:22022", "host: 2001:db8::7, port: 22022, user: me"),
    ("ssh://root@203.0.113.7:22022", "host: 203.0.113.7, port: 22022, user: root"),
    ("ssh://203.0.113.7/", "host: 203.0.113.7"),
    ("SSH://root:hunter2@pod.example.org:22022/x", "host: pod.example.org, port: 22022, user: root"),
    ("pod.example.org:22022", "host: pod.example.org, port: 22022"),
    ("ssh root@203.0.113.7 -p 22022 -i ~/.ssh/id_ed25519", "host: 203.0.113.7, port: 22022, user: root"),
    ("ssh -p 22022 -l me 203.0.113.7", "host: 203.0.113.7, port: 22022, user: me"),
    ("203.0.113.7:", "host: 203.0.113.7"),
    ("203.0.113.7 ", "host: 203.0.113.7"),
    ("203.0.113.7:99999", "host: 203.0.113.7"),
    ("203.0.113", "host: 203.0.113.10 and port: 22022"),
    ("999.1.1.1", "host: 203.0.113.10 and port: 22022"),
    ("1:2:3", "host: 203.0.113.10 and port: 22022"),
    ("fe80::1%eth0", "host: 203.0.113.10 and port: 22022"),
    ("", "host: 203.0.113.10 and port: 22022"),
    ("pod..example", "host: 203.0.113.10 and port: 22022"),
    ("-oProxyCommand=id", "host: 203.0.113.10 and port: 22022"),
    ("pöd.example.org", "host: 203.0.113.10 and port: 22022"),
    ("a" * 300, "host: 203.0.113.10 and port: 22022"),
    (203.0, "host: 203.0.113.10 and port: 22022"),
    (["203.0.113.7"], "host: 203.0.113.10 and port: 22022"),
])  # fmt: skip
def test_a_host_with_anything_beside_it_is_refused_with_the_right_form(tmp_path: Path, host: object, form: str) -> None:
    with pytest.raises(PodConfigError) as refused:
        load_settings(written(tmp_path, host=host))
    assert "host: must be a host name or address" in str(refused.value)
    assert f"write {form}" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("host", ["203.0.113.7", "::1", "2001:db8::7", "pod.example.org", "pod", "pod_1.example.org."])
def test_a_host_alone_is_taken(tmp_path: Path, host: str) -> None:
    assert load_settings(written(tmp_path, host=host)).host == host


@pytest.mark.parametrize("text", ["host: [", "- a", "", "host: 'x\n"])
def test_what_is_no_yaml_of_fields_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    with pytest.raises(PodConfigError, match=r"pod\.yaml"):
        load_settings(path)


def test_a_missing_file_names_init(tmp_path: Path) -> None:
    with pytest.raises(PodConfigError, match="cai pod init"):
        load_settings(tmp_path / "none.yaml")


def test_init_writes_a_commented_file_that_is_valid_and_keeps_the_one_there(pod: Pod) -> None:
    pod.path.unlink()
    assert pod.json("init", "--host", "203.0.113.7", "--port", "22022", "--budget", "15")["written"]
    text = pod.path.read_text()
    settings = load_settings(pod.path)
    assert (settings.host, settings.port, settings.budget) == ("203.0.113.7", 22022, 15)
    assert sum("#" in line for line in text.splitlines()) > 25
    assert not pod.json("init")["written"]
    assert pod.path.read_text() == text
    assert "is there already" in pod.cai("init", "--host", "203.0.113.8", code=2).stderr


def test_init_refuses_the_proxy_host_and_writes_nothing(pod: Pod) -> None:
    pod.path.unlink()
    assert "direct TCP" in pod.cai("init", "--host", "ssh.runpod.io", code=2).stderr
    assert not pod.path.exists()


def test_a_secret_that_is_not_set_is_named_before_anything_happens(pod: Pod) -> None:
    pod.write(secrets=["HF_TOKEN"])
    assert "HF_TOKEN, which is not set" in pod.cai("deploy", "--yes", code=2).stderr
    assert not (pod.base / ".pod").exists()


def traces(word: str, *folders: Path) -> list[Path]:
    """The files that hold a word, in their content or name."""
    found = []
    for folder in folders:
        for top, _, names in os.walk(folder):
            found += [Path(top) / n for n in names if word in n or word.encode() in (Path(top) / n).read_bytes()]
    return found


@pytest.mark.usefixtures("rented")
def test_a_deployment_with_secrets_leaves_no_trace_of_them(ready: Pod, runpod: RunPodStandIn) -> None:
    ready.environment["HF_TOKEN"] = TOKEN
    ready.write(secrets=["HF_TOKEN"], stop={"fetched_minutes": 10})
    argvs: list[str] = []
    popen = subprocess.Popen.__init__

    def spy(self: object, args: object, *more: object, **named: object) -> None:
        argvs.append(repr(args))
        popen(self, args, *more, **named)  # type: ignore[arg-type, call-overload]

    seen: list[bytes] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    try:
                        line = Path(f"/proc/{entry}/cmdline").read_bytes()
                    except OSError:
                        continue
                    if TOKEN.encode() in line or runpod.key.encode() in line:
                        seen.append(line)
            over.wait(0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with mock.patch.object(subprocess.Popen, "__init__", spy):
            done = ready.cai("deploy", "--yes", "--source", str(ready.source), "--into", str(ready.target))
    finally:
        over.set()
        looking.join()
    assert f"TOKEN_LENGTH {len(TOKEN)}" in (ready.job_folder() / "output.log").read_text()
    assert seen == []
    for word in (TOKEN, runpod.key):
        assert not any(word in argv for argv in argvs)
        assert word not in done.stdout + done.stderr
        assert traces(word, ready.home, ready.base, ready.target, ready.source) == []
    assert argvs


def test_a_secret_file_is_for_its_owner_only_and_gone_once_read(tmp_path: Path) -> None:
    control = Control(str(tmp_path))
    control.create()
    with mock.patch.object(os, "umask", wraps=os.umask):
        before = os.umask(0)
        try:
            path = pod_secrets.put(control, {"A": "b"})
        finally:
            os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert pod_secrets.take(path) == {"A": "b"}
    assert not os.path.exists(path)
    assert pod_secrets.take(path) == {}


@pytest.mark.usefixtures("rented")
def test_the_watchdogs_key_file_is_gone_once_it_guards(ready: Pod, runpod: RunPodStandIn) -> None:
    import json

    ready.cai("run", "--", "--lines", "50", "--pause", "0.1")
    config = json.loads((ready.base / ".pod" / "watchdog.json").read_text())
    until(lambda: not os.path.exists(config["secret"]), "the key's file is gone")
    assert runpod.key not in json.dumps(config)


def test_the_state_is_kept_outside_any_repository(pod: Pod) -> None:
    (pod.home / "state" / "known_hosts").unlink()
    pod.cai("status")
    assert sorted(path.name for path in (pod.home / "state").iterdir() if path.suffix != ".lock") == [
        "known_hosts",
        "pods.json",
    ]
    assert stat.S_IMODE((pod.home / "state" / "known_hosts").stat().st_mode) == 0o600
