"""A process that waits for the next step: it becomes that step, or it is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import alive, processes_of, wait_for

from cai_bootstrap import standby as waiting
from cai_bootstrap.standby import Standby
from cai_bootstrap.supervise import Signals, step_command, supervise


@pytest.fixture
def standby(tmp_path: Path) -> Standby:
    return Standby(tmp_path / "base", tmp_path / "standby.log")


def long_ago() -> float:
    return time.monotonic() - waiting.AFTER_SECONDS


def one_waits(tmp_path: Path) -> int:
    found: list[int] = wait_for(lambda: processes_of(tmp_path / "base"), what="a process that waits")
    return found[0]


def test_it_becomes_the_step_and_says_what_the_step_says(standby: Standby, tmp_path: Path) -> None:
    with standby:
        standby.prepare(long_ago())
        pid = one_waits(tmp_path)
        log = tmp_path / "step.log"
        seen: list[int] = []
        ended = supervise(
            step_command(["--help"]), timeout=120, log=log, signals=Signals(), start=standby.start,
            on_tick=lambda: seen.extend(processes_of(tmp_path / "base")),
        )  # fmt: skip
        assert ended.code == 0
        assert "Do one step with a resolved configuration file" in log.read_text()
        assert set(seen) == {pid}
    assert not (tmp_path / "standby.log").exists()
    assert not alive(pid)


def test_nobody_waits_early_or_twice_or_where_memory_is_scarce(
    standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    real = waiting.start_child
    monkeypatch.setattr(waiting, "start_child", lambda *a, **k: started.append(a) or real(*a, **k))
    with standby:
        standby.prepare(time.monotonic())
        monkeypatch.setattr(waiting, "NEEDED_BYTES", 2**60)
        standby.prepare(long_ago())
        assert not started
        monkeypatch.setattr(waiting, "NEEDED_BYTES", 0)
        standby.prepare(long_ago())
        standby.prepare(long_ago())
        assert len(started) == 1
        pid = one_waits(tmp_path)
    assert not alive(pid)
    assert not (tmp_path / "standby.log").exists()


@pytest.mark.parametrize("why", ["another command", "it has died", "its log is there"])
def test_a_process_of_its_own_where_the_one_that_waits_will_not_do(standby: Standby, tmp_path: Path, why: str) -> None:
    log = tmp_path / "step.log"
    command = step_command(["--help"])
    with standby:
        standby.prepare(long_ago())
        pid = one_waits(tmp_path)
        if why == "another command":
            command = [sys.executable, "-c", "print('Do one step')"]
        elif why == "it has died":
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not alive(pid))
        else:
            log.write_text("of before\n")
        assert supervise(command, timeout=120, log=log, signals=Signals(), start=standby.start).code == 0
        assert "Do one step" in log.read_text()
        assert ("of before" in log.read_text()) == (why == "its log is there")
    assert not alive(pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step.log"]


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import time\nfrom pathlib import Path\nfrom cai_bootstrap.standby import Standby\n"
        f"base = Path({str(tmp_path)!r})\nStandby(base / 'base', base / 'log').prepare(-1e9)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = one_waits(tmp_path)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(pid), what="the end of the process that waits")
