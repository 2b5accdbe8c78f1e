"""The live page: only loopback, only reading, only local names; it follows the events and renews itself."""

import contextlib
import getpass
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from pod.loopback import Sshd, free_port, until
from synthetic import RUN, baseline, make_run, train

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.report import report
from cai_bootstrap.events import (
    EventLog,
    Notice,
    RunFinished,
    RunStarted,
    StepFinished,
    StepProgress,
    StepStarted,
    TrainStep,
)
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.report import live
from cai_bootstrap.report.live import live_state, serve
from cai_bootstrap.run.folder import RunFolder


@pytest.fixture
def going_on(tmp_path: Path) -> RunFolder:
    """A run whose training goes on."""
    workspace = RunFolder.at(tmp_path).create()
    baseline(workspace, load_suite("quick"))
    log = EventLog(workspace.logs / f"{RUN}.jsonl", RUN)
    log.emit(RunStarted(steps=["baseline", "train"]))
    log.emit(StepFinished(step="baseline", status="done", seconds=61.0, skipped=False, exit_code=0))
    log.emit(StepStarted(step="train", timeout=10_800))
    log.emit(Notice(step="train", message="\x1b[31m2 of 20 pairs do not train <b>"))
    log.emit(TrainStep(step="train", number=1, figures={"loss": 1.25, "nll": 1.0}))
    log.emit(StepProgress(step="train", done=1, total=40, eta_seconds=195.0))
    return workspace


@pytest.fixture
def address(going_on: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(live, "MIN_SECONDS_BETWEEN_PAGES", 0.0)
    monkeypatch.setattr(live, "REST_AFTER_PAGE", 0)
    server = serve(going_on, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield str(server.server_address[0]), int(server.server_address[1])
    server.shutdown()
    server.server_close()
    thread.join()


def ask(
    address: tuple[str, int], path: str = "/", method: str = "GET", host: str | None = None
) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_it_listens_on_loopback_only(address: tuple[str, int]) -> None:
    assert address[0] == "127.0.0.1"


def test_it_reads_and_never_writes(address: tuple[str, int], going_on: RunFolder) -> None:
    before = snapshot(going_on.base)
    assert ask(address)[0] == 200
    assert ask(address, "/live.json")[0] == 200
    assert snapshot(going_on.base) == before


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(address: tuple[str, int], method: str) -> None:
    assert ask(address, method=method)[0] == 501


@pytest.mark.parametrize("path", ["/results/run.json", "/../etc/passwd", "/./", "/index.html", "/?x=1", "/%2e%2e/"])
def test_only_the_page_and_its_state_are_served(address: tuple[str, int], path: str) -> None:
    assert ask(address, path)[:2] == (404, "not here\n")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "[::2]:80"])
def test_a_name_of_elsewhere_is_refused(address: tuple[str, int], host: str) -> None:
    status, said, _ = ask(address, host=host)
    assert status == 403
    assert "127.0.0.1" in said


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:8765", "127.0.0.1", "[::1]:22"])
def test_a_tunnel_from_another_port_works(address: tuple[str, int], host: str) -> None:
    assert ask(address, "/live.json", host=host)[0] == 200


