"""The report in a real browser: quiet, searchable, accessible, and the same on a phone, in dark mode and in print."""

import json
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from synthetic import baseline, make_run

from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.report.build import build_report
from cai_bootstrap.report.rendering import MOST_BYTES
from cai_bootstrap.run.folder import RunFolder

Visit = Callable[..., Any]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def shown(page: Any, which: str) -> str:
    return str(page.text_content(f"#{which}-count"))


def axe(page: Any) -> list[str]:
    """What axe-core calls serious or critical, with the elements."""
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {v['help']}: {[node['html'][:160] for node in v['nodes'][:3]]}"
        for v in found["violations"]
        if v["impact"] in {"serious", "critical"}
    ]


def test_500_items_and_1000_pairs_fit_6_mb_and_are_usable_within_a_second(page_path: Path, visit: Visit) -> None:
    assert page_path.stat().st_size <= MOST_BYTES
    page = visit("about:blank")
    started = time.monotonic()
    page.goto(page_path.as_uri())
    page.fill("#items-filters input", "capital")
    expect(page.locator("#items-count")).not_to_contain_text("520 of 520")
    # 0.2 s here alone; the limit is the promise, doubled for a machine that is busy with other tests.
    assert time.monotonic() - started < 2.0
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    assert timing < 1000


def test_filters_and_search_narrow_the_items(page_path: Path, visit: Visit) -> None:
    page = visit(page_path.as_uri())
    assert shown(page, "items").startswith("520 of 520 match; 25 shown")
    page.select_option("#items-filters select[name=type]", "question")
    assert shown(page, "items").startswith("130 of 520")
    page.select_option("#items-filters select[name=flip]", "gained against best prompted base")
    narrowed = int(shown(page, "items").split()[0])
    assert 0 < narrowed < 130
    tags = page.locator("#items-cards .card").all_inner_texts()
    assert all("question" in text and "gained against best prompted base" in text for text in tags)
    page.fill("#items-filters input", "no such words anywhere")
    assert shown(page, "items").startswith("0 of 520")
    page.click("#items-filters button[type=reset]")
    expect(page.locator("#items-count")).to_contain_text("520 of 520")


@pytest.mark.parametrize("field", ["type", "difficulty", "skill", "reason", "flip"])
def test_each_filter_offers_counts_that_come_true(page_path: Path, visit: Visit, field: str) -> None:
    page = visit(page_path.as_uri())
    select = page.locator(f"#items-filters select[name={field}]")
    options = select.locator("option").all()
    assert len(options) > 2
    for option in options[1:4]:
        select.select_option(option.get_attribute("value"))
        assert int(shown(page, "items").split()[0]) == int(option.inner_text().rsplit("(", 1)[1].rstrip(")"))


def test_flips_come_first_and_losses_before_gains(page_path: Path, visit: Visit) -> None:
    page = visit(page_path.as_uri())
    records = json.loads(page.text_content("#records"))["items"]
    kinds = ["lost" if any(f.startswith("lost") for f in r["f"]["flip"]) else
             "gained" if any(f.startswith("gained") for f in r["f"]["flip"]) else "same" for r in records]  # fmt: skip
    assert kinds == sorted(kinds, key=["lost", "gained", "same"].index)
    assert set(kinds) == {"lost", "gained", "same"}


def test_pairs_show_critique_and_revision_and_can_be_filtered(page_path: Path, visit: Visit) -> None:
    page = visit(page_path.as_uri())
    page.select_option("#pairs-filters select[name=source]", "revision")
    first = page.locator("#pairs-cards .card").first.inner_text()
    for word in ("Chosen", "Rejected", "First answer", "Critique", "Revision", "principle", "labelled by"):
        assert word in first
    page.click("#pairs-filters button[type=reset]")
    page.select_option("#pairs-filters select[name=outcome]", "none_passed")
    assert "dropped: none passed" in page.locator("#pairs-cards .card").first.inner_text()


def test_show_more_goes_on_with_the_keyboard(page_path: Path, visit: Visit) -> None:
    page = visit(page_path.as_uri())
    page.focus("#items-more")
    page.keyboard.press("Enter")
    assert "50 shown" in shown(page, "items")
    assert page.evaluate("document.activeElement === document.querySelectorAll('#items-cards .card')[25]")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page_path: Path, visit: Visit, scheme: str) -> None:
    page = visit(page_path.as_uri(), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert axe(page) == []


@pytest.mark.slow
def test_axe_finds_nothing_serious_on_a_phone(page_path: Path, visit: Visit) -> None:
    assert axe(visit(page_path.as_uri(), **PHONE)) == []


@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_sideways_scrolling_on_small_screens(page_path: Path, visit: Visit, width: int) -> None:
    page = visit(page_path.as_uri(), viewport={"width": width, "height": 800}, is_mobile=True)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_recolours_page_and_plots(page_path: Path, visit: Visit) -> None:
    def colours(page: Any) -> list[str]:
        script = "(q) => getComputedStyle(document.querySelector(q)).fill"
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [back, page.evaluate(script, ".wide .plot text"), page.evaluate(script, '.wide .plot [fill="#0b62c4"]')]

    light, dark = (colours(visit(page_path.as_uri(), color_scheme=scheme)) for scheme in ("light", "dark"))
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_print_hides_the_controls_and_opens_the_tables(page_path: Path, visit: Visit) -> None:
    page = visit(page_path.as_uri())
    page.emulate_media(media="print")
    assert not page.is_visible("#items-filters")
    assert page.is_visible("#headline")
    assert page.locator("details.table").count() > 5
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.table:not([open])").count() == 0
    page.set_viewport_size({"width": 680, "height": 1000})  # an A4 page inside its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert page.pdf()[:5] == b"%PDF-"


def test_the_page_allows_only_its_own_scripts_and_no_network(page_path: Path) -> None:
    text = page_path.read_text(encoding="utf-8")
    policy = text.split('http-equiv="Content-Security-Policy" content="', 1)[1].split('"', 1)[0]
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert " style=" not in text.split("</style>", 1)[1].split('<script type="application/json"', 1)[0]
    assert "http://" not in text
    assert "https://" not in text


def test_a_baseline_alone_works_in_the_browser(tmp_path: Path, visit: Visit) -> None:
    workspace = RunFolder.at(tmp_path).create()
    baseline(workspace, load_suite("quick"))
    page = visit(build_report(workspace).as_uri())
    assert page.inner_text("#headline").startswith(
        "Baseline only, no trained model was evaluated. The raw base follows"
    )
    assert shown(page, "items").startswith("24 of 24")
    assert shown(page, "pairs").startswith("0 of 0")
    assert axe(page) == []


def test_a_run_on_the_quick_suite_works_in_the_browser(tmp_path: Path, visit: Visit) -> None:
    page = visit(build_report(make_run(tmp_path, suite_name="quick", count=16)).as_uri())
    assert "A quick test" in page.inner_text("#found")
