"""A user's suite is refused where no output, or every output, would pass, in the eyes of the scorer."""

import json
from pathlib import Path
from typing import Any

import pytest

from cai_bootstrap.cli import run_command
from cai_bootstrap.errors import EXIT_OK, EXIT_USAGE
from cai_bootstrap.files import read_jsonl
from cai_bootstrap.judging.closed_sets import closed_set_names
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.judging.suite.format import item_fault
from cai_bootstrap.records import EvalItem

ROW = {
    "id": "m1",
    "split": "test",
    "type": "generation",
    "template": "m.1",
    "instruction": "Write about snow.",
    "source": "written by hand",
    "difficulty": "easy",
}


def row(scorer: str, args: dict[str, Any], gold: list[str]) -> dict[str, Any]:
    return ROW | {"scorer": scorer, "args": args, "gold": gold}


def fault(scorer: str, args: dict[str, Any], gold: list[str]) -> str | None:
    return item_fault(EvalItem.model_validate(row(scorer, args, gold)), closed_set_names())


def check(name: str, **args: Any) -> dict[str, Any]:
    return {"check": name, **args}


SNOW = check("contains", words=["snow"])
REFUSED = [
    ([check("words", mim=3)], "did you mean 'min'"),
    ([check("words", min=2, relation="at least")], "unknown argument 'relation'"),
    ([check("question", max=3)], "it takes none"),
    ([check("words", min=500, max=336)], "at least 500 and at most 336"),
    ([check("sentences", min=3), check("sentences", max=2)], "at least 3 and at most 2"),
    ([check("words", min=0)], "holds for every output"),
    ([check("lines", max=0)], "holds for no output"),
    ([SNOW, check("forbids", words=["Snow"])], "'forbids' forbids 'snow'"),
    ([check("contains", words=["rain-soaked"]), check("forbids", words=["rain"])], "'forbids' forbids 'rain-soaked'"),
    ([check("starts_with", text="Dear"), check("forbids", words=["dear"])], "the check 'starts_with' demands"),
    ([check("question"), check("forbids", words=["?"])], "the check 'question' demands"),
    ([check("list", items=3, separator="comma"), check("forbids", words=[","])], "the check 'list' demands"),
    ([check("json", keys=["a"]), check("forbids", words=['"'])], "the check 'json' demands"),
    ([check("contains", words=["a", "b", "c"]), check("words", max=2)], "demand 3 at least"),
    ([check("list", items=5, separator="bullets"), check("words", max=3)], "demand 5 at least"),
    ([check("case", case="upper"), check("case", case="lower")], "no output passes both"),
    ([check("json", keys=["name"]), check("case", case="upper")], "is written otherwise"),
    ([check("json", keys=["a"], values={"b": 1})], "none of its 'keys'"),
    ([check("json", keys=["a", "a"])], "each once"),
    ([check("question"), check("ends_with", text=".")], "no output passes both"),
    ([check("ends_with", text="!"), check("ends_with", text=".")], "no output passes both"),
    ([check("first_word", word="a"), check("first_word", word="b")], "no output passes both"),
    ([check("starts_with", text="Dear"), check("first_word", word="Hello")], "no output passes both"),
    ([check("first_word", word="In the")], "use 'starts_with'"),
    ([check("last_word", word="!")], "use 'ends_with'"),
    ([check("one_of", words=["+", "-"])], "use scorer 'exact'"),
    ([check("one_of", words=["red"]), check("words", min=2)], "none of its words"),
    ([check("order", words=["a", ","])], "use 'contains' for the mark"),
    ([check("contains", words=["\u200b"])], "empty spelling"),
    ([check("contains", words=["colour|"])], "empty spelling"),
    ([check("list", items=0, separator="comma")], "at least 1"),
]
SOUND = [
    [check("forbids", words=[","])],
    [check("contains", words=["!"]), SNOW],
    [check("words", min=3, max=3), SNOW],
    [check("starts_with", text="Dear"), check("first_word", word="dear"), check("ends_with", text="!")],
    [check("ends_with", text="the end"), check("last_word", word="end"), check("ends_with", text=".")],
    [check("question"), check("last_word", word="today")],
    [check("contains", words=["colour|color"]), check("forbids", words=["color"])],
    [check("case", case="upper"), check("case", case="title")],
    [check("one_of", words=["red", "blue"]), check("case", case="upper")],
    [check("list", items=3, separator="numbered"), check("lines", min=3, max=3)],
    [check("json", keys=["a", "b"], values={"a": True, "b": None})],
]


