"""The current directory is no library, in no process that is started here."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import executed, plant, run

from cai_bootstrap import interpreter
from cai_bootstrap.interpreter import (
    current_directory_left,
    leave_current_directory,
    python_command,
    python_environment,
    script_command,
)

ROOT = Path(__file__).parents[1]
# As in a notebook: the path begins with "", and a library starts a process by multiprocessing, which hands it on.
SPAWNING = """
import sys
from cai_bootstrap.interpreter import current_directory_left
assert sys.path[0] == ""
with current_directory_left():
    import multiprocessing, used
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    child = context.Process(target=used.tell, args=(far,))
    child.start()
print(near.recv())
assert sys.path[0] == ""
"""
USED = """
import sys
def tell(pipe):
    import random, yaml
    pipe.send((sys.path, yaml.safe_load("1")))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with the user's own modules; the path and its variables are put back."""
    folder = plant(tmp_path / "here")
    monkeypatch.chdir(folder)
    for name in ("PYTHONSAFEPATH", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # what a test leaves there is taken away after it
        monkeypatch.delenv(name)
    path = list(sys.path)
    yield folder
    sys.path[:] = path


@pytest.mark.parametrize("given", ["", ":", ".", "./", "{here}", ":{other}", "{other}:", "{link}::{other}:."])
def test_no_entry_of_pythonpath_is_the_current_directory(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (tmp_path / "link").symlink_to(here)
    (tmp_path / "other").mkdir()
    places = {name: str(tmp_path / name) for name in ("here", "other", "link")}
    monkeypatch.setenv("PYTHONPATH", given.format_map(places))
    environment = python_environment({"RANK": "1"})
    assert (environment["RANK"], environment["PYTHONSAFEPATH"]) == ("1", "1")
    assert environment.get("PYTHONPATH") == (places["other"] if "other" in given else None)


def test_a_relative_entry_of_pythonpath_means_the_same_place_in_another_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "src")
    assert python_environment()["PYTHONPATH"] == str(here / "src")


def test_a_deleted_current_directory_is_left_as_well(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f":{ROOT}")
    gone = here / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert python_environment()["PYTHONPATH"] == str(ROOT)


def test_the_command_line_leaves_the_current_directory_and_nothing_else(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [entry for entry in sys.path if entry]
    monkeypatch.setenv("PYTHONPATH", "")
    sys.path[:] = ["", str(here), ".", *others, ""]
    leave_current_directory()
    assert sys.path == others
    assert (os.environ["PYTHONSAFEPATH"], os.environ.get("PYTHONPATH")) == ("1", None)


def test_what_is_installed_in_the_current_directory_stays(here: Path) -> None:
    """Someone stands in his site-packages, or where a package of his own is installed from."""
    others = [entry for entry in sys.path if entry]
    sys.path[:] = [str(here), *others, str(here)]
    leave_current_directory()
    assert sys.path == [*others, str(here)]


def test_a_package_that_only_the_current_directory_has_is_still_reached(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `src` of a checkout that is not installed: behind the standard library, whose names it cannot take."""
    monkeypatch.setattr(interpreter, "PACKAGE_ROOT", str(here.resolve()))
    others = [entry for entry in sys.path if entry]
    sys.path[:] = ["", *others]
    leave_current_directory()
    assert sys.path == [*others, str(here.resolve())]
    assert python_environment()["PYTHONPATH"] == str(here.resolve())


def test_a_caller_in_a_notebook_has_his_own_path_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":x")
    sys.path.insert(0, "")
    before = list(sys.path)
    with current_directory_left():
        assert "" not in sys.path
        assert os.environ["PYTHONPATH"] == str(here / "x")
    assert sys.path == before
    assert (os.environ["PYTHONPATH"], "PYTHONSAFEPATH" in os.environ) == (":x", False)


def test_a_process_that_a_library_starts_by_multiprocessing_is_safe_as_well(here: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "used.py").write_text(USED)
    environment = {**os.environ, "PYTHONPATH": f":{library}"}
    done = subprocess.run([sys.executable, "-c", SPAWNING], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    path, number = ast.literal_eval(done.stdout)
    assert number == 1
    assert not {"", ".", str(here)} & set(path)
    assert executed(here) == []


def test_the_command_line_itself_executes_nothing_of_the_users(here: Path) -> None:
    """`python -m cai_bootstrap`, and a script, with their commands and what those import."""
    code, said = run("config", "show", "--preset", "quick-test", cwd=here, PYTHONPATH=":")
    assert code == 0, said
    script = [sys.executable, str(ROOT / "scripts/run_stage1_pipeline.py"), "--help"]
    done = subprocess.run(script, env={**os.environ, "PYTHONPATH": ":"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert executed(here) == []


OTHER_WAYS = (
    "sys.executable", "os.system", "os.popen", "os.exec", "os.spawn", "os.posix_spawn", "multiprocessing.Process",
    "multiprocessing.Pool", "get_context", "ProcessPoolExecutor",
)  # fmt: skip
STARTS = {"subprocess.Popen", "subprocess.run", "subprocess.check_output", "subprocess.check_call", "subprocess.call"}


@pytest.mark.parametrize("folder", ["src", "scripts", "tools", "benchmarks"])
def test_every_python_process_is_started_in_one_way(folder: str) -> None:
    """This Python is named in `interpreter` alone. What starts anything but a program named there and then (git,
    nvidia-smi) hands over the environment made there; the pod's room starts ssh, and on the pod what it was sent."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name == "interpreter.py":
            continue
        assert [way for way in OTHER_WAYS if way in text] == [], path
        if "subprocess." not in text or "pod" in path.parts:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS:
                command = ast.unparse(node.args[0])
                named = command.startswith("['") and "python" not in command.partition(",")[0]
                assert named or "python_environment" in text, f"{path}: {command}"


def test_a_command_names_the_module_or_the_file(here: Path) -> None:
    assert python_command("cai_bootstrap", "step")[1:] == ["-P", "-m", "cai_bootstrap", "step"]
    assert script_command("one.py", "--one")[1:] == ["-P", str(here / "one.py"), "--one"]


def test_no_process_tells_hugging_face_what_runs_where_unless_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    assert python_environment()["HF_HUB_DISABLE_TELEMETRY"] == "1"
    says = "import cai_bootstrap.__main__, huggingface_hub.constants as c"
    command = [sys.executable, "-c", f"{says}; print(c.HF_HUB_DISABLE_TELEMETRY)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    assert python_environment()["HF_HUB_DISABLE_TELEMETRY"] == "0"
