"""A process that waits for the next step: it becomes that step, or it is gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import alive, processes_of, wait_for

from cai_bootstrap import standby as waiting
from cai_bootstrap.standby import Standby
from cai_bootstrap.supervise import Signals, step_command, supervise

QUICK = "from cai_bootstrap.cli import waiting\nwaiting.MODULES = ()\nwaiting.main()"
SAID = "Do one step with a resolved configuration file"


@pytest.fixture
def standby(tmp_path: Path) -> Standby:
    return Standby(tmp_path / "base", tmp_path / "standby.log")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports nothing, so that it is ready at once."""
    becomes(monkeypatch, QUICK)


def becomes(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(waiting, "waiting_command", lambda base: [sys.executable, "-c", code, str(base)])


def started(standby: Standby, tmp_path: Path) -> int:
    """Start one and wait until it is ready; its process id."""
    standby.prepare(waiting.AFTER_SECONDS)
    line, child = standby._line, standby._waiting
    assert line is not None
    assert child is not None
    line.settimeout(120)
    assert line.recv(1, socket.MSG_PEEK) == waiting.READY
    assert processes_of(tmp_path / "base") == [child.process.pid]
    return child.process.pid


def test_it_becomes_the_step_and_says_what_the_step_says(standby: Standby, tmp_path: Path) -> None:
    """With all that it imports."""
    with standby:
        pid = started(standby, tmp_path)
        log = tmp_path / "step.log"
        seen: list[int] = []
        ended = supervise(
            step_command(["--help"]), timeout=120, log=log, signals=Signals(), start=standby.start,
            on_tick=lambda: seen.extend(processes_of(tmp_path / "base")),
        )  # fmt: skip
        assert ended.code == 0
        assert SAID in log.read_text()
        assert set(seen) <= {pid}
    assert not alive(pid)
    assert [path.name for path in tmp_path.iterdir()] == ["step.log"]


@pytest.mark.usefixtures("quick")
def test_nobody_waits_early_or_twice_or_where_memory_is_scarce(
    standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standby:
        standby.prepare(waiting.AFTER_SECONDS - 1)
        assert standby._waiting is None
        monkeypatch.setattr(waiting, "free_memory", lambda: waiting.NEEDED_BYTES - 1)
        standby.prepare(waiting.AFTER_SECONDS)
        assert standby._waiting is None
        monkeypatch.setattr(waiting, "free_memory", lambda: waiting.NEEDED_BYTES + 1)
        pid = started(standby, tmp_path)
        monkeypatch.setattr(waiting, "free_memory", lambda: waiting.SCARCE_BYTES + 1)
        standby.prepare(waiting.AFTER_SECONDS)
        assert standby._waiting is not None
        assert alive(pid)
        monkeypatch.setattr(waiting, "free_memory", lambda: waiting.SCARCE_BYTES - 1)
        standby.prepare(waiting.AFTER_SECONDS)
        assert not alive(pid)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_that_of_the_container_where_it_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "CGROUP", tmp_path)
    machine = waiting.free_memory()
    assert machine > 10**8
    (tmp_path / "memory.current").write_text("50000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 30000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert waiting.free_memory() > 10**8
    (tmp_path / "memory.max").write_text("60000000\n")
    assert waiting.free_memory() == 40_000_000


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("why", ["another command", "it has died", "its log is there", "code has changed", "no rename"])
def test_a_process_of_its_own_where_the_one_that_waits_will_not_do(
    standby: Standby, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "step.log"
    command = step_command(["--help"])
    with standby:
        pid = started(standby, tmp_path)
        if why == "another command":
            command = [sys.executable, "-c", f"print({SAID!r})"]
        elif why == "it has died":
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not alive(pid))
        elif why == "its log is there":
            log.write_text("of before\n")
        elif why == "code has changed":
            monkeypatch.setattr(waiting, "changed_since", lambda moment: moment < time.time())
        else:
            (tmp_path / "standby.log").unlink()
        assert supervise(command, timeout=120, log=log, signals=Signals(), start=standby.start).code == 0
        assert SAID in log.read_text()
        assert ("of before" in log.read_text()) == (why == "its log is there")
        assert not alive(pid)
    assert [path.name for path in tmp_path.iterdir()] == ["step.log"]


def test_one_that_cannot_import_is_not_asked(standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes(monkeypatch, QUICK.replace("()", "('no_such_module',)"))
    with standby:
        standby.prepare(waiting.AFTER_SECONDS)
        child = standby._waiting
        assert child is not None
        assert child.process.wait(60) not in {0, None}
        log = tmp_path / "step.log"
        ended = supervise(step_command(["--help"]), timeout=120, log=log, signals=Signals(), start=standby.start)
        assert ended.code == 0
        assert SAID in log.read_text()


def test_one_that_is_not_ready_yet_is_not_waited_for(
    standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(monkeypatch, "import time\ntime.sleep(600)")
    with standby:
        standby.prepare(waiting.AFTER_SECONDS)
        assert supervise(
            step_command(["--help"]), timeout=120, log=tmp_path / "step.log", signals=Signals(), start=standby.start
        ).code == 0  # fmt: skip
        assert processes_of(tmp_path / "base") == []


@pytest.mark.usefixtures("quick")
def test_an_interrupt_ends_it_at_once(standby: Standby, tmp_path: Path) -> None:
    with standby:
        pid = started(standby, tmp_path)
        os.kill(pid, signal.SIGINT)
        wait_for(lambda: not alive(pid), seconds=5)


def test_the_code_that_is_there_has_not_changed() -> None:
    assert not waiting.changed_since(time.time())
    assert waiting.changed_since(0.0)


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom cai_bootstrap.standby import Standby\n"
        f"base = Path({str(tmp_path)!r})\nwaits = Standby(base / 'base', base / 'log')\nwaits.prepare(1e9)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = wait_for(lambda: processes_of(tmp_path / "base"), what="a process that waits")[0]
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(pid), what="the end of the process that waits")