def test_head_gives_no_body_and_answers_are_not_kept(address: tuple[str, int]) -> None:
    status, body, headers = ask(address, method="HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 10_000
    assert (headers["Cache-Control"], headers["X-Frame-Options"]) == ("no-store", "DENY")


def test_the_state_tells_what_happens_now(going_on: RunFolder) -> None:
    state = live_state(going_on)
    assert state["line"].startswith("train: 1 of 40, about 3 min 15 s left, loss 1.25")
    assert state["share"] == 1 / 40
    assert state["steps"] == ["baseline: done, 1 min 01 s"]
    assert "␛[31m2 of 20 pairs do not train <b>" in state["notices"][0]


def test_the_state_of_nothing_and_of_a_finished_run(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path)
    assert live_state(workspace)["line"] == "No run has written an events file here yet."
    log = EventLog(workspace.logs / f"{RUN}.jsonl", RUN)
    log.emit(RunStarted())
    assert live_state(workspace)["line"] == "The run has begun."
    log.emit(RunFinished(exit_code=3, verdict="failed"))
    assert live_state(workspace)["line"] == "The run has ended: failed (exit code 3)."
    with log.path.open("ab") as file:
        file.write(b'{"event": "progress", "done": "x", "tot')
    assert live_state(workspace)["share"] == 1.0


@pytest.mark.slow
def test_the_page_follows_the_run_and_keeps_what_the_reader_chose(
    address: tuple[str, int], going_on: RunFolder, visit: Callable[..., Any]
) -> None:
    page = visit(f"http://{address[0]}:{address[1]}/", elsewhere=True)
    expect(page.locator("#live-line")).to_contain_text("train: 1 of 40")
    expect(page.locator("#headline")).to_contain_text("Baseline only")
    page.select_option("#items-filters select[name=type]", "question")
    page.locator("#headline").click()
    page.evaluate("document.activeElement.blur()")
    log = EventLog(going_on.logs / f"{RUN}.jsonl", RUN)
    for number in range(2, 21):
        log.emit(TrainStep(step="train", number=number, figures={"loss": 1.0 / number}))
    log.emit(StepProgress(step="train", done=20, total=40, eta_seconds=100.0))
    expect(page.locator("#live-line")).to_contain_text("train: 20 of 40", timeout=40_000)
    expect(page.locator("#training")).to_contain_text("20 training steps are recorded", timeout=40_000)
    assert page.input_value("#items-filters select[name=type]") == "question"
    expect(page.locator("#items-count")).to_contain_text("6 of 24")
    assert page.evaluate("document.getElementById('live-bar').value") == 0.5


@pytest.fixture
def tunnel(address: tuple[str, int], tmp_path: Path) -> Iterator[int]:
    """The near end of `ssh -L` through a real sshd, on another port than the page's."""
    sshd = Sshd(tmp_path)
    sshd.start()
    (tmp_path / "known_hosts").write_text(sshd.known_hosts_line())
    near = free_port()
    options = {
        "IdentitiesOnly": "yes", "BatchMode": "yes", "UserKnownHostsFile": str(tmp_path / "known_hosts"),
        "ExitOnForwardFailure": "yes",
    }  # fmt: skip
    command = ["ssh", "-N", "-T", "-F", "/dev/null", "-p", str(sshd.port), "-i", str(sshd.client_key)]
    command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command += ["-L", f"127.0.0.1:{near}:127.0.0.1:{address[1]}", f"{getpass.getuser()}@127.0.0.1"]
    with subprocess.Popen(command) as ssh:

        def listens() -> bool:
            assert ssh.poll() is None, "ssh ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", near), timeout=1):
                return True
            return False

        until(listens, "the tunnel's near end listens")
        yield near
        ssh.terminate()
    sshd.stop()


@pytest.mark.slow
def test_through_an_ssh_tunnel_the_page_is_the_same_and_goes_on(
    tunnel: int, going_on: RunFolder, visit: Callable[..., Any]
) -> None:
    for host in ("127.0.0.1", "localhost"):
        page = visit(f"http://{host}:{tunnel}/", elsewhere=True)
        expect(page.locator("#live-line")).to_contain_text("train: 1 of 40")
        expect(page.locator("#headline")).to_contain_text("Baseline only")
    log = EventLog(going_on.logs / f"{RUN}.jsonl", RUN)
    log.emit(StepProgress(step="train", done=30, total=40, eta_seconds=50.0))
    expect(page.locator("#live-line")).to_contain_text("train: 30 of 40", timeout=40_000)


@pytest.mark.slow
def test_a_run_that_ends_shows_its_verdict(
    address: tuple[str, int], going_on: RunFolder, visit: Callable[..., Any]
) -> None:
    page = visit(f"http://{address[0]}:{address[1]}/", elsewhere=True)
    expect(page.locator("#headline")).to_contain_text("Baseline only")
    make_run(going_on.base, suite_name="quick", count=16)
    train(going_on, load_suite("quick"), steps=3)
    expect(page.locator("#headline")).to_contain_text("of 24 held-out instructions followed", timeout=40_000)


def test_a_port_that_is_taken_is_exit_2(
    address: tuple[str, int], going_on: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--base-dir", str(going_on.base), "--live", "--port", str(address[1])]
    assert run_command(arguments, report) == 2
    assert "choose another with --port" in capsys.readouterr().err


def test_the_command_serves_until_it_is_interrupted(going_on: RunFolder) -> None:
    call = "import sys; from cai_bootstrap.cli import run_command; from cai_bootstrap.cli.report import report; "
    call += "sys.exit(run_command(sys.argv[1:], report))"
    arguments = [sys.executable, "-c", call, "--base-dir", str(going_on.base), "--live", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        port = int(line.split("/")[2].rsplit(":", 1)[1])
        assert json.loads(ask(("127.0.0.1", port), "/live.json")[1])["steps"] == ["baseline: done, 1 min 01 s"]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
