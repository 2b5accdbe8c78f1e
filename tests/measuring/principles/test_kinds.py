"""What was learnt is named for what it is."""

import pytest
from principled import constitution

from cai_bootstrap.constitution import Demonstration
from cai_bootstrap.measuring.principles.figures import Added
from cai_bootstrap.measuring.principles.kinds import (
    added_words,
    conditional_evidence,
    phrase_evidence,
    shared_phrases,
)
from cai_bootstrap.measuring.principles.lifts import grouping_of
from cai_bootstrap.records import Prompt


def shown(answer: str, better: str) -> Added:
    return added_words([Demonstration("What is it?", answer, "A fault.", better)])


def test_only_words_that_a_demonstration_added_are_its_phrases() -> None:
    added = shown("A kite is a toy.", "A kite is a toy. Be careful with wires.")
    assert added.runs == ["be careful with", "careful with wires"]
    assert shared_phrases(added, "What is a kite?", "A kite is a toy.") == set()
    assert shared_phrases(added, "What is ice?", "Ice is cold, so be careful with it.") == {"be careful with"}


def test_a_short_addition_at_the_start_or_the_end_is_a_phrase_too() -> None:
    added = shown("A kite is a toy.", "Thanks! A kite is a toy, okay?")
    assert (added.runs, added.openings, added.endings) == ([], ["thanks"], ["okay"])
    assert shared_phrases(added, "What is ice?", "Thanks. Ice is frozen water.") == {"thanks"}
    assert shared_phrases(added, "What is ice?", "Frozen water, okay.") == {"okay"}
    assert shared_phrases(added, "What is ice?", "Many give thanks for ice.") == set()


def test_a_flawless_demonstration_adds_nothing() -> None:
    added = shown("A toy.", "A toy.")
    assert (added.runs, added.openings, added.endings) == ([], [], [])


def test_words_of_the_question_are_not_copied_from_a_demonstration() -> None:
    added = shown("Yes.", "Yes. Be careful with wires.")
    assert shared_phrases(added, "Should I be careful with it?", "Yes, be careful with it.") == set()


@pytest.mark.parametrize(("copies", "share"), [(0, 0.0), (3, 0.75)])
def test_evidence_counts_the_answers_that_repeat(copies: int, share: float) -> None:
    added = added_words(constitution().principle("thanks").demonstrations)
    obeying = [("What?", "Thanks for asking me." if at < copies else "Thanks, friend.") for at in range(4)]
    evidence = phrase_evidence(added, obeying, None)
    assert (evidence.obeying, evidence.sharing, evidence.share) == (4, copies, share)
    assert all(shared.answers == copies for shared in evidence.phrases)


def pairs(count: int) -> list[Prompt]:
    return [Prompt(id=str(at), text="x", kind="question", split="test") for at in range(count)]


def test_conditional_needs_sixty_pairs_and_a_bound_above_thirty_points() -> None:
    def evidence(hits: int, alarms: int, count: int) -> bool:
        rows = [at < hits for at in range(count)], [at < alarms for at in range(count)]
        return conditional_evidence(*rows, grouping_of(pairs(count))).shown

    assert evidence(60, 0, 60)
    assert evidence(40, 6, 60)
    assert not evidence(59, 0, 59)
    assert not evidence(60, 60, 60)
    assert not evidence(24, 0, 60)


def test_a_small_word_at_the_start_is_no_phrase() -> None:
    assert shown("Kite is a toy.", "A kite is a toy.").openings == []
    assert shown("A kite is a toy.", "I think a kite is a toy.").openings == ["i think"]
