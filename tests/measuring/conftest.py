"""The small suite, and results files made from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measured import make_items

from cai_bootstrap.files import write_json
from cai_bootstrap.judging.suite import Suite, items_sha256


@pytest.fixture(scope="session")
def small_suite() -> Suite:
    items = make_items()
    return Suite("small", items_sha256(items), "user", items)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write results into a file and give its path."""

    def to_file(results: dict[str, Any], name: str = "results.json") -> Path:
        path = tmp_path / name
        write_json(path, results)
        return path

    return to_file
