"""A SkyPilot task for the same run: any cloud, or several GPUs of one machine. SkyPilot starts and ends that machine.

`cai run` itself starts one training process for each GPU and shares generation out to them, so the task is the same
for one GPU and for several; asking for the number makes a machine with fewer fail instead of being slow.
"""

import shlex
from pathlib import Path
from typing import Any

import yaml

from cai_bootstrap.files import write_atomic
from cai_bootstrap.pod.errors import PodConfigError

HEADER = """\
# A SkyPilot task: start it with `sky launch FILE`, end the machine with `sky down`. SkyPilot cannot stop a RunPod pod,
# only end it: fetch the results first (`rsync -a CLUSTER:cai-work/ cai-work/`). `sky launch --down` ends it by itself.
"""
BASE = "~/cai-work"


def task(*, preset: str, gpus: int, accelerator: str, cloud: str | None) -> dict[str, Any]:
    """The task as plain data: resources, set-up with the model, and the run."""
    words = f"--preset {shlex.quote(preset)} --base-dir {BASE}"
    run = ["set -eu", "source ~/cai-venv/bin/activate"]
    several = f" --set training.processes={gpus}" if gpus > 1 else ""
    run += [f"cai run {words}{several}"]
    setup = [
        "set -eu",
        "test -d ~/cai-venv || python3 -I -m venv ~/cai-venv",
        "source ~/cai-venv/bin/activate",
        "pip install -c constraints.txt -e '.[demo]' 'bitsandbytes>=0.50.2,<0.51'",
        f"cai prepare {words}",
    ]
    resources: dict[str, Any] = {"accelerators": f"{accelerator}:{gpus}", "disk_size": 256}
    if cloud is not None:
        resources["infra"] = cloud
    return {
        "name": "cai-" + "".join(c if c.isalnum() else "-" for c in preset.lower()),
        "workdir": ".",
        "num_nodes": 1,
        "resources": resources,
        "setup": "\n".join(setup) + "\n",
        "run": "\n".join(run) + "\n",
    }


def write_task(path: Path, *, preset: str, gpus: int, accelerator: str, cloud: str | None) -> None:
    """Write the task file. Secrets are not in it: hand them over with `sky launch --secret HF_TOKEN`."""
    content = task(preset=preset, gpus=gpus, accelerator=accelerator, cloud=cloud)
    write_atomic(path, HEADER + yaml.dump(content, Dumper=_Lines, sort_keys=False, width=1000))


class _Lines(yaml.SafeDumper):
    """Writes a script line by line."""


_Lines.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def validate(path: Path) -> bool:
    """Have SkyPilot's own parser read the file. False if SkyPilot is not installed; PodConfigError if it refuses."""
    try:
        import sky  # type: ignore[import-not-found]
    except ImportError:
        return False
    try:
        sky.Task.from_yaml(str(path))  # its validate() would ask the clouds' catalogues on the net
    except Exception as error:
        raise PodConfigError(f"{path}: SkyPilot refuses this task: {error}") from error
    return True
