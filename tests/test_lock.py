"""uv.lock: public hosts only, the versions of constraints.txt, and torch without CUDA unless it is asked for."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from packaging.markers import Marker

CHECKOUT = Path(__file__).parents[1]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
UNPINNED = re.compile(r"setuptools|triton|cuda-.*|nvidia-.*")  # what only torch asks for
PUBLIC = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", "download-r2.pytorch.org"}


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "uv.lock").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def texts(value: object) -> Iterator[str]:
    """Every string within tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def selection(lock: Mapping[str, Any], python: str, group: str | None, extras: Sequence[str]) -> dict[str, str]:
    """What `uv sync` installs, as names and versions, without the project itself: the lock's markers decide."""
    active = f"group-13-cai-bootstrap-{group}" if group else ""
    conflicting = [name for name in extras if name in ("cpu", "gpu")]
    if conflicting:
        active = f"extra-13-cai-bootstrap-{conflicting[0]}"
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": active,
                   "sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}  # fmt: skip
    (own,) = (package for package in lock["package"] if package["source"] == {"editable": "."})
    ahead = list(own["dependencies"])
    for name in extras:
        ahead += own["optional-dependencies"][name]
    if group:
        ahead += own["dev-dependencies"][group]
    chosen: dict[str, str] = {}
    followed = set()
    while ahead:
        needed = ahead.pop()
        if "marker" in needed and not Marker(needed["marker"]).evaluate(environment):
            continue
        (package,) = (
            package
            for package in lock["package"]
            if package["name"] == needed["name"] and needed.get("version") in (None, package["version"])
        )
        assert chosen.setdefault(package["name"], package["version"]) == package["version"], package["name"]
        for extra in [None, *needed.get("extra", [])]:
            if (package["name"], extra) not in followed:
                followed.add((package["name"], extra))
                more = package if extra is None else package.get("optional-dependencies", {})
                ahead += more.get("dependencies" if extra is None else extra, [])
    return chosen


def test_the_lock_names_public_hosts_only_and_every_file_has_a_hash(lock: dict[str, Any]) -> None:
    addresses = [urlsplit(text) for text in texts(lock) if "://" in text]
    assert len(addresses) > 100
    assert {(address.scheme, address.hostname) for address in addresses} <= {("https", host) for host in PUBLIC}
    assert not [address for address in addresses if address.username or address.port]
    for package in lock["package"]:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files or package["source"] == {"editable": "."}, package["name"]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]) for file in files), package["name"]


@pytest.mark.parametrize("python", ["3.11.7", "3.14.0"])
@pytest.mark.parametrize("extras", [["demo", "dev", "track"], []], ids=["all but vLLM", "bare"])
@pytest.mark.parametrize("group", ["cpu", None])
def test_what_uv_installs_is_what_the_constraints_say(
    lock: dict[str, Any], python: str, group: str | None, extras: list[str]
) -> None:
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
    chosen = selection(lock, python, group, extras)
    assert len(chosen) > (150 if extras else 50)
    assert [name for name in set(chosen) - set(pins) if not UNPINNED.fullmatch(name)] == []
    assert {
        name: version for name, version in chosen.items() if version.partition("+")[0] != pins.get(name, version)
    } == {}


@pytest.mark.parametrize(
    ("group", "extras", "cuda"),
    [("cpu", [], False), (None, ["cpu"], False), (None, [], True), (None, ["gpu"], True)],
)
def test_torch_has_cuda_where_it_is_asked_for_only(
    lock: dict[str, Any], group: str | None, extras: list[str], cuda: bool
) -> None:
    chosen = selection(lock, "3.12.1", group, extras)
    assert chosen["torch"].endswith("+cpu") is not cuda
    assert any(name.startswith("nvidia-") for name in chosen) is cuda
    assert ("vllm" in chosen) is ("gpu" in extras)


def test_the_lock_is_of_this_pyproject(lock: dict[str, Any], project: dict[str, Any]) -> None:
    (own,) = (package for package in lock["package"] if package["source"] == {"editable": "."})
    assert own["name"] == project["project"]["name"]
    assert lock["requires-python"] == project["project"]["requires-python"]
    asked = own["metadata"]["requires-dist"]
    wanted = [*project["project"]["dependencies"]]
    for name, lines in project["project"]["optional-dependencies"].items():
        wanted += [f"{line}; extra == '{name}'" for line in lines]
    assert sorted(_plain(line) for line in wanted) == sorted(_told(entry) for entry in asked)


def test_torch_without_cuda_comes_from_its_own_index_for_every_python(
    lock: dict[str, Any], project: dict[str, Any]
) -> None:
    uv = project["tool"]["uv"]
    assert uv["default-groups"] == ["cpu"]
    assert [(index["url"], index["explicit"]) for index in uv["index"]] == [(TORCH_INDEX, True)]
    of_index = [package for package in lock["package"] if package["source"].get("registry") == TORCH_INDEX]
    assert [package["name"] for package in of_index] == ["torch"]
    version = of_index[0]["version"].replace("+", "%2B")
    for python in ("311", "312", "313", "314"):
        for machine in ("x86_64", "aarch64"):
            name = rf"/torch-{version}-cp{python}-cp{python}-manylinux_\d+_\d+_{machine}\.whl"
            assert any(re.search(name, wheel["url"]) for wheel in of_index[0]["wheels"]), (python, machine)


def test_a_lock_that_would_name_another_host_is_not_written() -> None:
    probe = "import sys; sys.path.insert(0, 'tools'); import lock; print(lock.hosts(sys.stdin.read()) - lock.HOSTS)"
    text = 'url = "https://files.pythonhosted.org/a"\nregistry = "http://mirror.example:81/simple"\n'
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=CHECKOUT, input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'mirror.example'}\n"


def _plain(requirement: str) -> tuple[str, ...]:
    """A requirement of pyproject.toml as name, extras, version range and extra."""
    text, _, marker = requirement.partition(";")
    name, extras, range_ = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?(.*)", text.strip()).groups()  # type: ignore[union-attr]
    extra = re.search(r"'(\w+)'", marker)
    return name.lower().replace("_", "-"), extras or "", _sorted(range_), extra[1] if extra else ""


def _told(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The same of an entry of the lock."""
    extra = re.search(r"extra == '(\w+)'", entry.get("marker", ""))
    return (
        entry["name"],
        ",".join(entry.get("extras", [])),
        _sorted(entry.get("specifier", "")),
        extra[1] if extra else "",
    )


def _sorted(range_: str) -> str:
    return ",".join(sorted(range_.replace(" ", "").split(",")))
