"""docs/DEPLOYMENT_CHECKLIST.md is followed to the letter: every command in it runs against the loopback pod."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import make_pod
from .loopback import RunPodStandIn, Sshd, git, stand_in_checkout

CHECKLIST = Path(__file__).parents[2] / "docs" / "DEPLOYMENT_CHECKLIST.md"


def commands() -> list[str]:
    """The lines of the document's shell blocks, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", CHECKLIST.read_text(encoding="utf-8"), re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_document_names_every_pod_command() -> None:
    from cai_bootstrap.cli.pod import pod

    named = {match[1] for line in commands() if (match := re.match(r"cai pod ([a-z]+)", line))}
    assert named == set(pod.commands)


@pytest.mark.slow
def test_every_command_of_the_checklist_works_on_the_loopback_pod(own_sshd: Sshd, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA A100-SXM4-80GB, 81920'\n")
    (tools / "cai").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cai_bootstrap "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    own_sshd.extra = f"SetEnv HOME={own_sshd.folder} PATH={tools}:{os.environ['PATH']}\n"
    own_sshd.restart()
    runpod = RunPodStandIn(pod_id="abc123def456")
    runpod.log = own_sshd.fingerprint()
    pod = make_pod(tmp_path / "p", own_sshd, stand_in_checkout(tmp_path / "source"))
    (pod.source / ".gitignore").write_text("sky.yaml\ncai-work\n")
    git(pod.source, "add", ".")
    git(pod.source, "commit", "-qm", "ignore")
    values = {
        "POD_HOST": "127.0.0.1", "POD_PORT": str(own_sshd.port), "POD_USER": pod.config["user"],
        "POD_KEY": str(own_sshd.client_key), "RUNPOD_API_KEY": runpod.key,
    }  # fmt: skip
    known = {
        name: value
        for name, value in pod.env().items()
        if name not in ("CAI_STATE_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
    }
    (tmp_path / "user").mkdir()
    values |= {"HOME": str(tmp_path / "user")}
    environment = known | values | {"PATH": f"{tools}:{os.environ['PATH']}", "POD_ID": "abc123def456"}
    stopped_by_hand = False
    try:
        for line in commands():
            if line.startswith("export "):
                assert line.split("=")[0].removeprefix("export ") in environment
                continue
            if "--already-stopped" in line and not stopped_by_hand:
                subprocess.run(
                    ["bash", "-c", "cai pod status"], cwd=pod.source, env=environment, check=True, capture_output=True
                )
                environment.pop("RUNPOD_API_KEY")
                stopped_by_hand = True
            done = subprocess.run(
                ["bash", "-c", line], cwd=pod.source, env=environment, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            if line.startswith("cai pod init"):
                path = tmp_path / "user" / ".config" / "cai-bootstrap" / "pod.yaml"
                written = yaml.safe_load(path.read_text())
                written |= {key: pod.config[key] for key in ("remote_base", "gpu", "python", "job", "setup")}
                written["provider"]["api_url"] = runpod.url
                path.write_text(yaml.safe_dump(written))
    finally:
        runpod.close()
    assert stopped_by_hand
    assert ("POST", "/v2/pods/abc123def456/action") in runpod.seen
    assert (pod.source / "cai-work" / "results" / "run.json").exists()
    assert yaml.safe_load((pod.source / "sky.yaml").read_text())["resources"]["accelerators"] == "A100-80GB:2"
    assert shutil.which("cai", path=str(tools))
