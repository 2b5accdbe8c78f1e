"""The run's side of its tracking: a process is started that tells the tracker, and given some time at the end.

The tracker's library is never loaded in the run's own process: that it hangs, fails, asks for a key, prints or needs
the network can neither stop nor slow the run.
"""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType

from cai_bootstrap.config import RunConfig
from cai_bootstrap.events import Event, Notice, RunStarted
from cai_bootstrap.files import read_json
from cai_bootstrap.interpreter import python_command, python_environment
from cai_bootstrap.run.folder import RunFolder

STEP = "track"  # the name under which notices of the tracking stand among a run's events
PATIENCE_SECONDS = 30.0  # after the run, for what the tracker was not told yet


class Tracking:
    """A run's tracking, if `config.track` names a tracker; else it does nothing.

    Pass every event of the run to `see`. `screen`: notices are shown to the user as they come. `patience` is in
    seconds.
    """

    def __init__(
        self, config: RunConfig, workspace: RunFolder, *, screen: bool = True, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._name, self._workspace, self._screen, self._patience = config.track, workspace, screen, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._run = ""
        self._warning = ""  # what the user has seen already

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing of the process, however the run ended."""
        if self._process is not None and self._process.poll() is None:
            self._end(self._process)

    def see(self, event: Event) -> None:
        """Start to tell the run when it begins. Raises nothing."""
        if isinstance(event, Notice) and event.step == STEP:
            self._warning = event.message if self._screen else ""
        if self._name is None or self._process is not None or not isinstance(event, RunStarted):
            return
        self._run = event.run
        command = python_command(
            "cai_bootstrap.cli.following", self._name, str(self._workspace.config(event.run)), event.run
        )
        with contextlib.suppress(OSError), self._workspace.tracking_log(event.run).open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=python_environment(),
                start_new_session=True,  # the user's Ctrl-C is the run's, whose end is to be told
            )

    def finish(self, report: Path | None) -> str | None:
        """Let the rest be told, with the report; returns what to say of it, None for nothing."""
        if self._name is None or not self._run:
            return None
        process = self._process
        if process is None:
            return f"WARNING: the run was not told to {self._name}: no process could be started for it"
        assert process.stdin is not None
        with contextlib.suppress(OSError), process.stdin as line:
            line.write(json.dumps({"report": None if report is None else str(report)}).encode() + b"\n")
        try:
            code = process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._end(process)
            return (
                f"WARNING: {self._name} did not take the run within {self._patience:g} s; what it may have lost "
                f"is told when the run is started again{self._rescue()} "
                f"({self._workspace.tracking_log(self._run)} has more)"
            )
        return self._last_sentence(code)

    def _last_sentence(self, code: int) -> str | None:
        assert self._name is not None
        if code == 0:
            with contextlib.suppress(Exception):
                return str(read_json(self._workspace.tracking(self._name))["sentence"])
        sentence = f"the run could not be told to {self._name}"
        with contextlib.suppress(Exception):
            sentence = str(read_json(self._workspace.tracking(self._name))["sentence"]) or sentence
        if sentence in self._warning:
            return None
        return (
            f"WARNING: {sentence}; it is told when the run is started again{self._rescue()} "
            f"({self._workspace.tracking_log(self._run)} has more)"
        )

    def _rescue(self) -> str:
        """How to send what wandb has written to its own files already."""
        folder = self._workspace.logs / "wandb" / "latest-run"
        return f", or now by `wandb sync {folder}`" if self._name == "wandb" and folder.exists() else ""

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
