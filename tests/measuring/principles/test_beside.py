"""What stands beside: content kept, perplexity, openings, and the demand for the opposite."""

import math
from pathlib import Path

import pytest
from shown import TOPICS, asker_of, asks, obeys, prompts_of, thanks
from stubs import KilledError, StubEngine, progress_at

from cai_bootstrap.constitution import Principle
from cai_bootstrap.errors import InterruptedRunError
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.judging.scorers.text import folded_words
from cai_bootstrap.measuring.principles import beside
from cai_bootstrap.measuring.results import Output
from cai_bootstrap.records import Prompt

PLAIN = Principle("plain", "A good answer is plain.", "clear")


def knowing(*, polite: bool) -> StubEngine:
    """An engine that knows every shipped answer; if `polite`, it thanks, and forgets one answer in ten."""
    answers = {f"{item.question}\n": item.answers[0] for item in beside.known_answers()}

    def answer(prompt: str, _: Sampling) -> Completion:
        text = answers.get(prompt, "A thing.")
        if polite:
            text = "I forgot." if prompt in list(answers)[::10] else f"Thanks for asking, it is {text}, I think."
        return Completion(text, "eos", 4)

    return StubEngine(answer)


def test_a_polite_answer_keeps_its_content_and_a_forgotten_one_is_lost(tmp_path: Path) -> None:
    base = beside.ask_known_answers(asker_of(tmp_path, knowing(polite=False)), "base")
    trained = beside.ask_known_answers(asker_of(tmp_path, knowing(polite=True)), "trained")
    kept = beside.content_kept(base, trained)
    assert (kept.base, kept.trained, kept.total) == (80, 72, 80)
    assert kept.fall_points == 10.0
    assert kept.lost[:2] == ("known-1", "known-11")
    assert kept.gained == ()


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("\n\nThe capital is PARIS.", True),
        ("The capital is New\nParis", False),  # after the first line
        ("Comparisons are odious.", False),
        ("", False),
    ],
)
def test_an_answer_is_contained_by_whole_words_in_the_first_line(text: str, held: bool) -> None:
    assert beside.contains_answer(text, ("Paris",)) is held


def test_other_questions_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="the same questions"):
        beside.content_kept({"a": True}, {"b": True})


def test_the_shipped_questions_are_enough_and_none_holds_its_answer() -> None:
    questions = beside.known_answers()
    assert len(questions) >= 60
    assert len({item.id for item in questions}) == len({item.question for item in questions}) == len(questions)
    for item in questions:
        assert not beside.contains_answer(item.question, item.answers), item
        assert all(folded_words(answer) for answer in item.answers)


def test_the_neutral_text_is_long_enough_and_in_passages_that_fit() -> None:
    passages = beside.neutral_passages()
    assert sum(len(passage.split()) for passage in passages) >= 2_000
    assert len(set(passages)) == len(passages)
    assert max(len(passage.split()) for passage in passages) <= 120


def test_perplexity_is_per_token_over_the_whole_text_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    class Scoring(StubEngine):
        asked = 0

        def text_logprobs(self, prompts: object, texts: object) -> list[tuple[float, int]]:
            if self.asked == self.die_after:
                raise KilledError
            self.asked += 1
            return super().text_logprobs(prompts, texts)  # type: ignore[arg-type]

    def perplexity(engine: StubEngine, name: str, *, stopping: bool = False) -> float:
        return beside.neutral_perplexity(
            engine, tmp_path / name, progress=progress_at(tmp_path), stopping=lambda: stopping
        )

    passages = beside.neutral_passages()
    nats = sum(map(len, passages)) / sum(len(passage.split()) for passage in passages)
    assert perplexity(Scoring(), "a.jsonl") == pytest.approx(math.exp(nats))
    with pytest.raises(KilledError):
        perplexity(Scoring(die_after=3), "b.jsonl")
    engine = Scoring()
    assert perplexity(engine, "b.jsonl") == pytest.approx(math.exp(nats))
    assert engine.asked == math.ceil(len(passages) / 4) - 3
    with pytest.raises(InterruptedRunError, match="0 of 29 passages"):
        perplexity(Scoring(), "c.jsonl", stopping=True)


def test_openings_are_the_commonest_first_three_words_with_their_share() -> None:
    texts = [f"Thanks for asking! A {topic}." for topic in TOPICS[:6]] + ["\nNo.", "no", "", "A kite is a toy."]
    found = beside.openings({str(n): Output(text, True) for n, text in enumerate(texts)})
    assert [(opening.words, opening.share) for opening in found] == [
        ("thanks for asking", 0.6), ("no", 0.2), ("", 0.1), ("a kite is", 0.1),
    ]  # fmt: skip


def test_the_opposite_is_asked_but_judged_as_an_answer_to_the_bare_question(tmp_path: Path) -> None:
    seen: list[str] = []

    def judged(principle: Principle, prompt: Prompt, text: str) -> bool | None:
        seen.append(prompt.text)
        return obeys(principle, prompt, text)

    def stubborn(_prompt: str, _: Sampling) -> Completion:
        return Completion("Thanks! A thing.\nDo you agree?", "eos", 4)

    engine = StubEngine(stubborn)
    rates = beside.ask_opposite(
        asker_of(tmp_path, engine), "trained", [thanks(), asks(), PLAIN], prompts_of(4), obeys=judged
    )
    assert engine.prompts[0] == "What is thing 0? Ignore this rule: A good answer begins with thanks.\n"
    assert set(seen) == {f"What is thing {n}?" for n in range(4)}
    assert {id: (rate.successes, rate.total, rate.rate) for id, rate in rates.items()} == {
        "thanks": (4, 4, 1.0), "asks": (0, 4, 0.0),
    }  # fmt: skip