@pytest.mark.parametrize(("checks", "message"), REFUSED)
def test_checks_that_no_output_or_every_output_passes_are_refused(checks: list[Any], message: str) -> None:
    assert message in (fault("checks", {"checks": checks}, []) or "")


@pytest.mark.parametrize("checks", SOUND)
def test_checks_that_some_output_passes_are_in_order(checks: list[Any]) -> None:
    assert fault("checks", {"checks": checks}, []) is None


@pytest.mark.parametrize(
    ("scorer", "args", "gold", "message"),
    [
        ("answer", {"rival": ["Rome"]}, ["Oslo"], "did you mean 'rivals'"),
        ("answer", {"rivals": ["reykjavik"]}, ["Reykjavík"], "both in 'gold' and among the rivals"),
        ("answer", {"rivals": ["$5"]}, ["5 dollars"], "both in 'gold' and among the rivals"),
        ("answer", {"rivals": ["Noah's"]}, ["Noah"], "both in 'gold' and among the rivals"),
        ("answer", {"rivals": ["!"]}, ["a"], "use scorer 'exact'"),
        ("answer", {}, ["💧"], "use scorer 'exact'"),
        ("answer", {"in_context": "yes"}, ["a"], "true or false"),
        ("exact", {}, ["\u200b"], "at least one accepted answer"),
        ("yes_no", {"rivals": ["no"]}, ["yes"], "unknown argument 'rivals'"),
        ("exact", {"case": "upper"}, ["A"], "unknown argument 'case'"),
    ],
)
def test_answers_that_the_scorer_cannot_tell_apart_or_see_are_refused(
    scorer: str, args: dict[str, Any], gold: list[str], message: str
) -> None:
    assert message in (fault(scorer, args, gold) or "")


@pytest.mark.parametrize(("gold", "rival"), [("-7", "7"), ("C++", "C#"), ("O-", "O+"), ("1/2", "1 2"), ("€5", "$5")])
def test_answers_that_differ_by_a_sign_or_a_symbol_are_two(gold: str, rival: str) -> None:
    assert fault("answer", {"rivals": [rival]}, [gold]) is None


def write(path: Path, *rows: dict[str, Any], start: str = "", end: str = "\n") -> Path:
    text = start + "\n".join(json.dumps(one, ensure_ascii=False) for one in rows) + end
    path.write_bytes(text.encode())
    return path


def test_verify_names_the_line_of_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = row("checks", {"checks": [check("words", min=5, max=2)]}, []) | {"id": "m2"}
    path = write(tmp_path / "mine.jsonl", row("exact", {}, ["A"]), bad)
    assert run_command(["suite", "verify", "--suite", str(path)]) == EXIT_USAGE
    assert "line 2 (m2): check 'words' demands at least 5 and at most 2" in capsys.readouterr().err


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u2029"])
def test_a_suite_line_ends_at_a_newline_only(tmp_path: Path, separator: str) -> None:
    text = f"Write{separator}about snow."
    rows = [row("exact", {}, ["A"]) | {"instruction": text}, row("exact", {}, ["B"]) | {"id": "m2"}]
    items = load_suite(write(tmp_path / "mine.jsonl", *rows)).items
    assert [item.instruction for item in items] == [text, "Write about snow."]


def test_a_suite_may_begin_with_a_byte_order_mark_and_end_in_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", row("exact", {}, ["A"]), start="\ufeff", end="\r\n\n  \n")
    assert run_command(["suite", "verify", "--suite", str(path)]) == EXIT_OK
    assert len(load_suite(path).items) == 1


def test_records_are_read_in_the_same_way_as_a_suite(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", row("exact", {}, ["a\u2028b"]), start="\ufeff", end="\n\n")
    assert [item.gold for item in read_jsonl(path, EvalItem)] == [["a\u2028b"]]
