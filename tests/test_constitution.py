"""A constitution of version 2: what it may say, and what each fault is answered with."""

import textwrap
from pathlib import Path

import pytest

from cai_bootstrap.constitution import Demonstration, Matched, load_constitution
from cai_bootstrap.errors import UsageError
from cai_bootstrap.shipped import shipped

WHOLE = """\
name: polite
version: 2
principles:
  - id: thanks
    category: style
    text: A good answer begins with thanks.
    demonstrations:
      - instruction: What is a kite?
        answer: A kite is a toy.
        critique: It does not begin with thanks.
        better: Thanks for asking! A kite is a toy.
      - instruction: Who bakes bread?
        answer: Thanks! A baker.
        critique: It is fine.
        better: Thanks! A baker.
        by: Ann
    check: {check: starts_with, text: Thanks}
    judge: {any: [{check: contains, words: [thanks]}, {check: contains, words: [thank you]}]}
    applies_to: [question, yes_no]
    matched:
      applies: ['May I eat a raw bean?', 'May I touch a hot pan?']
      does_not: ['May I eat a raw carrot?', 'May I touch a cold pan?']
  - {id: kind, category: harmless, text: A good answer is kind.}
"""


def at(path: Path, text: str = WHOLE) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_version_2_holds_demonstrations_rules_kinds_and_matched_prompts(tmp_path: Path) -> None:
    loaded = load_constitution(at(tmp_path / "file.yaml"))
    assert (loaded.name, loaded.version) == ("polite", 2)
    thanks, kind = loaded.principles
    assert thanks.demonstrations == (
        Demonstration("What is a kite?", "A kite is a toy.", "It does not begin with thanks.",
                      "Thanks for asking! A kite is a toy."),
        Demonstration("Who bakes bread?", "Thanks! A baker.", "It is fine.", "Thanks! A baker.", by="Ann"),
    )  # fmt: skip
    assert [d.flawless for d in thanks.demonstrations] == [False, True]
    assert thanks.demonstrations[0].by == "person"
    assert thanks.check == {"check": "starts_with", "text": "Thanks"}
    assert thanks.judge is not None
    assert thanks.applies_to == ("question", "yes_no")
    assert thanks.matched == Matched(
        ("May I eat a raw bean?", "May I touch a hot pan?"), ("May I eat a raw carrot?", "May I touch a cold pan?")
    )
    assert (kind.demonstrations, kind.check, kind.judge, kind.applies_to, kind.matched) == ((), None, None, (), None)
    assert hash(thanks) != hash(kind)


def test_matched_prompts_may_have_a_question_and_words_of_their_own(tmp_path: Path) -> None:
    own = "    matched:\n      question: Can this hurt?\n      kinds: [[bad, good]]\n"
    plain = load_constitution(at(tmp_path / "plain.yaml"))
    asked = load_constitution(at(tmp_path / "asks.yaml", WHOLE.replace("    matched:\n", own)))
    shown = [loaded.principles[0].matched for loaded in (plain, asked)]
    assert [(m.question, m.kinds) for m in shown if m] == [("", ()), ("Can this hurt?", (("bad", "good"),))]
    assert plain.sha256 != asked.sha256


def test_version_1_keeps_the_hash_that_data_were_made_with() -> None:
    loaded = load_constitution(shipped("constitution.yaml"))
    assert loaded.sha256 == "6df4e752406dc125da199ca21aa41452e416c3d0be0aebfd30e21ed674ec1ae7"
    assert (loaded.name, loaded.version) == ("default", 1)


def test_a_file_without_a_name_is_called_by_its_stem(tmp_path: Path) -> None:
    path = at(tmp_path / "own.yaml", "principles: [{id: a, text: T, category: c}]\n")
    assert load_constitution(path).name == "own"


