"""Instructions that a model wrote: prompted as a list, parsed by line, filtered against what is known."""

import pytest

from cai_bootstrap.instructions.self_instruct import MAX_WORDS, Known, filter_new, parse, prompt
from cai_bootstrap.records import TASK_TYPES, TaskType


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_the_prompt_is_a_numbered_list_that_ends_at_the_next_number(kind: TaskType) -> None:
    text = prompt(["Name a bird.", "Sort these words:\nb a"], kind)
    assert text.endswith("\n1. Name a bird.\n2. Sort these words: b a\n3.")
    assert "<" not in text


def test_numbered_lines_become_instructions() -> None:
    assert parse(" Name a river in Africa.\n4. Who wrote Hamlet?\n- Name two birds.\n5. What is") == [
        "Name a river in Africa.",
        "Who wrote Hamlet?",
        "Name two birds.",
    ]


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
    assert parse(f"Name a river in Africa.\n{line}\nName a lake in Asia.") == [
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
