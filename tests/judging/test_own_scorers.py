"""Scorers of the user's own: run by consent alone, bound to their source, and every fault of theirs a clear error."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from own_scorers import HEAD, NEVER_RUN, SHOUTS, constitution_file, row, suite_file

from cai_bootstrap.cli import run_command
from cai_bootstrap.errors import EXIT_OK, EXIT_UNTRUSTED, EXIT_USAGE, UsageError
from cai_bootstrap.generation.principles import load_checked
from cai_bootstrap.judging.own.sources import read_source, trust
from cai_bootstrap.judging.rules import rule_holds
from cai_bootstrap.judging.scorers import judge, reasons
from cai_bootstrap.judging.suite import canonical_line, load_suite
from cai_bootstrap.shipped import shipped

EXAMPLES = shipped("examples/scorers")
pytestmark = pytest.mark.usefixtures("nothing_trusted")


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as refusal:
        load_suite(path)
    return str(refusal.value)


def verified(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run_command(["suite", "verify", "--suite", str(path)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_a_function_of_ones_own_judges_an_item_and_gives_the_reason(tmp_path: Path) -> None:
    (item,) = load_suite(suite_file(tmp_path / "own", SHOUTS)).items
    assert judge(item, "COLD RAIN!", True).success
    assert judge(item, "cold rain!", True).reason == "mine.py:shouts"
    assert judge(item, "Shout about the cold rain.", True).reason == "echo"
    assert "mine.py:shouts" in reasons()


def test_arguments_are_the_functions_own_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    three = suite_file(folder, SHOUTS, row(args={"marks": 3}))
    assert judge(load_suite(three).items[0], "COLD RAIN!!!", True).success
    assert "unknown argument 'mark' of scorer 'mine.py:shouts': it takes marks" in refused(
        suite_file(folder, SHOUTS, row(args={"mark": 3}))
    )
    needing = SHOUTS.replace("marks: int = 1", "marks: int")
    assert "scorer 'mine.py:shouts' needs 'marks' in 'args'" in refused(suite_file(folder, needing))
    check = {"checks": [{"check": "mine.py:shouts"}]}
    assert "check 'mine.py:shouts' needs 'marks'" in refused(
        suite_file(folder, needing, row(scorer="checks", args=check))
    )


def test_gold_reaches_a_scorer_that_asks_for_it_and_never_a_check(tmp_path: Path) -> None:
    source = HEAD + "@scorer\ndef one_of_them(instruction, output, *, gold):\n    return output in gold\n"
    path = suite_file(tmp_path / "own", source, row(scorer="mine.py:one_of_them", gold=["red", "blue"]))
    (item,) = load_suite(path).items
    assert [judge(item, text, True).success for text in ("blue", "green")] == [True, False]
    check = {"checks": [{"check": "mine.py:one_of_them"}]}
    assert "takes 'gold'" in refused(suite_file(tmp_path / "own", source, row(scorer="checks", args=check)))


def test_nothing_of_a_module_runs_without_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = tmp_path / "ran"
    path = suite_file(tmp_path / "own", NEVER_RUN.format(ran) + SHOUTS, trusted=False)
    for command in (["suite", "verify"], ["suite", "show"], ["suite", "stats"], ["suite", "ledger"]):
        assert run_command([*command, "--suite", str(path)]) == EXIT_USAGE
        told = capsys.readouterr().err
        assert "not trusted on this machine" in told
        assert f"cai trust {tmp_path / 'own' / 'mine.py'}" in told
    assert not ran.exists()


def test_consent_is_to_the_very_source_and_lost_with_a_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = suite_file(tmp_path / "own", SHOUTS, trusted=False)
    module = tmp_path / "own" / "mine.py"
    assert run_command(["trust", str(module)]) == EXIT_OK
    assert "trusted, with shouts" in capsys.readouterr().out
    before = load_suite(path)
    module.write_text(SHOUTS + "# another line\n", encoding="utf-8")
    assert "not trusted" in refused(path)
    assert run_command(["trust", str(module)]) == EXIT_OK
    after = load_suite(path)
    assert after.sha256 != before.sha256, "another source is another suite"
    assert after.asked_sha256 == before.asked_sha256, "and asks the same"
    assert run_command(["trust", "--forget", str(module)]) == EXIT_OK
    assert "not trusted" in refused(path)


def test_a_copy_in_the_trusted_folder_that_was_edited_is_no_consent(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "own", SHOUTS)
    (copy,) = (tmp_path / "config" / "cai-bootstrap" / "trusted_scorers").iterdir()
    copy.write_text("raise SystemExit\n", encoding="utf-8")
    assert "not trusted" in refused(path)


def test_the_variable_names_hashes_and_nothing_else_consents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = suite_file(tmp_path / "own", SHOUTS, trusted=False)
    for words in ("true", "*", "0" * 64):
        monkeypatch.setenv("CAI_TRUSTED_SCORERS", words)
        assert "not trusted" in refused(path)
    sha256 = hashlib.sha256(SHOUTS.encode()).hexdigest()
    monkeypatch.setenv("CAI_TRUSTED_SCORERS", f"{'1' * 64},{sha256}")
    assert load_suite(path).items[0].scorer == f"mine.py:shouts@{sha256}"


def test_a_module_is_looked_for_beside_the_suite_and_not_in_the_working_directory(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "own", None)
    (tmp_path / "elsewhere" / "mine.py").write_text(SHOUTS, encoding="utf-8")
    trust(read_source(tmp_path / "elsewhere" / "mine.py"))
    assert f"{tmp_path / 'own' / 'mine.py'}: no such file" in refused(path)


def test_what_lies_in_the_working_directory_is_not_imported_by_a_module(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "secrets.py").write_text(NEVER_RUN.format(tmp_path / "ran"), encoding="utf-8")
    (tmp_path / "elsewhere" / "mine_words.py").write_text("WORDS = ['a']\n", encoding="utf-8")
    load_suite(suite_file(tmp_path / "own", "import secrets\n" + SHOUTS))
    assert not (tmp_path / "ran").exists()
    told = refused(suite_file(tmp_path / "own", "import mine_words\n" + SHOUTS))
    assert "ModuleNotFoundError" in told
    assert "this one file" in told


@pytest.mark.parametrize("name", ["/tmp/mine.py:shouts", "../own/mine.py:shouts", "sub/../../own/mine.py:shouts"])
def test_a_path_that_leads_out_of_the_suites_folder_is_refused(tmp_path: Path, name: str) -> None:
    told = refused(suite_file(tmp_path / "own", SHOUTS, row(scorer=name)))
    assert "absolute path" in told or "leads out of the folder" in told


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, "no such file"),
        ("def shouts(instruction, output):\n    return True\n", "shouts is not decorated; write @scorer above it"),
        (SHOUTS.replace("def shouts", "def shout"), "has no function 'shouts'; decorated are: shout; did you mean"),
        ("x = 1 +\n", "cannot be loaded: SyntaxError: invalid syntax (line 1)"),
        ("x = 1 / 0\n", "cannot be loaded: ZeroDivisionError: division by zero (line 1)"),
        ("import os\nos._exit(7)\n", "ended its process (exit code 7)"),
        ("raise SystemExit(0)\n", "cannot be loaded: SystemExit"),
        ("WORDS = open(__file__)\n", "put word lists into the module itself"),
        (HEAD + "@scorer\ndef shouts(output):\n    return True\n", "takes an instruction and an output"),
        (HEAD + "@scorer\ndef shouts(a, b, **more):\n    return True\n", "takes an instruction and an output"),
        (HEAD + "@scorer\ndef shouts(a, b, *, check):\n    return True\n", "cannot be called 'check'"),
        (HEAD + "@scorer\nasync def shouts(a, b):\n    return True\n", "stands over a plain function"),
        (HEAD + "@scorer(seconds=0)\ndef shouts(a, b):\n    return True\n", "a number of seconds above 0"),
        (HEAD + "@scorer(may_pass='all')\ndef shouts(a, b):\n    return True\n", "'all' is none of echo, other"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_used_says_where_and_what_to_do(
    tmp_path: Path, source: str | None, expected: str
) -> None:
    told = refused(suite_file(tmp_path / "own", source))
    assert told.startswith(f"{tmp_path / 'own' / 'mine.jsonl'}: line 1 (m1): {tmp_path / 'own' / 'mine.py'}: ")
    assert expected in told


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 1 / (len(output) - 3) > 0", "raised ZeroDivisionError: division by zero (line 6)"),
        ("return len(output)", "returned int (3), not True or False"),
        ("return None", "returned NoneType (None), not True or False"),
        ("raise SystemExit", "raised SystemExit"),
        ("import os; os.kill(os.getpid(), 9)", "ended its process (signal 9)"),
        ("while True: pass", "took longer than 0.3 s"),
        ("import signal\n    signal.signal(14, lambda *_: None); import re\n    re.match('(a+)+$', 'a' * 40 + 'b')",
         "took longer than 0.3 s"),
    ],
)  # fmt: skip
def test_a_function_that_gives_no_verdict_is_a_clear_error_and_no_verdict(
    tmp_path: Path, body: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai_bootstrap.judging.own.process.SPARE_SECONDS", 0.5)
    source = HEAD + f"@scorer(seconds=0.3)\ndef shouts(instruction, output):\n    {body}\n"
    (item,) = load_suite(suite_file(tmp_path / "own", source)).items
    for _ in range(2):  # the second finds no process, or one that goes on
        with pytest.raises(UsageError) as refusal:
            judge(item, "RED", True)
        told = str(refusal.value)
        assert expected in told
        assert "mine.py:shouts" in told
        assert "'RED'" in told
        assert str(tmp_path / "own" / "mine.py") in told


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("args", ['{"marks": %s}', '{"marks": [1, {"a": %s}]}'])
def test_an_argument_that_is_no_finite_number_is_refused_by_line(tmp_path: Path, args: str, number: str) -> None:
    path = suite_file(tmp_path / "own", SHOUTS, row(id="m0"), row(args={"marks": "HERE"}))
    path.write_text(path.read_text().replace('{"marks": "HERE"}', args % number))
    assert refused(path).startswith(f"{path}: line 2: not valid JSON: {number} is ")


def test_a_module_with_a_byte_order_mark_runs_under_the_hash_of_its_bytes(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path / "own", "\ufeff" + SHOUTS))
    assert judge(suite.items[0], "COLD RAIN!", True).success
    content = (tmp_path / "own" / "mine.py").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert suite.items[0].scorer == f"mine.py:shouts@{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("pin", ["", f"@{'0' * 64}"])
def test_a_name_that_no_file_can_have_is_refused_by_line(tmp_path: Path, pin: str) -> None:
    told = refused(suite_file(tmp_path / "own", SHOUTS, row(scorer=f"{'m' * 300}.py:shouts{pin}")))
    assert told.startswith(f"{tmp_path / 'own' / 'mine.jsonl'}: line 1 (m1): ")
    assert "File name too long" in told


def test_what_a_module_prints_and_reads_is_not_the_channel(tmp_path: Path) -> None:
    source = SHOUTS.replace("    return", "    print('{\"verdict\": true}'); import sys; sys.stdin.read()\n    return")
    (item,) = load_suite(suite_file(tmp_path / "own", source)).items
    assert [judge(item, text, True).success for text in ("cold rain!", "COLD RAIN!")] == [False, True]


def test_a_verdict_is_of_the_output_that_was_asked_about_after_an_interrupt(tmp_path: Path) -> None:
    source = SHOUTS.replace("    return", "    import time; time.sleep(0.4 * ('SLOW' in output))\n    return")
    (item,) = load_suite(suite_file(tmp_path / "own", source)).items

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            judge(item, "SLOW RAIN!", True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [judge(item, text, True).success for text in ("cold!", "COLD!", "cool!")] == [False, True, False]


@pytest.mark.parametrize("child", ["os.fork()", "os.fork() or sys.exit()", "os.fork() or 1 / 0"])
def test_a_module_that_forks_gives_each_output_its_own_verdict(tmp_path: Path, child: str) -> None:
    source = "import os, sys\n" + SHOUTS.replace("    return", f"    {child}\n    return")
    (item,) = load_suite(suite_file(tmp_path / "own", source)).items
    texts = ["COLD!", "cold!", "cool!", "COOL!", "wet!"]
    assert [judge(item, text, True).success for text in texts] == [text.isupper() for text in texts]


@pytest.mark.parametrize("line", ['{"verdict": true}', '{"verdict": true, "number": 1}', "[]", "true"])
def test_an_answer_that_is_none_to_the_question_is_no_verdict(tmp_path: Path, line: str) -> None:
    writes = f"os.write(4, {line!r}.encode() + b'\\n')"  # the channel of the process that runs the module
    source = "import os\n" + SHOUTS.replace("    return", f"    if output == 'MINE':\n        {writes}\n    return")
    (item,) = load_suite(suite_file(tmp_path / "own", source)).items
    with pytest.raises(UsageError, match=r"answered another question.*'MINE'"):
        judge(item, "MINE", True)
    assert not judge(item, "mine!", True).success


def test_verify_says_which_outputs_wrongly_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yes = HEAD + "@scorer(to_the_letter=True)\ndef shouts(instruction, output):\n    return True\n"
    others = (row(), row(id="m2", scorer="exact", gold=["a kite"], instruction="Say: a kite"))
    code, told = verified(suite_file(tmp_path / "own", yes, *others), capsys)
    assert code == EXIT_UNTRUSTED
    for what in ("the instruction again", "another item's answer, 'a kite'", "a very long output", "a refusal"):
        assert f"m1: mine.py:shouts wrongly passes {what}" in told


def test_verify_says_which_outputs_wrongly_fail_and_which_items_nothing_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (row(gold=["COLD RAIN!", "cold rain!"]), row(id="m2", gold=[]))
    code, told = verified(suite_file(tmp_path / "own", SHOUTS, *rows), capsys)
    assert code == EXIT_UNTRUSTED
    assert "m1: mine.py:shouts wrongly fails its own accepted answer, 'cold rain!' (mine.py:shouts)" in told
    assert "m2: no accepted answer in 'gold'" in told


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    ord(output[-1].encode('ascii'))\n    return output.isupper()", "raised UnicodeEncodeError"),
        ("    return output.isupper() and hash('x') % 2 == HASHED", "another verdict when asked again"),
        ("    SEEN.append(output)\n    return output.isupper() and len(SEEN) < 5", "another verdict when asked again"),
    ],
    ids=["raises at an emoji", "by chance", "by what came before"],
)
def test_verify_finds_what_would_end_a_run_or_belie_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, expected: str
) -> None:
    hashed = subprocess.run(
        [sys.executable, "-c", "print(hash('x') % 2)"], env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True,
        text=True, check=True,
    ).stdout.strip()  # fmt: skip
    head = f"SEEN = []\nHASHED = {hashed}\n"
    source = HEAD + head + f"@scorer\ndef shouts(instruction, output):\n{body}\n"
    code, told = verified(suite_file(tmp_path / "own", source), capsys)
    assert code == EXIT_UNTRUSTED
    assert expected in told


def test_what_may_pass_by_the_functions_own_word_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SHOUTS.replace("@scorer", "@scorer(may_pass=['other'])")
    rows = (row(), row(id="m2", scorer="exact", gold=["A KITE!"], instruction="Say: A KITE!"))
    code, told = verified(suite_file(tmp_path / "own", source, *rows), capsys)
    assert code == EXIT_OK, told
    assert "2 accepted" not in told
    code, told = verified(suite_file(tmp_path / "own", SHOUTS, *rows), capsys)
    assert code == EXIT_UNTRUSTED


def test_verify_tells_the_hash_of_each_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = suite_file(tmp_path / "own", SHOUTS)
    assert run_command(["suite", "verify", "--suite", str(path), "--json"]) == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert told["own_scorers"] == {"mine.py": hashlib.sha256(SHOUTS.encode()).hexdigest()}
    assert told["tried"]["accepted"] == 1
    assert told["faults"] == []


def test_a_name_may_be_pinned_and_another_source_is_then_refused(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(SHOUTS.encode()).hexdigest()
    pinned = row(scorer=f"mine.py:shouts@{sha256}")
    path = suite_file(tmp_path / "own", SHOUTS, pinned)
    plain = load_suite(suite_file(tmp_path / "plain", SHOUTS))
    assert load_suite(path).sha256 == plain.sha256
    suite_file(tmp_path / "own", SHOUTS + "# changed\n", pinned)
    assert f"is pinned to the source {sha256[:12]}…" in refused(path)
    (tmp_path / "own" / "mine.py").unlink()
    assert load_suite(path).sha256 == plain.sha256, "the trusted copy of that source is taken"


def test_a_suite_that_is_written_out_can_be_read_again(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path / "own", SHOUTS))
    again = tmp_path / "again.jsonl"
    again.write_text("".join(map(canonical_line, suite.items)), encoding="utf-8")
    assert load_suite(again).sha256 == suite.sha256


@pytest.mark.parametrize(
    ("check", "loud", "louder"),
    [
        ("mine.py:shouts", True, False),
        ("{check: mine.py:shouts, marks: 1}", True, False),
        ("{all: [{check: mine.py:shouts}, {not: {check: question}}]}", True, False),
        ("{any: [{check: mine.py:shouts, marks: 3}, {check: mine.py:shouts}]}", True, True),
    ],
)
def test_a_constitution_names_a_check_of_ones_own(tmp_path: Path, check: str, loud: bool, louder: bool) -> None:
    (principle,) = load_checked(constitution_file(tmp_path / "own", SHOUTS, check)).principles
    assert principle.check is not None
    assert rule_holds(principle.check, "Why?", "IT RAINS!") is loud
    assert rule_holds(principle.check, "Why?", "IT RAINS!!!") is louder
    assert not rule_holds(principle.check, "Why?", "it rains!")


def test_a_constitution_is_refused_by_field_and_line_and_tried_on_what_it_shows(tmp_path: Path) -> None:
    def told(source: str, check: str, *, trusted: bool = True) -> str:
        with pytest.raises(UsageError) as refusal:
            load_checked(constitution_file(tmp_path / "own", source, check, trusted=trusted))
        return str(refusal.value)

    untrusted = told(SHOUTS + "# unread\n", "mine.py:shouts", trusted=False)
    assert "principles[0] 'loud': check: " in untrusted
    assert "not trusted" in untrusted
    assert "(line 10)" in untrusted
    assert "unknown argument 'mark' of check 'mine.py:shouts'" in told(SHOUTS, "{check: mine.py:shouts, mark: 2}")
    assert "the check fails the better answer" in told(SHOUTS, "{check: mine.py:shouts, marks: 2}")
    assert "or one of your own, FILE.py:FUNCTION" in told(SHOUTS, "{check: mine.shouts}")


def test_another_source_is_another_constitution(tmp_path: Path) -> None:
    before = load_checked(constitution_file(tmp_path / "own", SHOUTS, "mine.py:shouts"))
    after = load_checked(constitution_file(tmp_path / "own", SHOUTS + "# changed\n", "mine.py:shouts"))
    assert before.sha256 != after.sha256


def test_the_examples_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["trust", str(EXAMPLES / "rhymes.py")]) == EXIT_OK
    code, told = verified(EXAMPLES / "poems.jsonl", capsys)
    assert (code, "4 accepted answers pass" in told) == (EXIT_OK, True)
    assert len(load_checked(EXAMPLES / "polite.yaml").principles) == 1
    items = {item.id: item for item in load_suite(EXAMPLES / "poems.jsonl").items}
    assert judge(items["poem-2"], "A cat\nis not a cat.", True).reason == "rhymes.py:has_rhymes"
    assert judge(items["colours"], "Yellow and blue.", True).success


def test_trust_takes_python_files_with_decorated_functions_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = suite_file(tmp_path / "own", "x = 1\n", trusted=False)
    for words, expected in (
        ([str(path)], "is no Python file"),
        ([str(tmp_path / "own" / "mine.py")], "no function is decorated"),
        ([str(tmp_path / "absent.py")], "no such file"),
        ([], "name the Python files"),
    ):
        assert run_command(["trust", *words]) == EXIT_USAGE
        assert expected in capsys.readouterr().err
    assert run_command(["trust", "--list", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["trusted"] == []


def test_a_process_of_scorers_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "own", SHOUTS)
    script = (
        "import os; from cai_bootstrap.judging.own import process; from cai_bootstrap.judging.suite import load_suite\n"
        f"load_suite({str(path)!r}); (worker,) = process._workers.values()\n"
        "print(worker.process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    worker = Path("/proc") / printed.strip()
    _wait(lambda: not worker.exists() or "zombie" in (worker / "status").read_text())


def _wait(done: Callable[[], bool]) -> None:
    import time

    ends = time.monotonic() + 20
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.01)
