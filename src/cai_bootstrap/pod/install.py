"""Set up the pod's Python once: venv, pins, the pushed package, the model; skipped while what it is made of is the
same.
"""

import shlex
from collections.abc import Sequence
from typing import Any

from cai_bootstrap.files import fingerprint
from cai_bootstrap.pod.answers import Noted, read
from cai_bootstrap.pod.push import PUSHED
from cai_bootstrap.pod.settings import PodSettings
from cai_bootstrap.pod.ssh import Remote

MARKER = "setup.json"


def setup_commands(settings: PodSettings, prepare: Sequence[str] | None) -> list[str]:
    """The shell lines that set-up runs, in order.

    `prepare` are the arguments by which `cai prepare` fetches the run's model; None: which that is, only the job knows.
    """
    if settings.setup.commands is not None:
        return [_fill(line, settings) for line in settings.setup.commands]
    python, venv = shlex.quote(settings.job_python), shlex.quote(f"{settings.remote_base}/venv")
    lines = []
    if settings.python is None:
        site = " --system-site-packages" if settings.setup.system_site_packages else ""
        options = "".join(f" {shlex.quote(option)}" for option in settings.setup.pip_options)
        pip = f"{python} -P -m pip install --disable-pip-version-check --no-input{options}"
        lines.append(f"test -x {python} || python3 -I -m venv{site} {venv}")
        if settings.setup.pins:
            lines.append(f"{pip} {shlex.join(settings.setup.pins)}")
        extras = f"[{','.join(settings.setup.extras)}]" if settings.setup.extras else ""
        lines.append(f"{pip} -e {shlex.quote(settings.code + extras)}")
    lines.append(f"{_source_path(settings)}{python} -P -c 'import cai_bootstrap'")
    if settings.setup.prefetch and prepare is not None:
        words = [settings.job_python, "-P", "-m", "cai_bootstrap", "prepare", "--base-dir", settings.remote_base]
        lines.append(_source_path(settings) + shlex.join([*words, *prepare]))
    return lines


def _source_path(settings: PodSettings) -> str:
    return f"PYTHONPATH={shlex.quote(settings.code + '/src')} " if settings.python is not None else ""


def _fill(line: str, settings: PodSettings) -> str:
    for name, value in (("base", settings.remote_base), ("code", settings.code), ("python", settings.job_python)):
        line = line.replace("{" + name + "}", shlex.quote(value))
    return line


def setup_mark(remote: Remote, lines: Sequence[str]) -> str:
    """The hash of what set-up is made of: its commands, and the package's declared needs as pushed."""
    code = remote.settings.code
    declared = remote.run(
        ["/bin/sh", "-c", 'cat -- "$0"/pyproject.toml "$0"/requirements*.txt 2>/dev/null; true', code]
    )
    return fingerprint({"commands": list(lines), "declared": declared.output.decode("utf-8", "replace")})


def setup_needed(remote: Remote, mark: str) -> bool:
    """Whether the pod was set up with another hash, or never, or its code is not there yet."""
    noted: Any = remote.call("noted", MARKER)
    present = remote.run(["test", "-x", remote.settings.job_python]).code == 0
    return not (isinstance(noted, dict) and noted.get("sha256") == mark and present)


def mark_done(remote: Remote, mark: str) -> None:
    """Record that set-up is done for this hash."""
    remote.call("note", MARKER, stdin={"sha256": mark})


def pushed_code(remote: Remote) -> str | None:
    """The hash of the code that `push` noted on the pod, or None if nothing was pushed."""
    noted = remote.call("noted", PUSHED)
    return (
        None if noted is None else read(Noted, noted, f"{remote.settings.address}: the note of what was pushed").sha256
    )
