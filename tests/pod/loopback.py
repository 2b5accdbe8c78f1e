"""A pod on this machine: a real sshd on 127.0.0.1 with keys of its own, a cutting proxy, and a stand-in for RunPod."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
PATIENCE_SECONDS = 30.0


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll until a condition holds and return its value; fail, naming it, when the time is up."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if value := true():
            return value
        threading.Event().wait(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path, kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


@dataclass
class Sshd:
    """A running sshd. `restart(new_key=True)` is another machine at the same address."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    extra: str = ""
    stays: bool = False
    login: Any = None

    def __post_init__(self) -> None:
        self.client_key = make_key(self.folder / "client")
        self.host_key = make_key(self.folder / "host")
        (self.folder / "authorized_keys").write_text(self.client_key.with_suffix(".pub").read_text())
        os.makedirs("/run/sshd", exist_ok=True)

    def start(self, prefix: tuple[str, ...] = ()) -> None:
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.host_key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "MaxStartups 100:30:200\nLogLevel ERROR\n"
            + (self.extra or f"SetEnv HOME={self.folder}\n")  # the tester's own shell start-up files stay out
        )
        self.process = subprocess.Popen([*prefix, SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
        until(self._listens, "sshd listens")

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
            return line.recv(4) == b"SSH-"
        return False

    def known_hosts_line(self) -> str:
        kind, blob, *_ = self.host_key.with_suffix(".pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {kind} {blob}\n"

    def stop(self) -> None:
        if self.login is not None:
            self.login.close()
        if self.process is not None:
            for session in self.sessions():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(session, 9)
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, *, new_key: bool = False) -> None:
        self.stop()
        if new_key:
            self.host_key.unlink()
            self.host_key.with_suffix(".pub").unlink()
            make_key(self.host_key)
        self.start()

    def sessions(self) -> list[int]:
        """The processes under this sshd that are still tied to it: sessions, login shells and what they run."""
        assert self.process is not None
        found, front = [], [self.process.pid]
        while front:
            parents, front = front, []
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError, ValueError):
                    if entry.name.isdigit():
                        fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                        if int(fields[1]) in parents:
                            front.append(int(entry.name))
            found += front
        return found

    def fingerprint(self) -> str:
        shown = subprocess.run(
            ["ssh-keygen", "-lf", f"{self.host_key}.pub"], capture_output=True, text=True, check=True
        )
        return shown.stdout.split()[1]


class CuttingProxy:
    """Forwards TCP and breaks each connection after so many bytes towards the client, until `cuts` are used up."""

    def __init__(self, target_port: int, *, cut_after: Callable[[], int], cuts: int) -> None:
        self.target_port, self.cut_after, self.cuts = target_port, cut_after, cuts
        self.made = 0
        self.arming = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target_port)) as server:
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            cutting = self.arming.is_set() and self.made < self.cuts
            left = self.cut_after() if cutting else None
            with contextlib.suppress(OSError):
                while block := server.recv(4096):
                    if left is not None and len(block) >= left:
                        client.sendall(block[:left])
                        self.made += 1
                        break
                    left = None if left is None else left - len(block)
                    client.sendall(block)
            for line in (client, server):
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(4096):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


