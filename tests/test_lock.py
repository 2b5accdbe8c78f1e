"""uv.lock: public hosts only, the versions of constraints.txt, and torch without CUDA unless it is asked for."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHECKOUT = Path(__file__).parents[1]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PUBLIC = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", "download-r2.pytorch.org"}
OTHER_PINS = {"gpu", "sky"}  # what these extras need decides versions of its own


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


def test_the_lock_names_public_hosts_only_and_every_file_has_a_hash(lock: dict[str, Any]) -> None:
    addresses = [urlsplit(text) for text in texts(lock) if "://" in text]
    assert len(addresses) > 100
    assert {(address.scheme, address.hostname) for address in addresses} <= {("https", host) for host in PUBLIC}
    assert not [address for address in addresses if address.username or address.port]
    for package in lock["package"]:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files or package["source"] == {"editable": "."}, package["name"]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]) for file in files), package["name"]


def test_the_lock_has_the_versions_of_the_constraints(lock: dict[str, Any]) -> None:
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
    locked: dict[str, set[str]] = {}
    for package in lock["package"]:
        locked.setdefault(package["name"], set()).add(package.get("version", "").partition("+")[0])
    assert len(set(pins) & set(locked)) > 60
    assert {name: locked[name] for name in pins if name in locked and pins[name] not in locked[name]} == {}
    assert {name: found for name, found in locked.items() if name in pins and found != {pins[name]}} == {}


def test_the_lock_is_of_this_pyproject(lock: dict[str, Any], project: dict[str, Any]) -> None:
    (own,) = (package for package in lock["package"] if package["source"] == {"editable": "."})
    assert own["name"] == project["project"]["name"]
    assert lock["requires-python"] == project["project"]["requires-python"]
    asked = own["metadata"]["requires-dist"]
    wanted = [*project["project"]["dependencies"]]
    for name, lines in project["project"]["optional-dependencies"].items():
        wanted += [f"{line}; extra == '{name}'" for line in lines]
    assert sorted(_plain(line) for line in wanted) == sorted(_told(entry) for entry in asked)


def test_torch_comes_without_cuda_unless_it_is_asked_for(lock: dict[str, Any], project: dict[str, Any]) -> None:
    uv = project["tool"]["uv"]
    assert uv["default-groups"] == ["cpu"]
    assert [(index["url"], index["explicit"]) for index in uv["index"]] == [(TORCH_INDEX, True)]
    builds = {package["source"]["registry"]: package for package in lock["package"] if package["name"] == "torch"}
    cpu = builds[TORCH_INDEX]
    assert cpu["version"].endswith("+cpu")
    for python in ("311", "312", "313"):
        for machine in ("x86_64", "aarch64"):
            name = rf"{cpu['version'].replace('+', '%2B')}-cp{python}-cp{python}-manylinux_\d+_\d+_{machine}\.whl"
            assert any(re.search(name, wheel["url"]) for wheel in cpu["wheels"]), (python, machine)
    assert not [needed for needed in cpu["dependencies"] if re.match("nvidia|cuda|triton", needed["name"])]
    cuda = builds["https://pypi.org/simple"]
    assert [needed for needed in cuda["dependencies"] if re.match("nvidia|cuda", needed["name"])]


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
    return entry["name"], ",".join(entry.get("extras", [])), _sorted(entry.get("specifier", "")), extra[1] if extra else ""


def _sorted(range_: str) -> str:
    return ",".join(sorted(range_.replace(" ", "").split(",")))
