"""What all tests share: no network, no cache but the tests' own, a tiny model, and command lines that are run here."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from order import longest_first, seconds
from stubs import Cai, Stage

from cai_bootstrap.run.folder import RunFolder

REAL_CACHE = Path(os.environ.get("CAI_CACHE_DIR") or Path.home() / ".cache" / "cai-bootstrap")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that no process waits for another's at the end."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = longest_first(items, lambda item: seconds(item.nodeid), processes)


@pytest.fixture(scope="session", autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's is read or written: environment, cache, ledgers, pods."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As a shell starts what goes to the background; the processes that tests interrupt would not hear of it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("CAI_")]:
        del os.environ[name]
    os.environ["CAI_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["CAI_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"  # the tiny model gains nothing from more
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights and a byte-level tokenizer."""
    from tiny import make_model

    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_suites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A user's own test and dev suite of eight items each."""
    from tiny import make_suite

    folder = tmp_path_factory.mktemp("suites")
    return make_suite(folder / "ttest.jsonl", "test"), make_suite(folder / "tdev.jsonl", "dev")


@pytest.fixture
def cai(capsys: pytest.CaptureFixture[str]) -> Cai:
    """Run a `cai` command in this process; gives its exit code, stdout and stderr."""
    from cai_bootstrap.cli import run_command

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The steps in this process, on stub engines, in a base directory of their own."""
    return Stage(RunFolder.at(tmp_path / "work").create()).install(monkeypatch)


@pytest.fixture
def nothing_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who trusts no code of somebody's own, and works in a folder of his own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CAI_TRUSTED_SCORERS", raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
