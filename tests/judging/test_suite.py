"""The shipped suite: frozen, whole, balanced, and apart from everything that is trained on."""

import importlib.util
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from rapidfuzz import fuzz

from cai_bootstrap.errors import UntrustedResultError, UsageError
from cai_bootstrap.files import sha256_file
from cai_bootstrap.judging import suite as shipped
from cai_bootstrap.judging.closed_sets import closed_set, closed_set_names
from cai_bootstrap.judging.scorers import judge, label_tier
from cai_bootstrap.judging.suite import (
    HELD_OUT_SKILLS,
    NAMED_SUITES,
    SUITE_SHA256,
    canonical_line,
    held_out_skills,
    load_suite,
    references,
)
from cai_bootstrap.judging.suite.integrity import overlap_faults, share_faults, shipped_faults, unscored_faults
from cai_bootstrap.records import TASK_TYPES, EvalItem

BUILDER = Path(__file__).parents[2] / "tools" / "build_suite.py"
TEST, DEV = load_suite("stage1").items, load_suite("stage1-dev").items


def test_the_page_about_the_suite_says_what_the_files_say() -> None:
    page = tool("describe_suite")
    assert page.PAGE.read_text(encoding="utf-8") == page.page()


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return tool("build_suite")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BUILDER.with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the suite's files that the loader reads instead of the shipped ones."""
    folder = tmp_path / "suite"
    shutil.copytree(shipped.HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(shipped, "HERE", folder)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Forget every file of the suite that was read, so that the next call reads it again."""
    for cached in vars(shipped).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


def test_counts_are_520_test_and_208_dev_items_evenly_over_the_types() -> None:
    assert Counter(item.type for item in TEST) == dict.fromkeys(TASK_TYPES, 130)
    assert Counter(item.type for item in DEV) == dict.fromkeys(TASK_TYPES, 52)


def test_each_template_makes_two_different_items() -> None:
    for items, count in ((TEST, 260), (DEV, 104)):
        assert Counter(Counter(item.template for item in items).values()) == {2: count}
    assert len({item.instruction for item in (*TEST, *DEV)}) == 728


def test_nothing_is_wrong_with_the_shipped_suite() -> None:
    assert shipped_faults() == []


def test_an_oracle_passes_everything() -> None:
    outputs = references()
    assert set(outputs) == {item.id for item in (*TEST, *DEV)}
    assert [item.id for item in (*TEST, *DEV) if not judge(item, outputs[item.id], True).success] == []


def test_a_shared_fact_template_or_entity_is_found() -> None:
    fact = next(item for item in TEST if item.fact_key)
    faults = overlap_faults(TEST, [*DEV, fact])
    assert any("template" in fault for fault in faults)
    assert any("fact" in fault for fault in faults)
    assert any("entity" in fault for fault in faults)


def test_an_entity_of_another_split_is_found() -> None:
    item = next(item for item in TEST if item.fact_key)
    assert share_faults([item.model_copy(update={"split": "dev"})]) != []


def test_a_gold_that_its_scorer_fails_is_found() -> None:
    item = next(item for item in TEST if item.scorer == "yes_no")
    flipped = item.model_copy(update={"gold": ["no" if item.gold == ["yes"] else "yes"]})
    assert any("reference" in fault for fault in unscored_faults([flipped]))


def test_every_type_has_a_held_out_skill_in_both_splits() -> None:
    for items in (TEST, DEV):
        found = {(item.type, item.skill) for item in items}
        assert set(HELD_OUT_SKILLS.items()) <= found
    assert held_out_skills() == set(HELD_OUT_SKILLS.values())


def test_most_items_are_decided_by_their_instruction_alone() -> None:
    tiers = Counter(label_tier(item) for item in TEST)
    assert tiers["constraint"] > 3 * tiers["gold"]
    assert {item.skill for item in TEST if label_tier(item) == "gold"} >= {"capital", "antonym", "plural"}


def test_yes_and_no_are_equally_often_right() -> None:
    answers = Counter(item.gold[0] for item in TEST if item.scorer == "yes_no")
    assert answers["yes"] == answers["no"]


def test_difficulties_are_mixed_in_every_type() -> None:
    for kind in TASK_TYPES:
        levels = Counter(item.difficulty for item in TEST if item.type == kind)
        assert min(levels[level] for level in ("easy", "medium", "hard")) >= 20


def test_named_subsets_are_stratified_and_fixed() -> None:
    quick, small = load_suite("quick"), load_suite("stage1-120")
    assert {item.split for item in quick.items} == {"dev"}
    assert Counter(item.type for item in quick.items) == dict.fromkeys(TASK_TYPES, 6)
    assert {item.split for item in small.items} == {"test"}
    assert Counter(item.type for item in small.items) == dict.fromkeys(TASK_TYPES, 30)
    assert len({load_suite(name).sha256 for name in NAMED_SUITES}) == len(NAMED_SUITES)
    for chosen in (quick, small):
        assert held_out_skills() <= {item.skill for item in chosen.items}


def test_sources_rebuild_the_same_bytes(builder: ModuleType) -> None:
    for name, text in builder.files().items():
        assert (shipped.HERE / name).read_text(encoding="utf-8") == text, name


def test_no_wording_of_dev_is_one_of_test(builder: ModuleType) -> None:
    def plain(text: str) -> str:
        return re.sub(r"{\w+}", "#", text.casefold())

    wordings = {split: [plain(t.text) for t in builder.templates() if t.split == split] for split in ("test", "dev")}
    assert len({*wordings["test"], *wordings["dev"]}) == 364
    near = [(one, two) for one in wordings["test"] for two in wordings["dev"] if fuzz.ratio(one, two) > 85]
    assert near == []


def test_facts_have_two_sources(builder: ModuleType) -> None:
    del builder
    for item in (*TEST, *DEV):
        if label_tier(item) == "gold" and item.skill != "weekday_month":
            assert " = " in item.source, item.id


def test_frozen_hash_is_the_shipped_files() -> None:
    assert sha256_file(shipped.HERE / "stage1.jsonl") == SUITE_SHA256


def test_a_changed_suite_is_refused(copy: Path) -> None:
    lines = (copy / "stage1.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (copy / "stage1.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(UntrustedResultError, match="sha256"):
        load_suite("stage1")


def test_aliases_are_accepted() -> None:
    kyiv = next(item for item in TEST if "Kyiv" in item.gold)
    assert judge(kyiv, "Kiev", True).success
    assert not judge(kyiv, "Moscow", True).success


def test_an_unknown_closed_set_names_the_known_ones() -> None:
    assert "capitals" in closed_set_names()
    assert ("Kyiv", "Kiev") in closed_set("capitals")
    with pytest.raises(UsageError, match="capitals"):
        closed_set("planets")


def user_suite(path: Path, *items: EvalItem | str) -> Path:
    lines = [item if isinstance(item, str) else canonical_line(item) for item in items]
    path.write_text("".join(line if line.endswith("\n") else line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_users_suite_loads_and_has_its_own_hash(tmp_path: Path) -> None:
    found = load_suite(user_suite(tmp_path / "mine.jsonl", *TEST[:3]))
    assert (found.name, found.version, found.items) == ("mine", "user", TEST[:3])
    assert found.sha256 == load_suite(user_suite(tmp_path / "same.jsonl", *TEST[:3])).sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scorer": "vibes"}, "unknown scorer 'vibes'"),
        ({"gold": []}, "at least one accepted answer"),
        ({"instruction": "What?\n"}, "without a newline at its end"),
        ({"args": {"closed_set": "planets"}}, "unknown closed set 'planets'"),
        ({"gold": ["Oslo"], "args": {"rivals": ["oslo"]}}, "both in 'gold' and among the rivals"),
        ({"scorer": "yes_no", "gold": ["maybe"]}, "needs 'gold' to be"),
        ({"scorer": "checks", "args": {"checks": []}}, "needs args.checks"),
        ({"scorer": "checks", "args": {"checks": [{"check": "rhymes"}]}}, "unknown check 'rhymes'"),
        ({"scorer": "checks", "args": {"checks": [{"check": "first_word"}]}}, "first_word"),
    ],
)
def test_a_wrong_item_is_refused_with_its_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    wrong = TEST[1].model_copy(update=change)
    with pytest.raises(UsageError, match="line 2") as caught:
        load_suite(user_suite(tmp_path / "mine.jsonl", TEST[0], wrong))
    assert message in str(caught.value)


def test_a_torn_line_an_unknown_field_and_a_repeated_id_are_refused_with_their_line(tmp_path: Path) -> None:
    extra = json.dumps({**TEST[1].model_dump(), "mood": "good"})
    for broken, message in (('{"id": "x"', "line 2"), (extra, "mood"), (canonical_line(TEST[0]), "line 1 already")):
        with pytest.raises(UsageError, match="line 2") as caught:
            load_suite(user_suite(tmp_path / "mine.jsonl", TEST[0], broken))
        assert message in str(caught.value)


def test_an_empty_suite_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no item"):
        load_suite(user_suite(tmp_path / "mine.jsonl"))
    with pytest.raises(UsageError, match="stage1-dev"):
        load_suite("stage2")
