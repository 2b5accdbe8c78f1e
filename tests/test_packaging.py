"""The distribution: wheel and sdist hold what is needed, and the wheel works outside the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from cai_bootstrap import __version__

CHECKOUT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist, built without network or isolation."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `cai` command of an environment that has the wheel, and this one's libraries, but not the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    site = next((folder / "lib").glob("python3*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-deps", "--quiet"]
    subprocess.run([*pip, str(next(built.glob("*.whl")))], check=True, capture_output=True, timeout=120)
    # A path entry, not addsitedir: the editable install's own .pth file must not be read.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "cai"


def _run(command: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("CAI_", "PYTHON"))}
    environment = {**keep, "CAI_CACHE_DIR": str(folder / "cache"), "CAI_BASE_DIR": str(folder / "base")}
    return subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_wheel_holds_data_types_and_licences(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "src/cai_bootstrap", "configs", "examples"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for path in tracked:
        packed = path.removeprefix("src/") if path.startswith("src/") else f"cai_bootstrap/_shipped/{path}"
        assert packed in names, f"{path} is not in the wheel"
    shipped = {f"cai_bootstrap/_shipped/{name}" for name in ("constitution.yaml", "constitution_v2.yaml")}
    assert {"cai_bootstrap/py.typed", *shipped} <= names
    assert "cai_bootstrap/_shipped/constraints.txt" in names
    for licence in ("LICENSE", "NOTICE"):
        assert f"cai_bootstrap-{__version__}.dist-info/licenses/{licence}" in names


def test_the_metadata_are_complete(wheel: zipfile.ZipFile) -> None:
    from email.parser import Parser

    found = Parser().parsestr(wheel.read(f"cai_bootstrap-{__version__}.dist-info/METADATA").decode())
    assert found["Name"] == "cai-bootstrap"
    assert found["Requires-Python"] == ">=3.11"
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Summary"]
    assert found["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in found.get_all("Classifier")
    assert set(found.get_all("Provides-Extra")) >= {"demo", "gpu", "track", "dev"}
    assert str(CHECKOUT) not in found.as_string()


def test_the_sdist_gives_the_same_wheel(built: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    source = next(tmp_path.iterdir())
    assert (source / "tests" / "test_packaging.py").exists()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=120)
    again = zipfile.ZipFile(next((tmp_path / "again").glob("*.whl")))
    assert {i.filename: i.CRC for i in again.infolist()} == {i.filename: i.CRC for i in wheel.infolist()}


def test_nothing_of_a_working_folder_is_packed(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = [Path(name).parts[1:] for name in sdist.getnames()]
    listed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    allowed = {name.removeprefix("/") for name in listed["include"]} | {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {parts[0] for parts in names} <= allowed
    assert not {part for parts in names for part in parts} & {".env", "__pycache__", "node_modules"}


def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = [installed.parent / "python", "-I", "-c", "import cai_bootstrap; print(cai_bootstrap.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout
    assert str(installed.parents[1]) in found
    assert str(CHECKOUT / "src") not in found
    for arguments in (
        ["--version"], ["suite", "verify"], ["config", "show", "--preset", "quick-test"], ["config", "presets"],
        ["prompts", "show", "critique", "--instruction", "Name a colour."],
        ["instructions", "--count", "8", "--out", str(tmp_path / "instructions.jsonl")],
        ["lm-eval-task", "--to", str(tmp_path / "task")], ["completion", "bash"],
    ):  # fmt: skip
        done = _run(installed, *arguments, folder=tmp_path)
        assert done.returncode == 0, (arguments, done.stderr)
    assert len((tmp_path / "instructions.jsonl").read_text().splitlines()) == 8


def test_doctor_finds_an_installed_product_whole(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, "doctor", "--json", folder=tmp_path)
    findings = {row["name"]: row for row in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, done.stdout
    assert findings["cai-bootstrap"]["found"] == __version__
    assert findings["rensa"]["status"] == "ok"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_clicks_own_and_completes(installed: Path, shell: str, tmp_path: Path) -> None:
    script = _run(installed, "completion", shell, folder=tmp_path)
    assert script.returncode == 0
    assert f"_CAI_COMPLETE={shell}_complete" in script.stdout
    environment = {**os.environ, "_CAI_COMPLETE": f"{shell}_complete", "COMP_WORDS": "cai ex", "COMP_CWORD": "1"}
    if shell == "fish":
        environment["COMP_CWORD"] = "ex"
    done = subprocess.run([installed], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "export" in done.stdout
    assert "gate" not in done.stdout
