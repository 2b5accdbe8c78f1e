"""How every Python process of this package is started: the current directory is no library, and nothing phones home.

`python -m` and `python -c` put the current directory before the standard library on the import path, and so does an
empty entry of PYTHONPATH: a `yaml.py` of the user's there would be executed in every step, a `random.py` would end the
run. Commands come from `python_command` and environments from `python_environment`; the environment passes the rule on
to what such a process starts itself (vLLM's engines, multiprocessing, compilers of kernels).

This module imports only what Python itself has imported by then: the path is not safe yet.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

# Libraries tell Hugging Face what runs where; whether they may is the user's decision, who can set it to 0.
NO_TELEMETRY = {"HF_HUB_DISABLE_TELEMETRY": "1"}
PASSED_ON = ("PYTHONPATH", "PYTHONSAFEPATH", *NO_TELEMETRY)
PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # where `import cai_bootstrap` finds it


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python: `[python, "-P", "-m", "cai_bootstrap", "step", …]`.

    Start it with `python_environment`: -P alone is not passed on, and does not look into PYTHONPATH.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def script_command(script: str | os.PathLike[str], *arguments: str) -> list[str]:
    """The command that runs a file with this Python. Its own folder is no library either: it adds that by itself."""
    return [sys.executable, "-P", os.path.abspath(script), *arguments]


def python_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a Python process, with the variables `more`, the current directory off its path.

    PYTHONPATH loses what is the current directory, and its other entries become absolute.
    """
    environment = {**NO_TELEMETRY, **os.environ, **(more or {}), "PYTHONSAFEPATH": "1"}
    given = environment.pop("PYTHONPATH", "").split(os.pathsep)
    entries = [os.path.abspath(entry) for entry in given if _stays(entry)]
    if not _reaches_package(_without_current(sys.path)) and _is_current(PACKAGE_ROOT) and PACKAGE_ROOT not in entries:
        entries.append(PACKAGE_ROOT)  # a checkout that is not installed, used from its `src`
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(entries)
    return environment


def leave_current_directory() -> None:
    """In a process that is the command line: take the current directory off the path, here and in what it starts.

    Call it before anything is imported from outside the standard library. A library's caller keeps his own path.
    """
    environment = python_environment()
    os.environ.pop("PYTHONPATH", None)
    os.environ.update({name: environment[name] for name in PASSED_ON if name in environment})
    entries = _without_current(sys.path)
    if not _reaches_package(entries) and _is_current(PACKAGE_ROOT):
        entries.append(PACKAGE_ROOT)  # last: what the standard library has comes from there
    sys.path[:] = entries


@contextlib.contextmanager
def current_directory_left() -> Iterator[None]:
    """`leave_current_directory` for as long as a library starts processes from this one, in a notebook too.

    `multiprocessing` hands the parent's import path to its children.
    """
    path = list(sys.path)
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    leave_current_directory()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in PASSED_ON:
            os.environ.pop(name, None)
        os.environ.update(variables)


def _without_current(entries: Sequence[str]) -> list[str]:
    """The import path less the current directory. What is installed stays: it stands behind the standard library."""
    library = os.path.dirname(os.path.realpath(os.__file__))
    places = [place for place, entry in enumerate(entries) if entry and os.path.realpath(entry) == library]
    installed = places[0] if places else len(entries)
    return [
        entry
        for place, entry in enumerate(entries)
        if (place > installed and os.path.isabs(entry)) or not _is_current(entry)
    ]


def _stays(entry: str) -> bool:
    """Whether an entry of PYTHONPATH stays. The current directory does if it is named as this package's own place."""
    return not _is_current(entry) or entry == PACKAGE_ROOT


def _reaches_package(entries: Sequence[str]) -> bool:
    return any(os.path.realpath(entry) == PACKAGE_ROOT for entry in entries)


def _is_current(entry: str) -> bool:
    """Whether an entry is the current directory, under any name; a relative one is, where that directory is gone."""
    try:
        return os.path.realpath(entry) == os.path.realpath(os.getcwd())
    except OSError:
        return not os.path.isabs(entry)
