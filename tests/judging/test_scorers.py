"""Scorers: outputs judged by hand, rules that hold for any output, and another library's checkers."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from measured import make_items, reference

from cai_bootstrap.errors import DataError
from cai_bootstrap.judging.scorers import check, first_line, judge, reasons
from cai_bootstrap.judging.scorers.answers import CLAUSE_OPENERS, GLUE
from cai_bootstrap.judging.scorers.checks import holds
from cai_bootstrap.judging.scorers.text import MIN_REPEATED_RUN, folded_words, sentences_of, words_of
from cai_bootstrap.records import EvalItem

ADVERSARIAL = [
    json.loads(line) for line in Path(__file__).with_name("adversarial.jsonl").read_text(encoding="utf-8").splitlines()
]


def item_of(row: dict[str, Any]) -> EvalItem:
    given = {key: row[key] for key in ("instruction", "scorer", "args", "gold")}
    return EvalItem(
        id="x", split="test", type="question", template="t", source="hand", difficulty="easy", skill="", **given
    )


def test_adversarial_outputs_are_many_and_of_both_verdicts() -> None:
    verdicts = Counter(row["success"] for row in ADVERSARIAL)
    assert verdicts[False] >= 80
    assert verdicts[True] >= 60
    assert {row["scorer"] for row in ADVERSARIAL} == {"answer", "yes_no", "exact", "checks"}


@pytest.mark.parametrize("row", ADVERSARIAL, ids=lambda row: f"{row['text'][:40]!r} to {row['instruction'][:24]!r}")
def test_adversarial_output_gets_the_verdict_of_its_reader(row: dict[str, Any]) -> None:
    answer = judge(item_of(row), row["text"], row["finished"])
    assert (answer.success, answer.reason) == (row["success"], row["reason"])


ITEMS = list({json.dumps(row["instruction"]): item_of(row) for row in ADVERSARIAL}.values())
ITEMS += list(make_items())
TEXTS = sorted({row["text"] for row in ADVERSARIAL})
FILLER = ["blah", "qwer", "zxcv", "uhm"]
outputs = st.one_of(
    st.sampled_from(TEXTS),
    st.text(max_size=60),
    st.lists(st.sampled_from([word for text in TEXTS for word in text.split()]), max_size=12).map(" ".join),
)
items = st.sampled_from(ITEMS)


@given(items, outputs, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_output_gets_a_verdict_with_a_reason_from_the_closed_list(
    item: EvalItem, text: str, finished: bool
) -> None:
    answer = judge(item, text, finished)
    assert {answer.reason, answer.first_line_reason} <= reasons()
    assert answer.success == (answer.reason == "ok")
    assert answer.first_line_success == (answer.first_line_reason == "ok")
    assert finished or not answer.success


@given(items, outputs, st.text(" \n\t", max_size=5), st.text(" \n\t", max_size=5))
@settings(max_examples=200, deadline=None)
def test_padding_with_whitespace_changes_no_verdict(item: EvalItem, text: str, before: str, after: str) -> None:
    assert judge(item, before + text + after, True).reason == judge(item, text, True).reason


@given(items, outputs, st.integers(2, 4), st.sampled_from(["", " ", "\n", "\n\n", ". ", ", ", " | "]))
@settings(max_examples=300, deadline=None)
def test_repeating_never_turns_a_fail_into_a_pass(item: EvalItem, text: str, times: int, between: str) -> None:
    assume(not judge(item, text, True).success)
    assert not judge(item, between.join([text] * times), True).success


RIGHT: dict[str, list[str]] = {item.instruction: [*item.gold] for item in ITEMS}
for row in ADVERSARIAL:
    if row["success"]:
        RIGHT[row["instruction"]].append(row["text"])
JUNK = [
    "0",
    "0.",
    "1)",
    "-",
    "•",
    "(",
    "[",
    '"',
    "Q:",
    "A:",
    "The",
    "Um,",
    "no",
    "nothing",
    "not a city",
    "it",
    "—",
    "so",
]


@st.composite
def answers_with_something_before(draw: st.DrawFn) -> tuple[EvalItem, str, str]:
    """An item that is no list of checks, a text, and what is appended to it: often an output that follows."""
    item = draw(st.sampled_from([item for item in ITEMS if item.scorer != "checks"]))
    right = draw(st.sampled_from(RIGHT[item.instruction]))
    junk = st.lists(st.sampled_from(JUNK), min_size=1, max_size=3).map(" ".join)
    begun = st.builds(lambda size, more: right[:size] + more, st.integers(1, 60), junk)
    text = draw(st.one_of(outputs, junk, begun))
    more = draw(st.one_of(outputs, st.just(right), st.sampled_from([g for i in ITEMS for g in i.gold]), junk))
    between = draw(st.sampled_from([" ", "\n", ". ", ", ", "; ", ": ", " - ", " ("]))
    return item, text, text + between + more


def has_only_begun(item: EvalItem, text: str) -> bool:
    """Whether a text is the beginning of an answer: words of the question or the answer alone, or it breaks off in a
    comma or a word that opens a clause ("Paris, which", "Paris because")."""
    words = folded_words(text)
    own = set(words) - GLUE - set(folded_words(item.instruction))
    own -= {word for answer in item.gold for word in folded_words(answer)}
    return not own or words[-1] in CLAUSE_OPENERS or text.rstrip().endswith((",", ":", ";"))


@given(answers_with_something_before())
@settings(max_examples=300, deadline=None)
def test_appending_never_turns_a_failed_answer_into_a_pass(case: tuple[EvalItem, str, str]) -> None:
    """Unless the output was only the beginning of an answer: "The capital of France is", to which "Paris" is added."""
    item, text, appended = case
    assume(not judge(item, text, True).success)
    assume(not has_only_begun(item, text))
    assert not judge(item, appended, True).success


def is_whole_repetition(text: str) -> bool:
    words, sentences = folded_words(text), [folded_words(sentence) for sentence in sentences_of(text)]
    if len(sentences) == 1:
        return len(words) >= 2 * MIN_REPEATED_RUN
    return any(sentences.count(one) > 1 and len(one) >= MIN_REPEATED_RUN for one in sentences)


@given(
    st.sampled_from([item for item in ITEMS if item.scorer == "checks"]),
    outputs,
    st.sampled_from([" ", "\n", ". ", ", "]),
    st.lists(st.sampled_from(FILLER), min_size=1, max_size=30),
)
@settings(max_examples=300, deadline=None)
def test_appending_filler_never_turns_a_failed_check_into_a_pass(
    item: EvalItem, text: str, between: str, filler: list[str]
) -> None:
    """Except a demand for at least so many words, sentences or list items, which more of them can meet, and a mere
    keyword, which is the beginning of anything."""
    verdict = judge(item, text, True)
    assume(not verdict.success)
    assume(verdict.reason not in ("words", "sentences", "list", "lines", "echo", "empty"))
    # "Hello, hello" and "I see. I see" may go on: only five words or more are a repetition whatever follows.
    assume(verdict.reason != "repeated" or is_whole_repetition(text))
    padded = text + between + " ".join(filler)
    after = judge(item, padded, True)
    assert not after.success


@given(items, st.integers(2, 5), st.sampled_from([" ", "\n", "\n\n"]))
def test_a_followed_instruction_followed_twice_is_not_followed(item: EvalItem, times: int, between: str) -> None:
    right = next(
        (row["text"] for row in ADVERSARIAL if row["success"] and row["instruction"] == item.instruction), None
    )
    text = right.strip() if right is not None else reference(item)
    assert judge(item, text, True).success
    assert not judge(item, between.join([text] * times), True).success


def test_the_first_line_is_the_first_that_is_not_empty() -> None:
    assert first_line("\n\n  Paris \nLondon") == "Paris"
    assert first_line("  \n ") == ""


def test_a_run_on_output_fails_strictly_and_passes_by_its_first_line() -> None:
    item = make_items()[0]
    answer = judge(item, "\nred\n\nQuestion: What colour is the sky?", False)
    assert (answer.success, answer.reason) == (False, "unfinished")
    assert (answer.first_line_success, answer.first_line_reason) == (True, "ok")


def test_a_first_line_that_was_cut_by_the_token_limit_is_not_finished() -> None:
    answer = judge(make_items()[0], "red", False)
    assert answer.first_line_reason == "unfinished"


def test_an_unknown_scorer_check_or_argument_is_an_error_and_never_a_pass() -> None:
    with pytest.raises(DataError, match="unknown scorer 'length'"):
        check("Say yes.", "length", {}, [], "yes")
    with pytest.raises(DataError, match="unknown check 'rhymes'"):
        check("Say yes.", "checks", {"checks": [{"check": "rhymes"}]}, [], "indeed")
    with pytest.raises(DataError, match="'contains' lacks its argument 'words'"):
        check("Say yes.", "checks", {"checks": [{"check": "contains"}]}, [], "indeed")
    with pytest.raises(DataError, match="lacks its argument 'min or max'"):
        check("Say yes.", "checks", {"checks": [{"check": "words"}]}, [], "indeed")
    with pytest.raises(DataError, match="needs a list of checks"):
        check("Say yes.", "checks", {"checks": []}, [], "indeed")
    with pytest.raises(DataError, match="needs at least one accepted answer"):
        check("Say yes.", "answer", {}, [], "yes")
    with pytest.raises(DataError, match="unknown list separator 'tab'"):
        check("Say yes.", "checks", {"checks": [{"check": "list", "items": 1, "separator": "tab"}]}, [], "indeed")


@pytest.mark.parametrize(
    ("name", "args", "passing", "failing"),
    [
        (
            "words",
            {"min": 2, "max": 3},
            ["two words", "now three words", "ice-cream isn't 3.5"],
            ["one", "now four words here"],
        ),
        ("lines", {"min": 2, "max": 2}, ["a\nb", "a\n\nb\n"], ["a", "a\nb\nc"]),
        ("contains", {"words": ["colour|color"]}, ["A color.", "What COLOUR"], ["colourful", "discolor"]),
        ("contains", {"words": ["New York"]}, ["in New York!"], ["a new house in York", "New Yorker"]),
        ("order", {"words": ["sun", "sea"]}, ["sun and sea"], ["sea and sun", "sun and seaside"]),
        ("forbids", {"words": ["rain"]}, ["train", "rainbow"], ["the rain", "Rain's end", "rain-soaked"]),
        (
            "starts_with",
            {"text": "In the end"},
            ["in the end, yes", '"In the end" he said'],
            ["In the ending", "So in the end"],
        ),
        ("ends_with", {"text": "the end"}, ["This is the end.", "THE END"], ["the end of it", "breathe end"]),
        ("ends_with", {"text": "!"}, ["Stop!", "“Stop!”"], ["Stop.", "Stop! Now"]),
        ("first_word", {"word": "yes"}, ["Yes, we can"], ["yesterday we could", "oh yes"]),
        ("last_word", {"word": "home"}, ["we go home."], ["we go homeward", "home we go"]),
        ("question", {}, ["Is it?", '"Is it?"'], ["It is.", "Why? Because.", "?"]),
        ("list", {"items": 2, "separator": "newline"}, ["tea\ncoffee"], ["- tea\n- coffee", "tea, coffee", "tea\ntea"]),
        ("list", {"items": 2, "separator": "bullets"}, ["- tea\n- coffee", "* a\n• b"], ["tea\ncoffee", "- tea"]),
        (
            "list",
            {"items": 2, "separator": "numbered"},
            ["1. tea\n2. coffee", "1) tea\n2) coffee"],
            ["2. tea\n1. coffee", "1. tea", "1. tea 2. coffee"],
        ),
        (
            "json",
            {"keys": ["a"]},
            ['{"a": 1}', '\n{"a": null}\n'],
            ["{}", '{"a": NaN}', "[1]", '{"a": 1, "b": 2}', "a: 1"],
        ),
        ("case", {"case": "upper"}, ["WE GO 2", "ÉTÉ"], ["We GO", "123"]),
        ("case", {"case": "title"}, ["The Old House"], ["The old House"]),
        ("one_of", {"words": ["red", "dark blue"]}, ["Red.", '"dark blue"'], ["red blue", "blue", "red\nred", "red?"]),
        (
            "sentences",
            {"min": 2, "max": 2},
            ["Dr. Smith left. He ran.", "Is it 3.5? Yes it is!"],
            ["He ran", "Hi. Hi there. Bye now."],
        ),
    ],
)
def test_check_holds_where_a_reader_says_so(
    name: str, args: dict[str, Any], passing: list[str], failing: list[str]
) -> None:
    assert [text for text in passing if not holds(name, "Do as you are told now.", text, args)] == []
    assert [text for text in failing if holds(name, "Do as you are told now.", text, args)] == []


def test_accents_composition_and_case_of_an_answer_do_not_matter() -> None:
    for text in ("Reykjavik", "REYKJAVÍK", "Reykjavi\u0301k"):
        assert check("What is Iceland's capital?", "answer", {"rivals": ["Oslo"]}, ["Reykjavík"], text).success


def test_words_and_sentences_are_those_of_a_reader() -> None:
    assert words_of("Don't—stop: it's 3.5, well-known!") == ("Don't", "stop", "it's", "3.5", "well-known")
    assert len(sentences_of("Mr. Brown lives in the U.S. and likes it. Does he?")) == 2
    assert len(sentences_of("1. tea\n2. coffee")) == 2


vocabulary = st.sampled_from(["the", "dog", "ran", "over", "a", "hill", "near", "our", "old", "house", "while"])
simple = st.lists(vocabulary, min_size=1, max_size=20).map(" ".join)


@pytest.fixture(scope="module")
def ifeval() -> Any:
    from if_verifiable.ifeval import instructions_registry

    return instructions_registry.INSTRUCTION_DICT


def follows(ifeval: Any, name: str, text: str, **args: Any) -> bool:
    checker = ifeval[name]("cross-check")
    checker.build_description(**args)
    return bool(checker.check_following(text))


@given(text=simple, limit=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_word_counts_agree_with_ifeval(ifeval: Any, text: str, limit: int) -> None:
    args = {"num_words": limit}
    assert holds("words", "", text, {"min": limit}) == follows(
        ifeval, "length_constraints:number_words", text, relation="at least", **args
    )
    assert holds("words", "", text, {"max": limit - 1}) == follows(
        ifeval, "length_constraints:number_words", text, relation="less than", **args
    )


@given(text=simple, words=st.lists(vocabulary, min_size=1, max_size=3, unique=True))
@settings(max_examples=100, deadline=None)
def test_keywords_agree_with_ifeval_except_inside_other_words(ifeval: Any, text: str, words: list[str]) -> None:
    ours = holds("contains", "", text, {"words": words})
    assert not ours or follows(ifeval, "keywords:existence", text, keywords=words)
    banned = holds("forbids", "", text, {"words": words})
    assert banned == follows(ifeval, "keywords:forbidden_words", text, forbidden_words=words)


def test_a_keyword_inside_another_word_counts_for_ifeval_and_not_here(ifeval: Any) -> None:
    assert follows(ifeval, "keywords:existence", "Concatenate them.", keywords=["cat"])
    assert not holds("contains", "", "Concatenate them.", {"words": ["cat"]})


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "a", '{"a": ', "- tea\n- coffee", "- tea", "tea", "This is the end", "end of it"]
)
def test_json_bullets_and_endings_agree_with_ifeval(ifeval: Any, text: str) -> None:
    if text.startswith("{") or text == "a":
        assert holds("json", "", text, {"keys": ["a"]}) == follows(ifeval, "detectable_format:json_format", text)
    bullets = {"items": 2, "separator": "bullets"}
    assert holds("list", "", text, bullets) == follows(
        ifeval, "detectable_format:number_bullet_lists", text, num_bullets=2
    )
    assert holds("ends_with", "", text, {"text": "the end"}) == follows(
        ifeval, "startend:end_checker", text, end_phrase="the end"
    )
