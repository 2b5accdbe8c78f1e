"""A pod that is broken or not ours: what it sends becomes a sentence, no traceback, and never steers the terminal."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cai_bootstrap.files import sha256_file
from cai_bootstrap.pod import answers, host_keys, pull
from cai_bootstrap.pod.answers import Status
from cai_bootstrap.pod.bounded import TooMuchOutputError, run_bounded
from cai_bootstrap.pod.errors import UnreachableError, UnreadableError
from cai_bootstrap.pod.follow import Follower
from cai_bootstrap.pod.settings import load_settings
from cai_bootstrap.pod.ssh import Answer, Remote
from cai_bootstrap.printable import message, one_line, visible

from .loopback import Pod

ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\u2066[/b][red]\r"
HUGE = "9" * 400
NOW = 1_796_000_000.0
RUNNING = {"state": "running", "job": "j1", "slot": "run", "began": NOW, "now": NOW + 5, "fetched": False}
FINISHED = RUNNING | {"state": "finished", "exit_code": 0, "ended": NOW + 60, "last_lines": [], "free_bytes": 1}
WATCHDOG = {"armed": True, "alive": True, "can_stop": True, "acts": [],
            "money": {"seconds": 1.0, "price": 1.74, "spent": 0.5, "budget": None, "deadline_in": None}}  # fmt: skip
NONSENSE = [
    "", "null", "7", "[]", '"text"', "{}", "{", "<html>", "NaN", '{"state": 7}', '{"state": "asleep"}', "\ud800",
    "[" * 100_000, '{"state": "finished", "job": "j"}', '{"a":' * 50_000,
]  # fmt: skip
COMMANDS = [("status",), ("watch",), ("logs",), ("pull",), ("push",), ("run",), ("stop", "--job-only")]
Cai = Callable[..., tuple[int, str]]


def is_harmless(text: str) -> bool:
    """Whether a terminal shows it and does nothing else."""
    return all(c in "\n\t" or c.isprintable() for c in text)


class HostilePod:
    """A pod that answers each verb with what a test sets: bytes, text, or a value that becomes JSON."""

    def __init__(self, settings: Any, folder: Path) -> None:
        self.remote = Remote(settings)
        self.folder = folder
        self.verbs: dict[str, Any] = {"status": FINISHED | {"watchdog": WATCHDOG}, "noted": None, "fetched": ""}
        self.calls: list[str] = []
        self.errors, self.code = "", 0

    def run(self, argv: list[str], **_: Any) -> Answer:
        verb = argv[5] if len(argv) > 5 else "shell"
        self.calls.append(verb)
        return Answer(self.code, as_bytes(self.verbs.get(verb, "")), message(self.errors))

    def says(self, *frames: Any) -> None:
        """What `follow` sends, a line for each frame."""
        (self.folder / "frames").write_bytes(b"\n".join(map(as_bytes, frames)) + b"\n")

    def command(self, _: list[str], **__: Any) -> list[str]:
        return ["cat", str(self.folder / "frames")]


def as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")


@pytest.fixture
def hostile(pod: Pod, tmp_path: Path) -> Iterator[HostilePod]:
    made = HostilePod(load_settings(pod.path), tmp_path)
    with (
        mock.patch("cai_bootstrap.cli.pod_context.Context.connect", return_value=made.remote),
        mock.patch.object(made.remote, "run", made.run),
        mock.patch.object(made.remote, "command", made.command),
    ):
        yield made


@pytest.fixture
def cai(pod: Pod, hostile: HostilePod) -> Cai:  # noqa: ARG001 - it stands in for the pod
    """Run `cai pod WORDS` against the hostile pod; its exit code, and all it printed, which must be harmless."""

    def run(*words: str) -> tuple[int, str]:
        done = pod.cai(*words, code=None)
        assert is_harmless(done.stdout + done.stderr), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("words", COMMANDS)
def test_an_answer_that_is_none_is_named_unreadable(
    cai: Cai, hostile: HostilePod, words: tuple[str, ...], answer: str
) -> None:
    hostile.verbs = dict.fromkeys(("status", "logs", "manifest", "arm", "start", "noted", "tree"), answer)
    code, printed = cai(*words)
    assert code == 1
    assert "unreadable" in printed or "no rental is open" in printed


@pytest.mark.parametrize("field", sorted(FINISHED))
@pytest.mark.parametrize("value", [None, [], {}, "x" * 3_000_000, HUGE, "NaN", "1e999", True, ESCAPE, "\ud800", -1])
def test_a_status_with_any_field_of_another_kind_ends_in_a_sentence(
    cai: Cai, hostile: HostilePod, field: str, value: Any
) -> None:
    sent = json.dumps(FINISHED | {"watchdog": WATCHDOG, field: "@"})
    raw = value in (HUGE, "NaN", "1e999")
    hostile.verbs["status"] = sent.replace('"@"', value if raw else json.dumps(value))
    code, printed = cai("status")
    assert code in (0, 1)
    assert code == 0 or "unreadable" in printed
    assert len(printed) < 60_000


@pytest.mark.parametrize("exit_code", [256, -1, 512, 10**30, 0.0, "0", None, True])
def test_an_exit_code_that_would_leave_as_zero_is_refused(exit_code: object) -> None:
    with pytest.raises(UnreadableError, match="exit_code"):
        answers.read(Status, FINISHED | {"exit_code": exit_code}, "the job's status")


def test_last_lines_and_reasons_reach_the_terminal_harmless(cai: Cai, hostile: HostilePod) -> None:
    hostile.verbs["status"] = FINISHED | {
        "exit_code": 3, "reason": ESCAPE, "slot": ESCAPE, "last_lines": [ESCAPE, "a\nerror: forged", "y" * 100_000],
        "watchdog": WATCHDOG,
    }  # fmt: skip
    code, printed = cai("status")
    assert code == 0
    assert "[/b]" in printed
    assert "\nerror: forged" not in printed
    assert len(printed) < 20_000


def test_what_a_pod_says_on_stderr_reaches_the_terminal_harmless(cai: Cai, hostile: HostilePod) -> None:
    hostile.errors, hostile.code = ESCAPE + "x" * 1_000_000, 1
    for words in (("status",), ("pull",), ("push",), ("logs",)):
        code, printed = cai(*words)
        assert code == 1
        assert len(printed) < 10_000


GOOD = [
    {"k": "out", "o": 5, "t": "line one"},
    {"k": "ev", "f": "a.jsonl", "o": 9, "t": json.dumps({"event": "step_started", "step": "train"})},
    {"k": "tick", "job": "j1", "over": False, "gpu": [], "money": None, "free_bytes": 5},
]
BAD_FRAMES: list[Any] = [
    b"{", b"\xff\xfe\xff", b"[" * 100_000, b"7", b"null", b'"text"', b"[]", b"{}", {"k": 7}, {"k": "out"},
    {"k": "tick"}, {"k": "ev"}, {"k": "end"}, {"k": "end", "status": []}, {"k": "end", "status": {"state": "finished"}},
    {"k": "end", "status": FINISHED | {"exit_code": 256}}, {"k": "out", "o": "5", "t": "x"},
    {"k": "out", "o": 5, "t": []},
    {"k": "ev", "f": [], "o": 5, "t": "{}"}, {"k": "ev", "f": "a", "o": 5, "t": "[" * 5000},
    {"k": "ev", "f": "a", "o": 5, "t": '{"event": "progress", "eta_seconds": NaN}'},
    {"k": "ev", "f": "a", "o": 5, "t": '{"event": "progress", "eta_seconds": 1e400}'},
    {"k": "ev", "f": "a", "o": 5, "t": f'{{"event": "step_finished", "step": "x", "seconds": {HUGE}}}'},
    {"k": "ev", "f": "a", "o": 5, "t": '{"event": "step_started", "step": []}'},
    {"k": "ev", "f": "a", "o": 5, "t": "7"},
    {"k": "ev", "f": "a", "o": 5, "t": '{"event": ["step_started"]}'},
    GOOD[2] | {"gpu": [{"name": "g"}]}, GOOD[2] | {"gpu": {}}, GOOD[2] | {"money": {"spent": "1"}},
    GOOD[2] | {"money": []}, GOOD[2] | {"money": {"spent": 1e300, "price": 1, "budget": 1}}, GOOD[2] | {"over": "no"},
    GOOD[2] | {"job": "../x\0"},
    (b'{"k": "out", "o": ' + HUGE.encode() + b', "t": "x"}'), (b'{"k": "tick", "free_bytes": Infinity}'),
]  # fmt: skip


@pytest.mark.parametrize("frame", BAD_FRAMES)
def test_watch_names_an_unreadable_frame_and_goes_on_watching(cai: Cai, hostile: HostilePod, frame: Any) -> None:
    hostile.says(GOOD[0], frame, *GOOD, {"k": "out", "o": 9, "t": "after " + ESCAPE}, {"k": "end", "status": FINISHED})
    code, printed = cai("watch")
    assert code == 0
    assert printed.count("unreadable") == 1
    assert "watching goes on" in printed
    assert "after ␛[2J" in printed
    assert "finished with exit code 0" in printed


def test_watch_passes_over_a_line_of_many_megabytes_and_complains_in_bounds(cai: Cai, hostile: HostilePod) -> None:
    kinds = [f"nonsense {number}" for number in range(500)]
    hostile.says(b'{"k": "out", "t": "' + b"x" * 20_000_000 + b'"}', *kinds, *GOOD, {"k": "end", "status": FINISHED})
    code, printed = cai("watch")
    assert code == 0
    assert "a line of more than 4 MiB" in printed
    assert "what else is unreadable is not told" in printed
    assert printed.count("unreadable") < 20


def test_a_terminals_live_view_shows_what_a_pod_sends_harmless(hostile: HostilePod) -> None:
    import io

    from rich.console import Console

    from cai_bootstrap.pod.watch import watch

    event = json.dumps({"event": "progress", "step": ESCAPE, "done": 1, "total": 2, "eta_seconds": 1e14})
    hostile.says({"k": "ev", "f": "a", "o": 5, "t": event}, GOOD[2], {"k": "end", "status": FINISHED})
    screen = io.StringIO()
    status, view = watch(
        hostile.remote, Console(file=screen, force_terminal=True, width=100), as_json=False, job_id="j1"
    )
    assert status.exit_code == 0
    assert "owned" in view.progress_text()
    assert is_harmless(view.progress_text())
    assert "\x1b]0;" not in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()


def test_a_pod_that_sends_nothing_readable_is_left_after_the_patience(hostile: HostilePod) -> None:
    hostile.says(b"nonsense")
    follower = Follower(hostile.remote, "j1", patience_seconds=-1.0)

    with pytest.raises(UnreachableError):
        list(follower.frames(lambda _: None))


def entry(name: str, content: bytes = b"good") -> dict[str, Any]:
    import hashlib

    return {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


SOUND = entry("results/x")
BAD_ENTRIES: list[Any] = [
    7, None, [], {}, "results/x", {"path": "results/x"}, {"path": 7, "size": 1, "sha256": "0" * 64},
    SOUND | {"sha256": 7}, SOUND | {"sha256": "z" * 64}, SOUND | {"sha256": None}, SOUND | {"size": -1},
    SOUND | {"size": float("inf")}, SOUND | {"size": float("nan")}, SOUND | {"size": "4"}, SOUND | {"size": 10**400},
    SOUND | {"size": 10**30}, entry("results/" + "n" * 300), entry("results/\ud800"),
    entry("results/" + "d/" * 3000 + "x"), entry("results/good.json/inside"), entry("results/good.json", b"other"),
]  # fmt: skip
LISTING = {"pod_id": "a" * 32, "job": "j1", "state": "finished", "left_out": [], "files": []}


def bring(_: Any, staging: Path, names: list[str], **__: Any) -> None:
    for name in names:
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_bytes(b"good")


def test_pull_names_bad_entries_and_fetches_the_good_ones(cai: Cai, hostile: HostilePod, pod: Pod) -> None:
    for number, bad in enumerate(BAD_ENTRIES):
        target = pod.target / str(number)
        files = [entry("results/good.json"), bad, entry(f"data/stage1/{ESCAPE}.jsonl")]
        hostile.verbs["manifest"] = {
            "pod_id": "a" * 32,
            "job": "j1",
            "state": "finished",
            "left_out": [ESCAPE, 7],
            "files": files,
        }
        hostile.calls.clear()
        with mock.patch.object(pull, "_transfer", bring):
            code, printed = cai("pull", "--into", str(target))
        assert code == 1, bad
        assert "unreadable" in printed or "listed twice" in printed or "listed inside of" in printed, bad
        assert sha256_file(target / "results/good.json") == files[0]["sha256"]
        assert (target / f"data/stage1/{ESCAPE}.jsonl").exists()
        assert "fetched" not in hostile.calls  # what lacks files is not called fetched


@pytest.mark.parametrize("change", [
    {"files": {}}, {"files": None}, {"state": 7}, {"job": "j\0"}, {"job": []}, {"pod_id": []}, {"pod_id": "x\x1b"},
    {"left_out": 7},
])  # fmt: skip
def test_a_listing_that_is_none_is_unreadable(cai: Cai, hostile: HostilePod, pod: Pod, change: dict[str, Any]) -> None:
    hostile.verbs["manifest"] = {
        "pod_id": None,
        "job": "j1",
        "state": "finished",
        "left_out": [],
        "files": [],
        **change,
    }
    code, printed = cai("pull", "--into", str(pod.target))
    assert code == 1
    assert "the listing of files is unreadable" in printed


@pytest.mark.parametrize("steps", [
    "[]", "7", '{"train": 7}', '{"train": {"seconds": NaN}}', f'{{"train": {{"seconds": {HUGE}}}}}',
    '{"train": {"seconds": 1e999}}', "[" * 100_000, '{"\\ud800\\u001b": {"seconds": 5}}',
])  # fmt: skip
def test_a_pulled_run_of_nonsense_ends_neither_pull_nor_cost(
    cai: Cai, hostile: HostilePod, pod: Pod, steps: str
) -> None:
    (pod.home / "state" / "pods.json").write_text(json.dumps({"rentals": [{
        "pod": "loop", "address": hostile.remote.settings.address, "started": time.time(), "ended": None, "total": None,
        "price": 1.74, "start_known_from": "first contact",
    }]}))  # fmt: skip
    content = f'{{"steps": {steps}}}'.encode()
    hostile.verbs["manifest"] = {
        "pod_id": None, "job": "j1", "state": "finished", "left_out": [], "files": [entry("results/run.json", content)],
    }  # fmt: skip

    def bring_it(_: Any, staging: Path, names: list[str], **__: Any) -> None:
        (staging / "results").mkdir(parents=True)
        (staging / names[0]).write_bytes(content)

    with mock.patch.object(pull, "_transfer", bring_it):
        code, _ = cai("pull", "--into", str(pod.target))
    assert code == 0
    assert cai("cost")[0] == 0


def test_files_whose_names_are_no_utf_8_are_fetched(pod: Pod) -> None:
    name = os.fsdecode(b"results/caf\xe9\x1b[2J.json")
    (pod.base / "results").mkdir()
    (pod.base / name).write_bytes(b"{}")
    assert pod.json("pull", "--into", str(pod.target))["verified"]
    assert (pod.target / name).read_bytes() == b"{}"


PROBES = [
    "gpu\tA100, " + HUGE, "gpu\tA100, ²", "disk\t" + HUGE, "python\tnonsense", "python\t3", "python\t" + HUGE + ".1",
    "python\t" + ESCAPE, "tool\t" + ESCAPE, "torch\t1 " + ESCAPE, "torch\t", "writable\tyes\ndisk\t²", "\xff\x00",
    "gpu\t" + "x" * 1_000_000, "gpu\tg, 1\n" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("probe", PROBES)
def test_check_reads_whatever_the_pod_prints(cai: Cai, hostile: HostilePod, pod: Pod, probe: str) -> None:
    pod.write(gpu="auto")
    answer = Answer(0, f"{probe}\ntorch\t0 2.9 True\n".encode("latin-1", "replace"), "")
    with mock.patch.object(hostile.remote, "run", return_value=answer):
        code, printed = cai("check")
    assert code == 1
    assert len(printed) < 100_000


def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(TooMuchOutputError, match="more than 1 MiB"):
        run_bounded(["yes"], timeout=60, limit=1 << 20)
    done = run_bounded(["/bin/sh", "-c", "cat; echo no >&2; exit 7"], stdin=b"x" * 300_000, timeout=60)
    assert (done.returncode, len(done.stdout), done.stderr) == (7, 300_000, b"no\n")


def test_a_host_key_of_nonsense_is_no_key(pod: Pod) -> None:
    printed = "# \x1b[2J\nhost ssh-ed25519 !!!\nhost \x1b[2J AAAA\nhost ssh-ed25519\nhost ssh-ed25519 AAA\n"
    done = subprocess.CompletedProcess([], 0, printed, "")
    with (
        mock.patch.object(host_keys, "_reach", return_value=None),
        mock.patch.object(host_keys.subprocess, "run", return_value=done),
        pytest.raises(UnreachableError, match="offers no ssh host key"),
    ):
        host_keys.offered_keys(load_settings(pod.path))


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\x00b", "\x9b31m", "\u202e", "\u2066", "\u200b", "\ud800", "\U000e0041", "\u2028"]
)
def test_printable_text_shows_what_would_be_hidden_and_is_bounded(text: str) -> None:
    for printed in (visible(text * 3), one_line(text * 10_000), message(text * 100_000)):
        assert is_harmless(printed)
        assert len(printed) < 50_000 * 9
    assert "\n" not in one_line("a\nerror: forged")
    assert one_line("10%\r20%\r\n") == "10% 20%"
