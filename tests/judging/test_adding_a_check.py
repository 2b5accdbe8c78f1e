"""A check and a scorer are one decorated function each: `docs/ARCHITECTURE.md`, "Adding something"."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai_bootstrap.judging.scorers import check, reasons
from cai_bootstrap.judging.scorers.registry import CHECKS, SCORERS
from cai_bootstrap.judging.suite.format import item_fault
from cai_bootstrap.records import EvalItem

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "ARCHITECTURE.md"


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a test enters is gone after it."""
    checks, scorers = dict(CHECKS), dict(SCORERS)
    yield
    for registry, before in ((CHECKS, checks), (SCORERS, scorers)):
        registry.clear()
        registry.update(before)


def item(scorer: str, args: dict, gold: list[str] | None = None) -> EvalItem:
    return EvalItem(
        id="i", split="dev", type="generation", template="t", instruction="Write of a cat.", scorer=scorer, args=args,
        gold=gold or [], source="own", difficulty="easy",
    )  # fmt: skip


def test_the_check_of_the_page_is_used_by_suites_and_judged_by() -> None:
    section = ARCHITECTURE.read_text(encoding="utf-8").split("- **A check**")[1].split("- **A scorer**")[0]
    example = section.split("```python\n")[1].split("```")[0]
    exec(textwrap.dedent(example), {})
    rhymes = {"check": "rhymes", "word": "mat"}
    assert item_fault(item("checks", {"checks": [rhymes]}), []) is None
    fault = item_fault(item("checks", {"checks": [{"check": "rhymes"}]}), [])
    assert fault == "check 'rhymes' needs 'word', a word"
    fault = item_fault(item("checks", {"checks": [{**rhymes, "wort": "x"}]}), [])
    assert fault == "unknown argument 'wort' of check 'rhymes': it takes word; did you mean 'word'?"
    good = check("Write of a cat.", "checks", {"checks": [{"check": "rhymes", "word": "bat"}]}, [], "I saw a fat rat.")
    bad = check("Write of a cat.", "checks", {"checks": [rhymes]}, [], "I saw a dog.")
    assert (good.reason, bad.reason) == ("ok", "rhymes")
    assert "rhymes" in reasons()


def test_the_scorer_of_the_page_is_used_by_suites_and_judged_by() -> None:
    section = ARCHITECTURE.read_text(encoding="utf-8").split("- **A scorer**")[1].split("- **An engine**")[0]
    example = section.split("```python\n")[1].split("```")[0]
    exec(textwrap.dedent(example), {})
    assert item_fault(item("no_longer", {"spare": 3}, ["a dog"]), []) is None
    assert "unknown argument 'word'" in str(item_fault(item("no_longer", {"word": 3}, ["a dog"]), []))
    assert "at least one accepted answer" in str(item_fault(item("no_longer", {}), []))
    assert check("Write of a cat.", "no_longer", {}, ["a dog"], "my rat").reason == "extra_text"
    assert check("Write of a cat.", "no_longer", {"spare": 1}, ["a dog"], "my rat").reason == "ok"


def test_a_bound_that_is_null_is_none() -> None:
    sentences = {"checks": [{"check": "sentences", "min": None, "max": 2}]}
    assert item_fault(item("checks", sentences), []) is None
    assert check("Write of a cat.", "checks", sentences, [], "A dog barks.").reason == "ok"
