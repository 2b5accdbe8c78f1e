"""A user's own prompts: read, cleaned, counted and split; and the matched prompts of a constitution."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from rapidfuzz.distance import Indel

from cai_bootstrap.cli.inspect import prompts
from cai_bootstrap.errors import UsageError
from cai_bootstrap.instructions import prompt_set as module
from cai_bootstrap.instructions.prompt_clean import FAR_TOO_LONG, LONGEST, clean, clean_prompts, prompt_in
from cai_bootstrap.instructions.prompt_set import PromptSet, load_prompt_set, matched_prompts, prompt_set
from cai_bootstrap.instructions.prompt_split import ALIKE, held_out_sizes, split_texts
from cai_bootstrap.instructions.text import word_list
from cai_bootstrap.judging.suite import load_suite

WORDS = [f"w{number}" for number in range(400)]


def texts(count: int, seed: int = 1) -> list[str]:
    """So many questions that resemble each other in nothing."""
    random = Random(seed)
    return [f"Which {' '.join(random.sample(WORDS, 5))}?" for _ in range(count)]


def written(tmp_path: Path, lines: Sequence[str], name: str = "mine.txt") -> str:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def all_texts(loaded: PromptSet) -> list[str]:
    return sorted(prompt.text for prompt in loaded.prompts)


def as_jsonl(rows: Sequence[object]) -> list[str]:
    return [json.dumps(row) for row in rows]


# --- formats


@pytest.mark.parametrize("column", ["prompt", "instruction", "text", "question"])
def test_json_lines_are_read_by_the_known_columns(tmp_path: Path, column: str) -> None:
    source = written(tmp_path, as_jsonl([{"n": 1, column: text} for text in texts(60)]), "a.jsonl")
    assert all_texts(load_prompt_set(source, seed=0)) == sorted(texts(60))


def test_the_last_user_message_of_a_conversation_is_the_prompt(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": [{"type": "text", "text": text}]},
                {"role": "assistant", "content": "Yes."},
            ]
        }
        for text in texts(60)
    ]
    assert all_texts(load_prompt_set(written(tmp_path, as_jsonl(rows), "a.jsonl"), seed=0)) == sorted(texts(60))
    assert prompt_in([{"from": "human", "value": "What is a kite?"}]) == "What is a kite?"
    assert prompt_in([{"role": "assistant", "content": "Hi"}]) == prompt_in(7) == prompt_in(None) == ""


def test_every_format_gives_the_same_prompts(tmp_path: Path) -> None:
    made = texts(60)
    rows = [{"id": number, "ask": text} for number, text in enumerate(made)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "lines.json").write_text("\n".join(as_jsonl(rows)), encoding="utf-8")
    for name, delimiter in (("a.csv", ","), ("b.csv", ";"), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target, delimiter=delimiter)
            writer.writerows([["id", "ask"], *([row["id"], row["ask"]] for row in rows)])
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.json", "lines.json", "a.csv", "b.csv", "a.tsv", "a.parquet"):
        loaded = load_prompt_set(str(tmp_path / name), column="ask", seed=0)
        assert all_texts(loaded) == sorted(made), name
        assert loaded.name == name
    plain = load_prompt_set(written(tmp_path, made), seed=0)
    assert all_texts(plain) == sorted(made)
    (tmp_path / "strings.json").write_text(json.dumps(made), encoding="utf-8")
    assert all_texts(load_prompt_set(str(tmp_path / "strings.json"), seed=0)) == sorted(made)


def test_a_prompt_is_named_after_its_line(tmp_path: Path) -> None:
    loaded = load_prompt_set(written(tmp_path, ["", *texts(60)]), seed=0)
    assert {prompt.id: prompt.text for prompt in loaded.prompts}["p2"] == texts(60)[0]


def test_byte_order_mark_and_carriage_returns_leave_no_trace(tmp_path: Path) -> None:
    plain = load_prompt_set(written(tmp_path, texts(60), "plain.txt"), seed=0)
    (tmp_path / "plain2.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(texts(60)).encode())
    assert load_prompt_set(str(tmp_path / "plain2.txt"), seed=0).sha256 == plain.sha256
    table = "\r\n".join(["id,prompt", *(f'{n},"{text}"' for n, text in enumerate(texts(60)))])
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert all_texts(load_prompt_set(str(tmp_path / "a.csv"), seed=0)) == sorted(texts(60))


# --- cleaning and counting


def test_a_text_becomes_one_clean_line() -> None:
    assert clean("  What\tis\r\na \x07kite\u200b?\ufeff ") == "What is a kite?"
    assert clean("cafe\u0301 \u202eabc") == "caf\u00e9 abc"
    assert clean("half \ud800 a pair") == "half a pair"
    assert clean("👨\u200d👩") == "👨\u200d👩"


def test_what_is_dropped_is_counted_by_reason_and_adds_up(tmp_path: Path) -> None:
    made = texts(60)
    leaked = load_suite("stage1").items[0].instruction.replace("\n", " ")
    near = "Please say in your own words which of the two is really the better one of them"
    lines = [*made, "", "  ", "???", made[0].upper(), "w " * LONGEST, f"{near}.", f"{near} now.", leaked]
    counts = load_prompt_set(written(tmp_path, lines), seed=0).counts
    assert counts.dropped == {"empty": 3, "too_long": 1, "duplicate": 1, "leaked": 1, "near_duplicate": 1}
    assert counts.kept == 61 == counts.train + counts.dev + counts.test
    assert counts.read == len(lines) == counts.kept + sum(counts.dropped.values())


def test_beyond_the_sample_every_prompt_has_the_same_chance() -> None:
    def cells() -> Iterator[tuple[int, object]]:
        return iter([(number, f"prompt {number}") for number in range(1, 1001)] + [(1001, "PROMPT 1")])

    drawn = [clean_prompts(cells(), seed=seed, too_long_is_error=False, source="x", sample=100) for seed in range(40)]
    assert all(len(one.texts) == 100 and one.counts["not_sampled"] == 900 for one in drawn)
    assert all(one.counts["duplicate"] == 1 and one.counts["read"] == 1001 for one in drawn)
    assert drawn[0].texts == sorted(drawn[0].texts) != drawn[1].texts
    early = sum(place <= 500 for one in drawn for place, _ in one.texts) / (40 * 100)
    assert 0.45 < early < 0.55


def test_sampling_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "clean_prompts", lambda cells, **rest: clean_prompts(cells, **rest, sample=80))
    counts = load_prompt_set(written(tmp_path, texts(100)), seed=0).counts
    assert (counts.read, counts.kept, counts.not_sampled) == (100, 80, 20)
    assert "sampled" in counts.remarks()[0]


# --- the split


@pytest.mark.parametrize(("count", "test", "dev"), [(50, 17, 8), (300, 100, 50), (1500, 500, 250), (9000, 500, 300)])
def test_a_third_is_held_out_and_of_many_at_most_five_hundred(count: int, test: int, dev: int) -> None:
    assert held_out_sizes(count) == (test, dev)


def test_the_seed_decides_the_split_and_the_hash_covers_it(tmp_path: Path) -> None:
    source = written(tmp_path, texts(90))
    first, again, other = (load_prompt_set(source, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.sha256 != other.sha256
    assert (len(first.train), len(first.dev), len(first.test)) == (45, 15, 30)
    assert all_texts(first) == all_texts(other)


def test_alike_prompts_are_never_parted(tmp_path: Path) -> None:
    random = Random(3)
    groups = [random.sample(WORDS, 6) for _ in range(60)]
    lines = [" ".join([*words[:5], tail]) for words in groups for tail in (words[5], "other", "third")]
    loaded = load_prompt_set(written(tmp_path, lines), seed=0)
    assert loaded.counts.clusters == 60
    assert len(loaded.test) >= 0.9 * 60
    rows = [(prompt, word_list(prompt.text)) for prompt in loaded.prompts]
    for (a, words), (b, others) in product(rows, rows):
        if Indel.normalized_similarity(words, others) >= ALIKE[0]:
            assert (a.cluster, a.split) == (b.cluster, b.split)


def test_prompts_of_one_wording_are_still_split_and_it_is_said(tmp_path: Path) -> None:
    loaded = load_prompt_set(written(tmp_path, [f"What is a {word}?" for word in WORDS[:120]]), seed=0)
    assert (len(loaded.test), len(loaded.dev)) == (40, 20)
    assert loaded.counts.alike == 0.8
    longer = split_texts([f"Please tell me what is in a {word}" for word in WORDS[:90]], seed=0)
    assert longer.alike == 1
    assert longer.parts.count("test") == 30


def test_a_set_can_be_made_again_from_its_prompts(tmp_path: Path) -> None:
    loaded = load_prompt_set(written(tmp_path, texts(60)), seed=0)
    again = prompt_set(loaded.name, list(loaded.prompts), loaded.counts)
    assert again == loaded


def test_prompts_that_a_demonstration_shows_leave_the_set(tmp_path: Path) -> None:
    loaded = load_prompt_set(written(tmp_path, texts(60)), seed=0)
    shown = [loaded.test[0].text.lower(), loaded.train[0].text, "Something else"]
    left = loaded.without(shown)
    assert (left.counts.shown, left.counts.kept, len(left.test)) == (2, 58, len(loaded.test) - 1)
    assert left.sha256 != loaded.sha256
    assert loaded.without(["Something else"]) == loaded


# --- bad input


GOOD = "\n".join(texts(60)).encode()
ROWS = "\n".join(as_jsonl([{"ask": text, "n": 1} for text in texts(60)])).encode()
# By fault: a file's name, its bytes, the asked column, and what the error must say.
FAULTS: dict[str, tuple[str, bytes, str | None, str]] = {
    "empty": ("a.jsonl", b"", None, "the file is empty"),
    "blank": ("a.txt", b"\n\n\n", None, "0 usable prompts of 3 read (3 empty)"),
    "binary": ("a.txt", b"What is it?\n\x7fELF\x00\x01", None, "line 2, byte 17: a zero byte"),
    "not utf-8": ("a.txt", b"one\ncaf\xe9 two\n" + GOOD, None, "line 2, byte 8: 0xe9 is not UTF-8"),
    "not utf-8, json": ("a.json", b'["caf\xe9"]', None, "line 1, byte 6: 0xe9 is not UTF-8"),
    "utf-16": ("a.txt", "What is it?".encode("utf-16"), None, "UTF-16"),
    "no known column": ("a.jsonl", ROWS, None, "there are: ask, n"),
    "wrong column": ("a.jsonl", ROWS, "asked", "no column 'asked'; there are: ask, n"),
    "wrong column, csv": ("a.csv", b"ask,n\nWhat?,1\n", "asked", "no column 'asked'; there are: ask, n"),
    "column of plain text": ("a.txt", GOOD, "asked", "has no columns"),
    "all duplicates": ("a.txt", b"What is a kite?\n" * 60, None, "1 usable prompts of 60 read (59 duplicates)"),
    "too few": ("a.txt", b"\n".join(GOOD.split(b"\n")[:49]), None, "at least 50"),
    "a line of 100 kB": (
        "a.txt",
        GOOD + b"\n" + b"word " * 20_000,
        None,
        "line or row 61 holds a prompt of 99,999",
    ),
    "broken json line": ("a.jsonl", b'{"prompt": "a"}\n{"prompt": ', None, "line 2: not valid JSON"),
    "broken json": ("a.json", b'[{"prompt": "a"}', None, "not readable as JSON"),
    "a number for a row": ("a.jsonl", b"17\n", None, "line 1: neither a text nor an object"),
    "open quote": ("a.csv", b'prompt\n"What is it?\n', None, "quotation mark"),
    "too many fields": ("a.csv", b"prompt,n\nWell, what is it?,1\n", None, "line 2 has 3 fields and the header 2"),
    "no parquet": ("a.parquet", b"PAR1 but not really", None, "not readable as Parquet"),
    "another ending": ("a.pdf", GOOD, None, "its ending is .pdf"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_faulty_file_is_refused_with_place_and_problem(tmp_path: Path, fault: str) -> None:
    name, content, column, said = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_prompt_set(str(tmp_path / name), column=column, seed=0)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("source", ["nothing/here.jsonl", "missing", "/dev/null", "a/b/c"])
def test_a_source_that_is_neither_file_nor_hub_id_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=r"no such file|a folder or a device"):
        load_prompt_set(source, seed=0)


def test_a_column_needs_prompts_of_ones_own() -> None:
    with pytest.raises(UsageError, match="--prompt-column x"):
        load_prompt_set(None, column="x", seed=0)


def test_a_missing_parquet_reader_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="pip install pyarrow"):
        load_prompt_set(str(tmp_path / "a.parquet"), seed=0)


# --- the hub


def test_a_dataset_of_the_hub_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cai_bootstrap.inference import hub_rows

    asked: list[Any] = []

    def cells(dataset: str, configuration: str | None, *, choose: Any) -> Iterator[object]:
        asked.append((dataset, configuration, choose(["id", "prompt"])))
        return iter([*texts(60), "w" * (FAR_TOO_LONG + 1)])

    monkeypatch.setattr(hub_rows, "hub_cells", cells)
    monkeypatch.chdir(tmp_path)
    loaded = load_prompt_set("some-one/ques.tions:main", seed=0)
    assert asked == [("some-one/ques.tions", "main", "prompt")]
    assert loaded.counts.dropped == {"too_long": 1}
    assert loaded.name == "some-one/ques.tions:main"


# --- matched prompts


@dataclass(frozen=True)
class Matched:
    applies: tuple[str, ...]
    does_not: tuple[str, ...]


@dataclass(frozen=True)
class Principle:
    id: str
    matched: Matched | None = None


@dataclass(frozen=True)
class Constitution:
    principles: tuple[Principle, ...]


def conditional(count: int, id: str = "warn") -> Principle:
    made = texts(2 * count, seed=5)
    return Principle(id, Matched(tuple(made[:count]), tuple(made[count:])))


@pytest.mark.parametrize(("pairs", "test"), [(8, 0), (91, 0), (92, 60), (188, 60), (308, 100)])
def test_matched_pairs_are_split_whole_and_the_first_eight_left_out(pairs: int, test: int) -> None:
    principle = conditional(pairs)
    assert principle.matched
    made = matched_prompts(Constitution((Principle("plain"), principle)), seed=0)
    assert len(made) == 2 * (pairs - 8)
    assert len({prompt.pair for prompt in made if prompt.split == "test"}) == test
    assert len({(prompt.pair, prompt.split) for prompt in made}) == pairs - 8
    assert not {prompt.text for prompt in made} & set(principle.matched.applies[:8])
    if made:
        assert (made[0].id, made[1].id) == ("warn.9.applies", "warn.9.does_not")
        assert (made[0].text, made[1].text) == (principle.matched.applies[8], principle.matched.does_not[8])
        assert (made[0].applies, made[1].applies, made[0].principle) == (True, False, "warn")


def test_matched_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="'warn': matched has 2 prompts"):
        matched_prompts(Constitution((Principle("warn", Matched(("a", "b"), ("c",))),)), seed=0)


# --- the command


def test_the_command_prints_what_became_of_the_prompts(tmp_path: Path) -> None:
    source = written(tmp_path, [*texts(60), texts(60)[0]])
    result = CliRunner().invoke(prompts, ["check", source])
    assert result.exit_code == 0
    for said in ("read", "dropped: duplicate", "test: question", "sha256 ", "clusters"):
        assert said in result.output
    figures = json.loads(CliRunner().invoke(prompts, ["check", source, "--json", "--seed", "3"]).output)
    assert (figures["read"], figures["duplicate"], figures["test"], figures["kinds"]) == (61, 1, 20, {"question": 60})
    assert figures["sha256"] == load_prompt_set(source, seed=3).sha256


def test_the_command_names_the_columns_of_a_file_without_the_asked_one(tmp_path: Path) -> None:
    source = written(tmp_path, as_jsonl([{"ask": "What?"}]), "a.jsonl")
    result = CliRunner().invoke(prompts, ["check", source, "--prompt-column", "asked"])
    assert "there are: ask" in str(result.exception)


def test_the_command_shows_the_shipped_prompts_without_a_source() -> None:
    figures = json.loads(CliRunner().invoke(prompts, ["check", "--json"]).output)
    assert figures["name"] == "open-questions"
    assert figures["train"] >= 1000
