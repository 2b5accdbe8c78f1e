"""A step without a model, for tests of the supervision: it does what FAKE_<STEP> in its environment says.

`ok` (the default) ends at once · `fail:N` ends with N · `polite` waits and stops when asked · `stubborn` waits and
never stops · `results:FILE` ends as an evaluation that wrote FILE · `looks:R/R/…` ends as a training whose last look
saw the rate of its round (nothing for `-`). The ones that wait have a child of their own.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from cai_bootstrap.events import Error, EventLog, utc_now
from cai_bootstrap.files import write_json
from cai_bootstrap.run.folder import STAGES, RunFolder
from cai_bootstrap.run.lock import hold
from cai_bootstrap.run.markers import write_marker
from cai_bootstrap.supervise import StopRequest, die_with_parent


def main(name: str, config_file: str, run: str, number: int) -> int:
    die_with_parent()
    stopping = StopRequest().install()
    config = yaml.safe_load(Path(config_file).read_text())
    paths = config["paths"]
    workspace = RunFolder.at(
        paths["base_dir"], data=paths["data_dir"], checkpoints=paths["checkpoint_dir"], results=paths["results_dir"],
        stage=STAGES[config["stage"]],
    )  # fmt: skip
    log = EventLog(workspace.logs / f"{run}.jsonl", run)
    behaviour, _, detail = os.environ.get(f"FAKE_{name.upper()}", "ok").partition(":")
    with hold(workspace, f"fake step {name}", name="step"):
        if behaviour == "fail":
            log.emit(Error(step=name, message=f"{name} failed as told"))
            return int(detail)
        if behaviour == "results":
            path = Path(detail)
            write_marker(workspace, name, number, fingerprint="f", outputs={"results": path})
        if behaviour == "looks":
            rate = detail.split("/")[number - 1]
            path = workspace.checkpoints / f"round{number}" / "TRAINING_SUCCESS"
            success = {"adapter_path": path.parent.name, "final_loss": 1.0, "epochs": 1.0, "finished_at": utc_now(),
                       "fingerprint": "f", "files": {"adapter_model.safetensors": "0" * 64}}  # fmt: skip
            looks = [] if rate == "-" else [{"strict_rate": float(rate)}]
            write_json(path, {**success, "watch": looks, "watched": "dev"})
            write_marker(workspace, name, number, fingerprint="f", outputs={"success": path})
        if behaviour in {"polite", "stubborn"}:
            child = subprocess.Popen(["sleep", "600"])
            write_json(workspace.base / "ready.json", {"pids": [os.getpid(), child.pid]})
            while behaviour == "stubborn" or not stopping():
                signal.sigtimedwait([], 0.05)
                if stopping():
                    (workspace.base / "asked").touch()
            child.kill()
            child.wait()
            (workspace.data / "kept.txt").write_text("the record in progress was finished")
            log.emit(Error(step=name, message=f"{name} stopped after its record"))
            return stopping.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3], sys.argv[5], int(sys.argv[7])))
