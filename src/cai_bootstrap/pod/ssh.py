"""OpenSSH and rsync as subprocesses: nothing from the user's ssh configuration, one pinned host key, no shell
surprises.
"""

import contextlib
import json
import os
import select
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.pod.answers import parse
from cai_bootstrap.pod.bounded import BLOCK, MOST_OUTPUT, TooMuchOutputError, run_bounded
from cai_bootstrap.pod.errors import (
    AccessError,
    HostKeyError,
    PodConfigError,
    PodError,
    UnreachableError,
    UnreadableError,
)
from cai_bootstrap.pod.ledger import state_dir
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.shipment import shipment, shipment_name
from cai_bootstrap.printable import message, one_line

TRANSPORT_FAILED = 255
NOT_SHIPPED = 97
REFUSED = "refused: nothing listens there; is the pod running, and is the port its external one?"
CONNECT_SECONDS = 4
GONE = (
    "if you rented a new pod at this address, run `cai pod check --new-host-key`; otherwise someone may be listening in"
)


@dataclass(frozen=True)
class Answer:
    """What a remote command gave back: bytes as they came, and errors made printable."""

    code: int
    output: bytes
    errors: str


def known_hosts_path() -> Path:
    """The pinned host keys: in the user's state directory, not in ~/.ssh."""
    return state_dir() / "known_hosts"


class Remote:
    """The pod, reached by ssh. Raises UnreachableError, AccessError or HostKeyError when a connection fails."""

    def __init__(self, settings: PodSettings) -> None:
        self.settings = settings
        self._shared: _SharedConnection | None = None

    def open(self, timeout: float) -> None:
        """Log in once; later commands go through this connection, and each alone if it breaks.

        It ends with this process, however that ends. Raises what `failure` makes of it if the pod does not let us in.
        """
        self.close()
        shared = _SharedConnection(self.ssh(), self.settings.host)
        errors = shared.start(timeout)
        if errors is not None:
            shared.close()
            raise self.failure(errors)
        self._shared = shared

    def close(self) -> None:
        """End the shared connection."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def ssh(self, *, alone: bool = False) -> list[str]:
        """The ssh command up to, not including, the host; `alone` makes it a connection of its own."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _path_option(known_hosts_path()),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "LogLevel": "ERROR",
        }
        command = ["ssh", "-T", "-F", "/dev/null"]
        if self.settings.key is not None:
            key = Path(self.settings.key).expanduser().absolute()
            if not key.is_file():
                raise PodConfigError(f"{key}: no such key file; set 'key' in pod.yaml to your private ssh key")
            options |= {"IdentitiesOnly": "yes", "IdentityFile": _path_option(key)}
        if self._shared is not None and not alone:
            options |= {"ControlMaster": "no", "ControlPath": self._shared.socket}
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        return [*command, "-p", str(self.settings.port), "-l", self.settings.user]

    def command(self, argv: Sequence[str], *, alone: bool = False) -> list[str]:
        """The whole local command that runs `argv` on the pod, whatever its words contain."""
        return [*self.ssh(alone=alone), "--", self.settings.host, shlex.join(argv)]

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, limit: int = MOST_OUTPUT
    ) -> Answer:
        """Run a command on the pod and wait. `timeout` is in seconds; its end is an UnreachableError.

        More than `limit` bytes of output are an UnreadableError.
        """
        try:
            process = run_bounded(self.command(argv), stdin=stdin, timeout=timeout, limit=limit)
        except TooMuchOutputError as error:
            raise UnreadableError(f"{self.settings.address}: the pod sent {error}, which is no answer") from None
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f"{self.settings.address}: no answer within {timeout:.0f} s; try again") from error
        except FileNotFoundError as error:
            raise PodError("ssh is not installed here; install OpenSSH's client") from error
        errors = message(process.stderr.decode("utf-8", "replace"))
        if process.returncode == TRANSPORT_FAILED:
            raise self.failure(errors)
        return Answer(process.returncode, process.stdout, errors)

    def failure(self, errors: str) -> PodError:
        """What ssh's own exit code 255 means, from what it printed."""
        where = self.settings.address
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "the connection ended").strip()
        last = one_line(last, 300)
        if "HOST IDENTIFICATION HAS CHANGED" in errors or "Host key verification failed" in errors:
            return HostKeyError(f"{where}: its host key is not the pinned one. Nothing was sent. {GONE.capitalize()}")
        if "Permission denied" in errors or "Too many authentication failures" in errors:
            key = self.settings.key or "the keys of your ssh agent"
            return AccessError(
                f"{where}: the pod refuses {key}: put its public half into the pod's authorized_keys "
                f"(RunPod: Settings, SSH public keys, then restart it) or set 'user' and 'key' in pod.yaml ({last})"
            )
        reasons = {
            "Connection refused": REFUSED,
            "timed out": f"no answer within {CONNECT_SECONDS} s; is the pod running, and are host and port right?",
            "Could not resolve": "no such host name",
            "No route to host": "no route to this host",
            "Network is unreachable": "the network is unreachable",
            "No space left": "the pod's disk is full",
        }
        return UnreachableError(f"{where}: {next((text for key, text in reasons.items() if key in errors), last)}")

    def disk_full(self) -> PodError:
        """The pod's disk has no room."""
        return PodError(
            f"{self.settings.address}: no space left on the pod's disk; free some, enlarge the volume, or choose "
            "another remote_base, then run the same command again"
        )

    def python(self) -> str:
        """The Python that runs our own file on the pod."""
        return self.settings.python or "python3"

    def pod_argv(self, verb: str, *arguments: str) -> list[str]:
        """The remote command for one verb of the file that `ship` puts there."""
        where = f"{self.settings.remote_base}/.pod/{shipment_name()}"
        script = f'test -f "$1" || exit {NOT_SHIPPED}; exec "$0" -I "$@"'  # -I: -P is no option before Python 3.11
        return ["/bin/sh", "-c", script, self.python(), where, verb, self.settings.remote_base, *arguments]

    def ship(self) -> None:
        """Put our one file on the pod, whole or not at all."""
        folder = f"{self.settings.remote_base}/.pod"
        script = 'umask 077; mkdir -p -- "$0" && cat > "$0/$1.$$" && mv -f -- "$0/$1.$$" "$0/$1"'
        answer = self.run(["/bin/sh", "-c", script, folder, shipment_name()], stdin=shipment())
        if answer.code != 0 and "No space left" in answer.errors:
            raise self.disk_full()
        if answer.code != 0:
            raise PodError(f"{self.settings.address}: cannot write to {folder}: {answer.errors.strip()}")

    def call(
        self, verb: str, *arguments: str, stdin: Any = None, timeout: float = 60.0, allow: Sequence[int] = ()
    ) -> Any:
        """Run a verb on the pod; `stdin` is sent as JSON, or as it is if bytes. Returns its JSON answer, or raw bytes.

        Raises PodError with the pod's words for any exit code but 0 and those in `allow`. What comes back is any JSON
        value: `answers.read` makes a typed one of it.
        """
        data = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode() if stdin is not None else b""
        answer = self.run(self.pod_argv(verb, *arguments), stdin=data, timeout=timeout)
        if answer.code == NOT_SHIPPED:
            self.ship()
            answer = self.run(self.pod_argv(verb, *arguments), stdin=data, timeout=timeout)
        if answer.code == 127:
            raise PodError(f"{self.settings.address}: no {self.python()} on the pod; install Python 3.8 or newer there")
        if answer.code != 0 and "No space left" in answer.errors:
            raise self.disk_full()
        if answer.code != 0 and answer.code not in allow:
            raise PodError(f"{self.settings.address}: {answer.errors.strip()[-2000:] or f'exit code {answer.code}'}")
        if verb == "pack" or not answer.output.strip():
            return answer.output
        try:
            return parse(answer.output, f"{self.settings.address}: the answer to '{verb}'")
        except UnreadableError as error:
            raise UnreadableError(f"{error}: does the pod's shell print a greeting?") from None