class RunPodStandIn:
    """RunPod's REST API v2 on loopback: one pod, and answers that can be told to go wrong (`faults`, used in turn)."""

    def __init__(self, *, pod_id: str = "pod123", key: str = "rp-secret-key", price: float = 1.74) -> None:
        self.pod = {
            "id": pod_id,
            "status": "RUNNING",
            "cost": price,
            "startedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.key, self.log = key, ""
        self.faults: list[tuple[str, int, bytes, dict[str, str]]] = []
        self.seen: list[tuple[str, str]] = []
        self.stop_takes = 1
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(code)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                outer.seen.append((self.command, self.path))
                if outer.faults and outer.faults[0][0] == self.command:
                    _, code, text, headers = outer.faults.pop(0)
                    return self.answer(code, text, headers)
                if self.headers.get("Authorization") != f"Bearer {outer.key}":
                    return self.answer(401, b'{"error": "unauthorized"}')
                if self.path == f"/v2/pods/{pod_id}/logs":
                    return self.answer(200, json.dumps({"container": outer.log}).encode())
                if self.command == "POST" and self.path == f"/v2/pods/{pod_id}/action":
                    if json.loads(body) != {"action": "stop"}:
                        return self.answer(400, b"{}")
                    outer.pod["status"] = "STOPPING"
                    return self.answer(200, b"{}")
                if self.command == "GET" and self.path == f"/v2/pods/{pod_id}":
                    if outer.pod["status"] == "STOPPING":
                        outer.stop_takes -= 1
                        if outer.stop_takes < 0:
                            outer.pod.update(status="EXITED", cost=0)
                    return self.answer(200, json.dumps(outer.pod).encode())
                return self.answer(404, b'{"error": "not found"}')

            do_GET = do_POST = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v2"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


JOB = '''\
"""A stand-in for `cai run`: writes events, output and results as the real one does; its words steer it."""
import json, os, signal, sys, time
from pathlib import Path

arguments = sys.argv[1:]
base = Path(arguments[arguments.index("--base-dir") + 1])
def number(name, default):
    return float(arguments[arguments.index(name) + 1]) if name in arguments else default
for folder in ("logs", "results", "data/stage1", "checkpoints/stage1/run"):
    (base / folder).mkdir(parents=True, exist_ok=True)
events = open(base / "logs" / "stand-in.jsonl", "a")
def tell(event, **more):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    events.write(json.dumps({"at": stamp, "event": event, "run": "r1", **more}) + "\\n")
    events.flush()
def stop(*_):
    (base / "checkpoints/stage1/run/half.bin").write_bytes(b"kept")
    print("stopping cleanly", flush=True)
    tell("run_finished", exit_code=143)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
tell("run_started")
tell("step_started", step="generate")
lines, pause = int(number("--lines", 3)), number("--pause", 0.01)
for i in range(lines):
    print(f"line {i}", flush=True)
    tell("progress", step="generate", done=i + 1, total=lines, tokens_per_second=100.0, eta_seconds=(lines - i) * pause)
    time.sleep(pause)
tell("step_finished", step="generate", seconds=lines * pause)
(base / "data/stage1/preference_pairs.jsonl").write_text('{"prompt": "p"}\\n' * 50)
(base / "checkpoints/stage1/run/adapter.bin").write_bytes(bytes(range(256)) * 64)
(base / "results/name with 'quotes', $HOME and spaces.json").write_text("{}")
if "--write-lot" in arguments:
    (base / "data/stage1/big.bin").write_bytes(b"x" * int(number("--write-lot", 0)))
if "--kill-self" in arguments:
    os.kill(os.getpid(), signal.SIGKILL)
code = int(number("--exit", 0))
print("TOKEN_LENGTH", len(os.environ.get("HF_TOKEN", "")), flush=True)
steps = {"generate": {"status": "done", "seconds": lines * pause, "skipped": False}}
(base / "results/run.json").write_text(json.dumps({"verdict": "passed", "exit_code": code, "steps": steps}))
tell("run_finished", exit_code=code)
sys.exit(code)
'''


@dataclass
class Pod:
    """A configured loopback pod and the `cai pod` commands against it."""

    home: Path
    sshd: Sshd
    base: Path
    config: dict[str, Any]
    source: Path
    target: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.home / "pod.yaml"

    def write(self, **changes: Any) -> None:
        """Write pod.yaml, with changes; a dictionary is merged into the part of that name."""
        for name, value in changes.items():
            self.config[name] = {**self.config.get(name, {}), **value} if isinstance(value, dict) else value
        self.path.write_text(yaml.safe_dump(self.config))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "cai_bootstrap", "pod", "--config", str(self.path), *words]

    def env(self) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith(("CAI_", "RUNPOD_", "HF_"))}
        sources = str(Path(__file__).parents[2] / "src")
        return known | {"CAI_STATE_DIR": str(self.home / "state"), "PYTHONPATH": sources} | self.environment

    def cai(self, *words: str, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Run `cai pod WORDS` in this process; checks the exit code unless it is None."""
        from cai_bootstrap.cli import run_command

        argv = self.command(*words)[3:]
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.env(), clear=True),
            contextlib.chdir(self.home),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            open(os.devnull) as nothing,
            mock.patch.object(sys, "stdin", nothing),
            self.shared_login(),
        ):
            got = run_command(argv)
        done = subprocess.CompletedProcess(argv, got, out.getvalue(), err.getvalue())
        assert code is None or got == code, f"{words}: {got}\n{done.stdout}\n{done.stderr}"
        return done

    @contextlib.contextmanager
    def shared_login(self) -> Iterator[None]:
        """Commands of this process log in once and stay logged in, which saves most of these tests' time.

        Only while they use the shared sshd and its key: what goes wrong on the way is tested with logins of its own.
        """
        from cai_bootstrap.pod.ssh import Remote

        alone, close = Remote.open, Remote.close
        plain = self.sshd.stays and self.config["key"] == str(self.sshd.client_key)

        def stay(remote: Remote, timeout: float) -> None:
            if not plain or remote.settings.port != self.sshd.port:
                return alone(remote, timeout)
            if self.sshd.login is None or self.sshd.login._shared.process.poll() is not None:  # type: ignore[union-attr]
                self.sshd.login = Remote(remote.settings)
                alone(self.sshd.login, timeout)
            remote._shared = self.sshd.login._shared
            return None

        def leave(remote: Remote) -> None:
            if self.sshd.login is None or remote._shared is not self.sshd.login._shared:
                close(remote)

        with mock.patch.object(Remote, "open", stay), mock.patch.object(Remote, "close", leave):
            yield

    def json(self, *words: str, code: int | None = 0) -> Any:
        return json.loads(self.cai(*words, *([] if "--json" in words else ["--json"]), code=code).stdout)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command and go on."""
        return subprocess.Popen(
            self.command(*words), env=self.env(), cwd=self.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end_processes(self) -> None:
        """End what was left running for this pod: watchdog, supervisor, job."""
        end_pod_processes(self.base)

    def job_folder(self) -> Path:
        return self.base / ".pod" / "jobs" / json.loads((self.base / ".pod" / "current.json").read_text())["id"]

    def acts(self) -> list[str]:
        """The events of the watchdog's log."""
        path = self.base / ".pod" / "watchdog.jsonl"
        return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


def end_pod_processes(base: Path) -> None:
    """End what tests left running for this base directory: watchdog, supervisor, job."""
    for path in [
        base / ".pod" / "watchdog.pid.json",
        *base.glob(".pod/jobs/*/supervisor.json"),
        *base.glob(".pod/jobs/*/job.json"),
    ]:
        with contextlib.suppress(OSError, ValueError):
            who = json.loads(path.read_text())
            stat = Path(f"/proc/{who['pid']}/stat").read_text().rsplit(")", 1)[1].split()
            if stat[19] == who["start"]:
                os.kill(who["pid"], 9)


def stand_in_checkout(folder: Path) -> Path:
    """A small git checkout whose job is the stand-in."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "job.py").write_text(JOB)
    (folder / "pyproject.toml").write_text("[project]\nname = 'stand-in'\nversion = '1'\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def mounted_small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of so many bytes mounted at a folder (needs the right to mount)."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
