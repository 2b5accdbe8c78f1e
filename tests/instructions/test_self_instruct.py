"""Instructions that a model wrote: prompted as a list, parsed by line, filtered against what is known."""

from random import Random

import pytest

from cai_bootstrap.instructions.self_instruct import MAX_WORDS, Known, choose_seeds, filter_new, parse, prompt
from cai_bootstrap.records import TASK_TYPES, TaskType


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_the_prompt_is_a_numbered_list_that_ends_at_the_next_number(kind: TaskType) -> None:
    text = prompt(["Name a bird.", "Sort these words:\nb a"], kind)
    assert text.endswith("\n1. Name a bird.\n2. Sort these words: b a\n3.")
    assert "<" not in text


def test_numbered_lines_become_instructions() -> None:
    listed = " Name a river in Africa.\n4. Who wrote Hamlet?\n5) Name two birds.\n6. What is the"
    whole = ["Name a river in Africa.", "Who wrote Hamlet?", "Name two birds."]
    assert parse(listed, "question", cut=True) == whole
    assert parse(listed, "question") == [*whole, "What is the"]


def test_a_single_line_that_was_cut_off_is_no_instruction() -> None:
    assert parse(" Name the longest river in", "question", cut=True) == []


def test_a_line_without_a_number_is_an_answer_or_a_comment() -> None:
    text = " Who wrote Hamlet?\nThe answer is William Shakespeare\n2. Name a river in Africa.\nThe Nile is one"
    assert parse(text, "question") == ["Who wrote Hamlet?", "Name a river in Africa."]


@pytest.mark.parametrize(
    ("kind", "fitting", "unfit"),
    [
        ("question", "Is a whale a fish? Yes or no.", "Who wrote Hamlet? William Shakespeare."),
        ("question", "Name a river in Africa.", "What is two and two? Four"),
        ("completion", "The first day of the week is", "The sky over the sea is blue."),
        ("completion", "Complete the sentence with one word: the grass is green.", "Dogs bark and cats meow!"),
        ("transformation", "Write this in capital letters: good morning", "Change the text to capital letters."),
        ("transformation", 'Reverse the words of "one two three".', "Translate a short text into French."),
        ("generation", "Write one sentence about bread.", "Write one sentence. Answer: I like bread."),
    ],
)
def test_an_instruction_has_the_form_of_its_type(kind: TaskType, fitting: str, unfit: str) -> None:
    assert parse(f" {fitting}\n2. {unfit}", kind) == [fitting]


def test_seeds_are_of_different_skills_and_some_are_the_models_own() -> None:
    templated = {f"skill{n}": [f"task {n} a", f"task {n} b"] for n in range(20)}
    chosen = choose_seeds(Random(1), templated, ["own a", "own b", "own c"])
    assert len(chosen) == 8
    assert sum(text.startswith("own") for text in chosen) == 2
    assert len({text.split()[1] for text in chosen if text.startswith("task")}) == 6
    assert len(choose_seeds(Random(1), templated, [])) == 8
    assert chosen == choose_seeds(Random(1), templated, ["own a", "own b", "own c"])


def test_many_that_begin_alike_are_dropped() -> None:
    ends = ("on bread", "for my dear old aunt", "with seven green words", "that a sailor sings", "nobody has heard")
    tasks = [f"Write a short poem {end}." for end in ends]
    kept, dropped = filter_new(tasks, Known())
    assert kept == tasks[:3]
    assert dropped == {"same_opener": 2}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Too short.",
        "Answer: the river is the Nile.",
        "<start_of_turn>user tell me a story",
        "### Instruction tell me a story",
        "Q: who wrote that book",
        "Describe the picture above in a few words.",
        "word " * (MAX_WORDS + 1),
    ],
)
def test_lines_that_are_no_instruction_are_left_out(line: str) -> None:
    assert parse(f"Name a river in Africa.\n2. {line}\n3. Name a lake in Asia.", "generation") == [
        "Name a river in Africa.",
        "Name a lake in Asia.",
    ]


def test_only_new_texts_are_kept_and_the_others_are_counted() -> None:
    known = ["Write one short sentence about the old red boat."]
    kept, dropped = filter_new(
        [
            "write one short sentence about the old red boat.",
            "Write one short sentence about the old green boat.",
            "Name a river in Africa.",
            "Name a river in  africa.",
            "the the the the the the",
            "12 13 14 15 16 17 18",
        ],
        known,
    )
    assert kept == ["Name a river in Africa."]
    assert dropped == {"duplicate": 2, "near_duplicate": 1, "not_text": 1, "repetitive": 1}


def test_what_one_batch_kept_is_known_to_the_next() -> None:
    known = Known(["Name a river in Africa."])
    assert filter_new(["Name a lake in the north of Asia."], known) == (["Name a lake in the north of Asia."], {})
    assert filter_new(["name a lake in the north of asia"], known) == ([], {"near_duplicate": 1})
    assert len(known) == 2