class _SharedConnection:
    """A login that other ssh processes share through a socket. The pod echoes our stdin, so it ends when we do."""

    def __init__(self, ssh: list[str], host: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="cai-")
        self.socket = f"{self.folder}/s"
        command = [*ssh, "-o", "ControlMaster=yes", "-o", f"ControlPath={self.socket}", "--", host, "exec cat"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def start(self, timeout: float) -> str | None:
        """Wait until the pod echoes; None then, else what ssh said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        except OSError:
            return self.process.stderr.read().decode("utf-8", "replace")
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.process.kill()
            return "timed out"
        if self.process.stdout.read1(BLOCK):  # type: ignore[attr-defined]
            return None
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.stderr.read(BLOCK).decode("utf-8", "replace")

    def close(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _path_option(path: Path) -> str:
    """A path as an ssh option's value: quoted, and safe from ssh's own expansions."""
    text = str(path)
    if '"' in text or "${" in text or "\n" in text or "\\" in text:
        raise PodConfigError(
            f"{text}: ssh cannot take a path with a double quote, a backslash or '${{' in it; move the file"
        )
    return '"' + text.replace("%", "%%") + '"'


def rsync_shell(remote: Remote) -> str:
    """The ssh command as rsync's `-e` takes it: words split at blanks, quotes doubled within quotes."""
    return " ".join('"' + word.replace('"', '""') + '"' for word in remote.ssh())


def rsync_host(settings: PodSettings) -> str:
    """The host as rsync takes it, an IPv6 address in brackets."""
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def clean_environment() -> dict[str, str]:
    """Our environment for rsync and git, without what would change how they work."""
    dropped = ("RSYNC_RSH", "RSYNC_OPTIONS", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_SSH")
    return {name: value for name, value in os.environ.items() if name not in dropped}
