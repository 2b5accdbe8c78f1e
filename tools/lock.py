"""Write uv.lock: what pyproject.toml asks for, in the versions of constraints.txt wherever that names one.

    python tools/lock.py

needs uv (`pip install uv`) and the network; nothing is installed, and nothing but metadata downloaded. A machine that
cannot reach the PyTorch index names a copy of it by `--torch-index`; the lock names the public one. A lock that would
name any other host than the public ones is not written.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

CHECKOUT = Path(__file__).parents[1]
PYPI = "https://pypi.org/simple"
TORCH = "https://download.pytorch.org/whl/cpu"
# download-r2 is where the PyTorch index keeps its files.
HOSTS = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", "download-r2.pytorch.org"}
SOURCES = ("README.md", "LICENSE", "NOTICE", "src/cai_bootstrap/__init__.py")


def hosts(lock: str) -> set[str]:
    """The hosts that a lock names."""
    return {urlsplit(url).hostname or url for url in re.findall(r'"(\w+://[^"]+)"', lock)}


def pinned(project: str, constraints: str) -> str:
    """pyproject.toml without vLLM, which needs versions of its own, and with constraints.txt as uv's constraints."""
    pins = [line.strip() for line in constraints.splitlines() if line.strip() and not line.startswith("#")]
    listed = ", ".join(f'"{pin}"' for pin in pins)
    project = re.sub(r"^gpu = .*$", "gpu = []", project, count=1, flags=re.M)
    return project.replace("[tool.uv]\n", f"[tool.uv]\nconstraint-dependencies = [{listed}]\n", 1)


def lock(torch_index: str) -> str:
    """The lock's text. Raises CalledProcessError where uv finds no versions that go together."""
    project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8").replace(TORCH, torch_index)
    constraints = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in SOURCES:
            (folder / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / source, folder / source)
        # Twice: what the first time has locked is kept the second time, wherever it can be.
        for text in (pinned(project, constraints), project):
            (folder / "pyproject.toml").write_text(text, encoding="utf-8")
            subprocess.run(["uv", "lock", "--default-index", PYPI, "--project", name], check=True)
        return (folder / "uv.lock").read_text(encoding="utf-8").replace(torch_index, TORCH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-index", default=TORCH, help="a copy of the PyTorch index, where that is out of reach")
    text = lock(parser.parse_args().torch_index)
    if foreign := hosts(text) - HOSTS:
        print(f"not written: the lock would name {', '.join(sorted(foreign))}", file=sys.stderr)
        return 1
    (CHECKOUT / "uv.lock").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
