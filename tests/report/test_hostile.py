"""Model output is hostile: nothing in it becomes markup, runs, reorders the page, or stops it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect
from synthetic import make_run

from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.report.build import build_report
from cai_bootstrap.report.rendering import MOST_BYTES
from cai_bootstrap.report.safe import clip, csp, script_json, visible

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>",
    "</script><script>alert(4)</script><!--<script>",
    "{{ 7 * 7 }} {% raw %} ${7*7} $\\frac{1}{0}$ $$",
    "\u202egnp.exe\u202c \u2066hidden\u2069 \u200fmark\u200b zero",
    "\x1b[2J\x1b]0;title\x07\x1b[31mred\x9b5m \x00 \x7f",
    "a" * 100_000,
    "\n" * 5_000 + "deep",
    "\u2028\u2029\ufeff\U000e0041\U000e0042",
    '"><a href="javascript:alert(5)">x</a>',
    "]]>&lt;&amp;&#60;",
]


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model, pairs, principles, events and reasons are all written by an attacker."""
    suite = load_suite("quick")
    texts = {item.id: HOSTILE[n % len(HOSTILE)] for n, item in enumerate(suite.items)}
    workspace = make_run(tmp_path_factory.mktemp("hostile"), suite_name="quick", count=16, answer=texts)
    for name in ("preference_pairs", "rejected_pairs", "critiques", "revisions", "responses"):
        path = workspace.data / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for n, row in enumerate(rows):
            for key in ("text", "chosen", "rejected", "prompt", "reason", "label_source"):
                if row.get(key) is not None:
                    row[key] = HOSTILE[n % len(HOSTILE)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        # A record with bytes that are no UTF-8, and a line that is no record of this kind.
        last = {**rows[-1], "prompt" if "prompt" in rows[-1] else "reason" if "reason" in rows[-1] else "text": "@"}
        no_utf_8 = json.dumps(last).encode().replace(b"@", b"\xed\xa0\x80 not UTF-8 \xfe")
        path.write_bytes(lines.encode() + no_utf_8 + b'\n{"id": "\xff\xc3(", "type": "x"}\n')
    summary = json.loads((workspace.data / "generation_summary.json").read_text())
    summary["dropped"] = {text[:200]: 3 for text in HOSTILE}
    summary["by_principle"] = {text[:200]: {"assigned": 1, "pairs": 1, "revisions_chosen": 0} for text in HOSTILE}
    (workspace.data / "generation_summary.json").write_text(json.dumps(summary))
    run = json.loads((workspace.results / "run.json").read_text())
    run["run"] = run["reuse"]["requested"] = HOSTILE[0]
    run["steps"][HOSTILE[1]] = {"status": HOSTILE[3], "seconds": 1.0, "skipped": False}
    (workspace.results / "run.json").write_text(json.dumps(run))
    return build_report(workspace)


def test_hostile_output_stays_text_and_the_browser_stays_quiet(hostile_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile_page.as_uri())
    expect(page.locator("#items-count")).to_contain_text("24 of 24")
    page.fill("#items-filters input", "onerror")
    card = page.locator("#items-cards .card").first
    assert HOSTILE[0] in card.inner_text()
    assert (
        page.locator(
            "#items-cards img, #pairs-cards img, #items-cards script, main svg[onload], a[href^=javascript]"
        ).count()
        == 0
    )
    assert page.evaluate("document.scripts.length") == 2
    assert page.evaluate("document.querySelectorAll('[onerror], [onload], [onclick]').length") == 0


def test_bidi_and_control_characters_are_shown_as_what_they_are(hostile_page: Path, visit: Callable[..., Any]) -> None:
    text = hostile_page.read_text(encoding="utf-8")
    assert not {c for c in text if c in "\u202e\u2066\u200f\u200b\x1b\x00\x7f\x9b\u2028\ufeff\U000e0041"}
    page = visit(hostile_page.as_uri())
    page.fill("#items-filters input", "gnp.exe")
    assert "⟨U+202E⟩gnp.exe" in page.locator("#items-cards .card").first.inner_text()
    page.fill("#items-filters input", "title")
    assert "␛]0;title␇" in page.locator("#items-cards .card").first.inner_text()


def test_a_line_of_100_kb_neither_widens_nor_bloats_the_page(hostile_page: Path, visit: Callable[..., Any]) -> None:
    assert hostile_page.stat().st_size <= MOST_BYTES
    page = visit(hostile_page.as_uri(), viewport={"width": 390, "height": 800}, is_mobile=True)
    page.fill("#items-filters input", "a" * 50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#items-cards button").first.click()
    assert "[96,000 more characters]" in page.locator("#items-cards .card").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_invalid_utf_8_is_shown_as_replacement_characters(hostile_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile_page.as_uri())
    page.fill("#pairs-filters input", "not UTF-8")
    assert "\ufffd" in page.locator("#pairs-cards .card").first.inner_text()
    assert "1 lines are no PreferencePair records" in page.inner_text("body")


@given(st.text(alphabet=st.characters(), max_size=200))
def test_visible_leaves_nothing_hidden_and_can_be_encoded(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not any(0xD800 <= ord(c) < 0xE000 or 0x202A <= ord(c) <= 0x202E or ord(c) < 9 for c in shown)
    assert visible(shown) == shown


@given(
    st.recursive(st.text() | st.floats() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_script_json_cannot_leave_its_element_and_is_json(value: Any) -> None:
    text = script_json({"value": value, "more": "</script><!--"})
    assert "<" not in text
    assert "&" not in text
    json.loads(text)


def test_visible_keeps_what_people_write() -> None:
    for text in ("Köln, naïve, 東京, עברית, 🙂\n\ttabbed", "1 000 «x» — …"):
        assert visible(text) == text


def test_clip_says_how_much_it_left_out() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcdef", 4) == "abcd … [2 more characters]"


def test_the_policy_names_scripts_and_styles_by_hash_and_only_a_live_page_may_fetch() -> None:
    policy = csp(scripts=["a"], styles=["b"], live=False)
    assert policy.startswith("default-src 'none'; script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='")
    assert "connect-src" not in policy
    assert csp(scripts=["a"], styles=["b"], live=True).endswith("connect-src 'self'")
