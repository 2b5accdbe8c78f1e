"""A synthetic run, its report, and a real browser to look at it."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import make_run

from cai_bootstrap.report.build import build_report
from cai_bootstrap.run.folder import RunFolder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The ledger of openings lies in the user's cache; these tests have their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAI_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """520 items and 1,600 instructions, of which about 1,000 gave a pair. Tests do not change it."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def small(tmp_path: Path) -> RunFolder:
    """A finished run on the quick suite, which a test may change."""
    return make_run(tmp_path / "small", suite_name="quick", count=16)


@pytest.fixture(scope="session")
def page_path(run: RunFolder) -> Path:
    return build_report(run)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open an address in a fresh browser; no console message, error or request to elsewhere may be."""
    with contextlib.ExitStack() as opened:
        said: list[str] = []

        def go(address: str, *, elsewhere: bool = False, **settings: Any) -> Any:
            context = opened.enter_context(chromium.new_context(**settings))
            page = context.new_page()
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(f"error: {error}"))
            page.on(
                "request",
                lambda asked: (
                    said.append(f"request: {asked.url}") if not elsewhere and asked.url[:4] == "http" else None
                ),
            )
            page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
            page.goto(address)
            return page

        yield go
        assert said == []