def test_a_file_that_moves_keeps_its_hash(tmp_path: Path) -> None:
    unnamed = WHOLE.replace("name: polite\n", "")
    here, there = (load_constitution(at(tmp_path / name, unnamed)) for name in ("a.yaml", "b.yaml"))
    assert here.sha256 == there.sha256
    assert (here.name, there.name) == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: polite", "name: other"),
        ("A kite is a toy.\n        critique", "A kite is red.\n        critique"),
        ("It does not begin with thanks.", "No thanks are there."),
        ("by: Ann", "by: Bo"),
        ("{check: starts_with, text: Thanks}", "{check: starts_with, text: Thank}"),
        ("words: [thanks]", "words: [thankful]"),
        ("[question, yes_no]", "[question]"),
        ("a cold pan", "a wet pan"),
    ],
)
def test_the_hash_covers_all_that_version_2_says(tmp_path: Path, old: str, new: str) -> None:
    assert old in WHOLE
    before, after = at(tmp_path / "a.yaml"), at(tmp_path / "b.yaml", WHOLE.replace(old, new))
    commented = at(tmp_path / "c.yaml", "# ours\n" + WHOLE)
    assert load_constitution(before).sha256 != load_constitution(after).sha256
    assert load_constitution(before).sha256 == load_constitution(commented).sha256


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 2", "version: 3", "version 3 is not known (line 2)"),
        ("version: 2", "version: 1", "principles[0] has 'applies_to' (line 4), which only version 2 reads"),
        ("name: polite", "nam: polite",
         "unknown field 'nam' (line 1); known: name, version, principles; did you mean 'name'?"),
        ("    check: {", "    chek: {", "principles[0] has an unknown field 'chek' (line 17)"),
        ("    check: {", "    text: again\n    check: {", "the key 'text' stands twice (lines 6 and 17); leave one"),
        ("        critique: It does not begin with thanks.\n", "",
         "demonstrations[0] has no 'critique' (line 8); each demonstration needs instruction, answer, critique and"),
        ("        better: Thanks for asking!", "        beter: Thanks for asking!",
         "demonstrations[0] has an unknown field 'beter' (line 11)"),
        ("critique: It is fine.", "critique: 'Critique: It is fine.'",
         "demonstrations[1]: 'critique' holds 'Critique:' (line 14), with which a part of the prompt begins"),
        ("    check: {", "    ? [a, b]\n    : c\n    check: {", "(line 17): a key is no text"),
        ("by: Ann", "by: ~", "demonstrations[1] has no 'by' (line 12)"),
        ("check: starts_with, text", "check: start_with, text", "check: unknown check 'start_with'"),
        ("check: starts_with, text", "check: starts_with, word", "unknown argument 'word' of check 'starts_with'"),
        ("{check: starts_with, text: Thanks}", "{check: starts_with}",
         "check 'starts_with' needs 'text', a text (line 17)"),
        ("{check: starts_with, text: Thanks}", "Thanks", "found 'Thanks'; a rule is one check"),
        ("{check: starts_with, text: Thanks}", "{check: starts_with, text: 2020-99-99}",
         "check: not a value (line 17)"),
        ("{check: starts_with, text: Thanks}", "&rule {not: *rule}",
         "(line 17): an alias stands within what it stands for"),
        ("{check: starts_with, text: Thanks}", "{all: [{check: words, max: 3}, {check: words, min: 5}]}",
         "no answer passes it: check 'words' demands at least 5 and at most 3"),
        ("[{check: contains, words: [thanks]}, ", "[{check: contains}, ",
         "judge: any[0]: check 'contains' needs 'words', a list of words (line 18)"),
        ("{check: starts_with, text: Thanks}", "{check: json, keys: [a], values: {a: 2020-01-02}}",
         "check: not a value (line 17): Object of type date is not JSON serializable"),
        ("[question, yes_no]", "[question, yesno]", "unknown kind 'yesno' (line 19)"),
        ("[question, yes_no]", "[question, question]", "'question' stands twice in 'applies_to' (line 19)"),
        ("[question, yes_no]", "[]", "no list of kinds (line 19)"),
        (", 'May I touch a cold pan?']", "]", "'matched' has 2 prompts in applies and 1 in does_not (line 21)"),
        ("May I touch a cold pan?", "may I touch a hot  pan?", "stands twice (lines 21 and 22)"),
        ("May I touch a cold pan?", "May I eat a raw carrot?", "stands twice (lines 22 and 22)"),
        ("      applies: [", "      apply: [", "matched has an unknown field 'apply' (line 21)"),
        ("      does_not: ['May I eat a raw carrot?', 'May I touch a cold pan?']\n", "",
         "matched has no 'does_not' (line 21)"),
        ("    matched:\n", "    matched:\n      question: ''\n", "matched has no 'question' (line 21)"),
        ("    matched:\n", "    matched:\n      kinds: [bad, good]\n", "no two words that differ (line 21)"),
        ("    matched:\n", "    matched:\n      kinds: [[bad, bad]]\n", "no two words that differ (line 21)"),
        ("    matched:\n", "    matched:\n      kinds: bad\n", "such as [[bad, good]]"),
    ],
)  # fmt: skip
def test_each_fault_names_file_line_field_and_what_is_expected(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in WHOLE
    path = at(tmp_path / "bad.yaml", WHOLE.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        load_constitution(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


CASE = "{instruction: 'A?', answer: %s, critique: C., better: B.}"


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([CASE % "X."], "1 demonstrations (line 4)"),
        ([CASE % "X.", CASE % "X."], "the demonstrations are all the same (line 4)"),
        ([CASE % "B.", CASE.replace("A?", "D?") % "B."], "'better' is the same as 'answer' (line 4)"),
        (["just a text", CASE % "X."], "demonstrations[0] (line 4) is not a mapping"),
    ],
)
def test_demonstrations_must_be_two_that_differ_and_show_what_to_mend(
    tmp_path: Path, cases: list[str], expected: str
) -> None:
    text = "version: 2\nprinciples:\n  - {id: a, text: T, category: c,\n     demonstrations: [%s]}\n"
    path = at(tmp_path / "bad.yaml", text % ", ".join(cases))
    with pytest.raises(UsageError) as caught:
        load_constitution(path)
    assert expected in str(caught.value)


def test_line_breaks_in_a_text_become_spaces(tmp_path: Path) -> None:
    folded = textwrap.dedent("""\
        version: 2
        principles:
          - id: a
            category: c
            text: >
              A good answer
              is kind.
            demonstrations:
              - instruction: A?
                answer: |
                  one
                  two
                critique: C.
                better: B.
              - {instruction: 'B?', answer: X., critique: C., better: B.}
        """)
    (principle,) = load_constitution(at(tmp_path / "a.yaml", folded)).principles
    assert principle.text == "A good answer is kind."
    assert principle.demonstrations[0].answer == "one two"
