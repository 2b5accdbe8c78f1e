"""One finished tiny run for all tests of what is done with a run afterwards."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from finished import Finished, make_finished


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    before = os.environ.get("CAI_CACHE_DIR")
    os.environ["CAI_CACHE_DIR"] = str(folder / "cache")
    yield make_finished(folder)
    if before is None:
        del os.environ["CAI_CACHE_DIR"]
    else:
        os.environ["CAI_CACHE_DIR"] = before


@pytest.fixture
def cai(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a `cai` command against the finished run; gives exit code, stdout and stderr."""
    from cai_bootstrap.cli import run_command

    for name, value in finished.environment.items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command(list(arguments))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command
