"""Input at the door and output out of it, by kinds: YAML, lines, arguments, streams, locks, names of files."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from measured import conditions_for, make_items, measured, outputs_with
from stubs import Cai

from cai_bootstrap.config import resolve
from cai_bootstrap.errors import DataError, LockedError, UsageError
from cai_bootstrap.events import EventLog, Notice
from cai_bootstrap.files import JsonlWriter, jsonl_lines, write_atomic, write_jsonl
from cai_bootstrap.judging.suite import Suite, items_sha256
from cai_bootstrap.measuring.ledger import open_test, openings
from cai_bootstrap.measuring.results import build_results, write_results
from cai_bootstrap.report.build import report_page
from cai_bootstrap.report.live import live_state
from cai_bootstrap.run import lock
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.yaml_files import load_yaml, read_yaml

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: x\nmodel: caf\xe9\n", "is not UTF-8 text (line 2, byte 20 is 0xe9); save it as UTF-8"),
        ("model: x".encode("utf-16"), "is UTF-16 text"),
        (b"seed: 1\nbudget: 3\nseed: 2\n", "(line 3): the key 'seed' stands twice (lines 1 and 3); leave one"),
        (b"training: {beta: 1, beta: 2}\n", "the key 'beta' stands twice (lines 1 and 1)"),
        (b"model: " + b"[" * 5000, "nested deeper than 64 levels"),
        (b"".join(b"  " * n + b"a:\n" for n in range(500)), "nested deeper than 64 levels"),
        (BOMB.encode(), "with its aliases written out it holds more than 200,000 values"),
        (b"training: &a {beta: *a}\n", "an alias stands within what it stands for"),
        (b"seed: 2026-13-45\n", "'2026-13-45' is no timestamp, which it looks like: month must be in 1..12"),
        (b"seed: " + b"9" * 5000 + b"\n", "is no int, which it looks like"),
        (b"seed: !!int x\n", "'x' is no int"),
        (b"seed: !!bool x\n", "'x' is no bool"),
        (b"? [a, b]\n: c\n", "a key is no text"),
        (b'model: "\\ud800"\n', "it holds U+D800, which is no text"),
        (b'model: "a\\0b"\n', "it holds U+0000, which is no text"),
        (b"a: " + b" " * (5 * 1024**2), "is larger than 4 MiB"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_yaml_file_that_nobody_wrote_by_intent_is_refused_in_a_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_yaml(path, what="configuration file")
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_that_people_write_is_read() -> None:
    text = "\na: &base {x: 1, y: 010}\nb: {<<: *base, x: 2}\nc: [yes, 1e-5, 1.5e+3, .5, 0x10, 1_000, 1:30]\n"
    assert load_yaml(text) == {
        "a": {"x": 1, "y": "010"},
        "b": {"x": 2, "y": "010"},
        "c": [True, "1e-5", 1500.0, 0.5, 16, 1000, "1:30"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {learning_rate: .inf}", "training.learning_rate = inf: Input should be a finite number"),
        ("training: {beta: 1e400}", "training.beta = '1e400': Input should be a finite number"),
        ("generation: {temperature: .nan}", "generation.temperature = nan: Input should be a finite number"),
        ("seed: 2026-01-02", "seed = 2026-01-02: Input should be a valid integer"),
        ("seed: 1:30", "seed = '1:30': Input should be a valid integer"),
        ("seed: 5000000000", "seed = 5000000000: Input should be less than 4294967296"),
        ("training: {lora_targets: []}", "training.lora_targets = []"),
        ("training: {beta: 0.2}\ntraining.beta: 0.3", "'training.beta' is set twice; leave one"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve({}, config_file=path, environment={})
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_a_section_all_of_whose_lines_are_comments_and_a_number_with_a_zero_before_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("seed: 010\ntraining:\n#  beta: 0.2\n")
    resolved = resolve({}, config_file=path, environment={}).config
    assert (resolved.seed, resolved.training.beta) == (10, 0.1)


def test_lines_of_json_end_at_newlines_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "b\xe2\x80\xa8c\xc2\x85d"}\r\n\n{"a": 2}\n \n')
    assert list(jsonl_lines(path)) == [(1, '{"a": "b\u2028c\x85d"}'), (3, '{"a": 2}')]
    path.write_bytes(b'{"a": 1}\n{"a": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl: line 2, byte 20: 0xe9 is not UTF-8 there"):
        list(jsonl_lines(path))


def test_the_ledger_of_openings_is_read_whatever_a_suite_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path))
    suite = Suite("a\u2028b", "e" * 64, "user", ())
    assert [open_test(suite, "baseline"), open_test(suite, "baseline")] == [1, 2]
    assert [entry.suite for entry in openings(suite.sha256)] == ["a\u2028b"] * 2


def test_an_argument_that_is_no_utf_8_is_refused(tmp_path: Path, cai: Cai) -> None:
    code, _, err = cai("run", "--base-dir", tmp_path / "b", "--model", "caf\udce9")
    assert (code, err) == (2, "error: the argument caf⟨U+DCE9⟩ is not UTF-8 text; write it in UTF-8 (and set a locale "
                              "that has it, such as LC_ALL=C.UTF-8), or rename the file\n")  # fmt: skip
    assert not (tmp_path / "b").exists()


def _shell(command: str) -> tuple[int, str, str]:
    """A command line with `cai` in it, and its exit code."""
    cai = f"'{sys.executable}' -m cai_bootstrap"
    done = subprocess.run(
        ["bash", "-c", command.replace("cai", cai, 1)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


OUTPUTS = ["", ">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&- <&-", "| head -0", "2>&1 | true"]


@pytest.mark.parametrize("streams", OUTPUTS)
def test_the_exit_code_stays_whatever_becomes_of_the_output(tmp_path: Path, streams: str) -> None:
    """A command in the place of `gate`,
    which imports for seconds: the streams and what holds them are the real ones."""
    script = tmp_path / "verdict.py"
    script.write_text(
        "import click\nfrom rich.console import Console\nfrom cai_bootstrap import cli\n"
        "from cai_bootstrap.errors import GateError\n"
        "def verdict(*_, **__):\n    click.echo('y' * 99999)\n    Console().print('z\\n' * 3000)\n"
        "    open('/dev/null').close()\n    raise GateError('few followed')\n"
        "cli.cli.main = verdict\ncli.main([])\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' {script} {streams}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
    if not streams or streams == ">&-":
        assert done.stderr == "error: few followed\n"


@pytest.mark.long
@pytest.mark.parametrize("streams", OUTPUTS)
def test_the_gates_verdict_stays_whatever_becomes_of_the_output(tmp_path: Path, streams: str) -> None:
    suite = Suite("suite", items_sha256(make_items()), "user", make_items())
    write_jsonl(tmp_path / "suite.jsonl", suite.items)
    outputs = outputs_with(suite, 20)
    results = build_results(suite=suite, conditions=conditions_for(suite), base=measured(outputs),
                            trained=measured(outputs, "c" * 64), enforced=True)  # fmt: skip
    write_results(tmp_path / "r.json", results)
    command = f"cai gate {tmp_path / 'r.json'} --suite {tmp_path / 'suite.jsonl'} {streams}; exit ${{PIPESTATUS[0]}}"
    code, out, err = _shell(command)
    assert code == 3
    assert "Traceback" not in out + err


def test_a_success_whose_output_a_full_disk_swallowed_is_none_but_a_reader_may_stop_reading() -> None:
    assert _shell("cai config presets >/dev/full") == (
        1, "", "error: the output was lost: No space left on device\n",
    )  # fmt: skip
    code, out, err = _shell("cai config show | head -1; exit ${PIPESTATUS[0]}")
    assert (code, len(out.splitlines()), err) == (0, 1, "")


def test_a_fault_of_its_own_is_a_line_and_its_traceback_a_file(tmp_path: Path) -> None:
    code = "from cai_bootstrap import cli; cli.run_command = lambda *_: {}['nothing']; cli.main(['config', 'show'])"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)},
    capture_output=True,
                          text=True, check=False)  # fmt: skip
    (trace,) = tmp_path.glob("cai-*.trace")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: a fault of cai itself: KeyError: 'nothing' (<string>, line 1); please report")
    assert done.stderr.endswith(f" with {trace}\n")
    assert "Traceback" in trace.read_text()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_file_has_no_more_rights_than_the_umask_leaves_and_others_cannot_write_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "whole", "x")
        write_jsonl(tmp_path / "rows", [{"a": 1}])
        with JsonlWriter(tmp_path / "appended") as writer:
            writer.write({"a": 1})
        EventLog(tmp_path / "events", "r").emit(Notice(step="s", message="m"))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("whole", "rows", "appended", "events"), 0o644 & ~umask)


def test_a_link_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    for name in ("whole", "rows", "appended", "events"):
        (tmp_path / name).symlink_to(precious)
    (tmp_path / f".rows.{os.getpid()}.tmp").symlink_to(precious)  # the name that could once be foreseen
    precious.write_text("mine\n")
    write_atomic(tmp_path / "whole", "x")
    write_jsonl(tmp_path / "rows", [{"a": 1}])
    with pytest.raises(UsageError, match="appended: a link, a pipe or a device, to which no run appends"):
        JsonlWriter(tmp_path / "appended")
    with pytest.raises(UsageError, match="events: a link"):
        EventLog(tmp_path / "events", "r").emit(Notice(step="s", message="m"))
    assert precious.read_text() == "mine\n"
    assert [(tmp_path / name).is_symlink() for name in ("whole", "rows")] == [False, False]


def test_a_device_a_pipe_or_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "out", tmp_path):
        with pytest.raises(UsageError, match="a folder, a pipe or a device, in whose place no file is put"):
            write_atomic(path, "x")
        with pytest.raises(UsageError, match="in whose place no file is put"):
            write_jsonl(path, [])
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "out"}


def test_whoever_waits_for_a_lock_says_so_and_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, "SILENT_WAIT", 0.05)
    path = tmp_path / "x.lock"
    other = FileLock(path)
    refused = pytest.raises(LockedError, match="another process has held the ledger for 0 s; stop it")
    with other, refused, lock.waiting_lock(path, "the ledger", patience=0.2):
        pass
    assert capsys.readouterr().err == f"waiting for the ledger: another process holds {path}\n"
    with lock.waiting_lock(path, "the ledger"):
        pass
    assert capsys.readouterr().err == ""


def test_broken_lines_of_events_cost_themselves_alone(tmp_path: Path) -> None:
    workspace = RunFolder.at(tmp_path).create()
    log = EventLog(workspace.logs / "20261122T103000Z.jsonl", "r")
    log.emit(Notice(step="train", message="[/b]\x1b[31m"))
    lines = (b'{"event": "progress", "step": "train", "done": 1, "total": 2, "eta_seconds": Infinity}',
             b'{"event": "progress", "step": "train", "done": 1' + b"0" * 400 + b', "total": 2}',
             b'{"event": "step_started", "step": ["train"], "timeout": 9}', b'{"event": "step_finished"}',
             b"\xff\xfe", b"[" * 9999,
             b'{"event": "train_step", "step": "train", "number": 1, "figures": {"loss": NaN}}')  # fmt: skip
    with log.path.open("ab") as target:
        target.write(b"\n".join(lines) + b"\n")
    state = live_state(workspace)
    assert [notice.split(" ", 1)[1] for notice in state["notices"]] == ["train: [/b]␛[31m"]
    assert "Infinity" not in report_page(workspace, live=True)
