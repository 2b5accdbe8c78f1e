"""Two runs side by side, or refused exactly where `cai compare` refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from synthetic import RESULTS, evaluate, make_run, right

from cai_bootstrap.cli import run_command
from cai_bootstrap.cli.measure import compare
from cai_bootstrap.cli.report import report
from cai_bootstrap.files import read_json, write_json
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.report.comparing import results_of
from cai_bootstrap.run.folder import RunFolder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    """Two runs on the quick suite: the second follows three instructions more and loses one."""
    folders = [tmp_path_factory.mktemp(name) for name in ("a", "b")]
    workspaces = [make_run(folder, suite_name="quick", count=16) for folder in folders]
    suite = load_suite("quick")
    for workspace, failing in zip(workspaces, (range(5), (0, 1, 9)), strict=True):
        texts = {i.id: Output("" if n in failing else right(i), True) for n, i in enumerate(suite.items)}
        evaluate(workspace, suite, texts)
    return workspaces[0], workspaces[1]


def test_two_runs_stand_side_by_side(
    two: tuple[RunFolder, RunFolder], visit: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run_command(["--compare", str(two[0].base), str(two[1].base), "--out", str(out), "--json"], report) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(out)
    page = visit(out.as_uri())
    said = page.inner_text("#headline")
    assert said.startswith("No difference between A and B is shown: 87.5% against 79.1%, +8.3 points")
    assert said.endswith("3 items gained, 1 lost.")
    cards = page.locator("#items-cards .card")
    assert "lost" in cards.nth(0).inner_text()
    assert all("gained" in cards.nth(n).inner_text() for n in (1, 2, 3))
    page.select_option("#items-filters select[name=flip]", "gained")
    expect(page.locator("#items-count")).to_contain_text("3 of 24")


def test_the_page_lies_beside_b_unless_told_otherwise(two: tuple[RunFolder, RunFolder]) -> None:
    a, b = (workspace.results / RESULTS for workspace in two)
    assert run_command(["--compare", str(a), str(b)], report) == 0
    assert (b.parent / f"comparison_{a.stem}_{b.stem}.html").is_file()


def test_other_conditions_are_refused_with_exit_4_as_compare_does(
    two: tuple[RunFolder, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = load_suite("quick")
    other = RunFolder.at(tmp_path / "other").create()
    path = evaluate(other, suite, {i.id: Output(right(i), True) for i in suite.items}, precision="fp32", batch_size=4)
    files = [str(two[0].results / RESULTS), str(path)]
    out = tmp_path / "refused.html"
    assert run_command(["--compare", *files, "--out", str(out)], report) == 4
    said = capsys.readouterr().err
    assert "precision: bf16 against fp32; batch_size: 16 against 4" in said
    assert not out.exists()
    assert run_command(files, compare) == 4


def test_an_edited_file_is_refused_with_exit_4(
    two: tuple[RunFolder, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = two[0].results / RESULTS
    edited = read_json(good)
    edited["models"]["trained"]["successes"] = 24
    write_json(tmp_path / "edited.json", edited)
    assert run_command(["--compare", str(good), str(tmp_path / "edited.json")], report) == 4
    assert "models.trained.successes is 24" in capsys.readouterr().err


def test_a_base_directory_without_an_evaluation_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--compare", str(tmp_path), str(tmp_path)], report) == 2
    assert "holds no evaluation to compare" in capsys.readouterr().err


def test_a_base_directory_stands_for_the_file_its_run_names(two: tuple[RunFolder, RunFolder]) -> None:
    assert results_of(two[0].base) == two[0].results / RESULTS
