"""One finished tiny run for all tests of what is done with a run afterwards."""

from collections.abc import Callable

import pytest
from finished import Finished, make_finished


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return make_finished(tmp_path_factory.mktemp("finished"))


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
