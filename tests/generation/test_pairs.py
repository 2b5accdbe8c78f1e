"""Preference pairs: C4.13's filter, the reasons of what was dropped, and counts that add up."""

from collections import Counter
from pathlib import Path

import pytest
from stubs import StubEngine, config_of, instructions_of, rows_of, run_generator

from cai_bootstrap.config import resolve
from cai_bootstrap.errors import UsageError
from cai_bootstrap.generation.candidates import Candidate, collect, few_shot_count, shown
from cai_bootstrap.generation.critic import Preference
from cai_bootstrap.generation.filters import effective_unique, fault, over_represented, similar
from cai_bootstrap.generation.pairs import Judgement, build_pair
from cai_bootstrap.generation.select import Proposal, propose
from cai_bootstrap.inference.engine import Completion, Sampling
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.judging.scorers import label_tier
from cai_bootstrap.records import Instruction, PreferencePair, RejectedPair, Response

LONG = "The river runs past the old mill and the stone bridge before it meets the sea at last."


def instruction(**changes: object) -> Instruction:
    values = {
        "id": "q-1", "type": "question", "template": "train.question.who_has.01", "instruction": "Who has the drum?",
        "source": "template", "skill": "who_has", "scorer": "answer", "args": {"rivals": ["Ann"], "in_context": True},
        "gold": ["Bob"],
    }  # fmt: skip
    return Instruction.model_validate({**values, **changes})


def candidate(text: str, **changes: object) -> Candidate:
    values = {"id": f"q-1.{text[:5]}", "text": text, "finished": True, "source": "response", "plain": False}
    return Candidate(**{**values, **changes})  # type: ignore[arg-type]


def pair_of(n: int, **changes: object) -> PreferencePair:
    values = {
        "id": f"p{n}", "instruction_id": f"i{n}", "type": "question", "template": "t", "prompt": f"Ask {n}?\n",
        "chosen": f"Answer {n}", "rejected": "No", "chosen_source": "response", "chosen_id": "c", "rejected_id": "r",
        "rejected_finished": True, "principle_id": "clear", "label_source": "critic",
    }  # fmt: skip
    return PreferencePair.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (LONG, LONG, True),
        (LONG, LONG.upper() + "!!", True),  # normalised: case, spaces, punctuation around
        (LONG, LONG.replace("old", "odd"), True),  # 97% alike
        (LONG, LONG.replace("the old mill and the stone bridge", "a farm"), False),
        ("Paris", "Paris.", True),
        ("a cat", "a bat", False),  # short: only when equal
        ("one two three four five six seven eight", "one two three four five six seven eighth", True),
        ("one two three four five six seven eigh", "one two three four five six seven eigth", False),
    ],
)
def test_c4_13_more_than_95_percent_identical(first: str, second: str, same: bool) -> None:
    assert similar(first, second, limit=95.0) is same
    assert similar(second, first, limit=95.0) is same


def test_c4_13_the_boundary_is_more_than_95() -> None:
    """Exactly 95.0% is kept: 40 characters of which two differ give a ratio of 95.0."""
    first = "a" * 40
    second = "a" * 38 + "bb"
    assert not similar(first, second, limit=95.0)
    assert similar(first, "a" * 39 + "b", limit=95.0)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (candidate(" "), candidate("No"), "empty_chosen"),
        (candidate("Bob"), candidate(" "), "empty_rejected"),
        (candidate("Bob and", finished=False), candidate("No"), "truncated_chosen"),
        (candidate("Bob\n\nInstruction: next"), candidate("No"), "run_on_chosen"),
        (candidate("Bob. Response: Ann"), candidate("No"), "run_on_chosen"),
        (candidate("Bob"), candidate("bob."), "too_similar"),
        (candidate(LONG), candidate(LONG + " "), "too_similar"),
        (candidate("Bob"), candidate("Bob\nBob\nBob", finished=False), None),  # stopping is what it teaches
        (candidate("Bob"), candidate("Ann"), None),
    ],
)
def test_every_fault_of_a_pair_has_its_reason(chosen: Candidate, rejected: Candidate, reason: str | None) -> None:
    assert fault(instruction(), chosen, rejected, max_similarity=95.0) == reason


def test_where_a_rule_tells_them_apart_case_and_punctuation_count() -> None:
    """Else the pairs that teach capitals, and what to leave out, are those that are dropped."""
    shouted = instruction(
        type="transformation", instruction="Write in capital letters: fern, moss", skill="uppercase",
        scorer="exact", args={}, gold=["FERN, MOSS"],
    )  # fmt: skip
    right, wrong, other = candidate("FERN, MOSS"), candidate("fern, moss"), candidate("FERN,  MOSS", finished=False)
    pair = build_pair(shouted, Proposal(right, wrong, "constraint"), None, "clear", max_similarity=95.0)
    assert isinstance(pair, PreferencePair)
    assert (pair.chosen, pair.rejected) == ("FERN, MOSS", "fern, moss")
    sure = Judgement(
        instruction_id="q-1", chosen_id="a", rejected_id="b", principle_id="clear", margin=2.0, consistent=True,
        prompt_version="v",
    )  # fmt: skip
    by_critic = build_pair(shouted, Proposal(right, wrong, ""), sure, "clear", max_similarity=95.0)
    assert isinstance(by_critic, RejectedPair)
    assert by_critic.reason == "too_similar"
    spaces = build_pair(shouted, Proposal(right, other, "constraint"), None, "clear", max_similarity=95.0)
    assert isinstance(spaces, RejectedPair)


def test_an_answer_that_is_not_nearly_the_chosen_one_is_rejected_before_one_that_is() -> None:
    long = "the grey cat and the old dog sat by the river"
    asked = instruction(
        instruction=f"Repeat: {long}", type="transformation", skill="repeat", scorer="exact", args={}, gold=[long]
    )
    near, far = candidate(long.replace("old", "olds")), candidate("a cat and a dog", finished=False)
    answers = [candidate(long), near, far]
    proposal = propose(asked, answers, frozenset({"constraint"}), agreement=0.75)
    assert isinstance(proposal, Proposal)
    assert proposal.rejected is far
    alone = propose(asked, answers[:2], frozenset({"constraint"}), agreement=0.75)
    assert isinstance(alone, Proposal)
    assert alone.rejected is near


def test_an_answer_that_echoes_the_instruction_is_dropped() -> None:
    long = instruction(instruction="Ann has a kite and Bob has a drum. Who has the drum?")
    echo = candidate("Ann has a kite and Bob has a drum. Who has the drum? Bob")
    assert fault(long, echo, candidate("No"), max_similarity=95.0) == "echoing_chosen"


def echo_engine() -> StubEngine:
    """Every completion is the same text, so that no pair can differ."""
    return StubEngine(answer=lambda _p, _s: Completion("the same words", "eos", 3))


def test_c4_13_identical_pairs_are_dropped_and_counted(tmp_path: Path) -> None:
    summary = run_generator(tmp_path / "data", echo_engine(), instructions_of(8))
    assert summary.pairs == 0
    assert sum(summary.dropped.values()) == 8
    assert set(summary.dropped) <= {"none_failed", "too_similar", "no_candidate"}


def test_counts_add_up(tmp_path: Path) -> None:
    """Each instruction ends as one pair or one rejected pair; every breakdown sums to the whole."""
    summary = run_generator(tmp_path / "data", StubEngine(), instructions_of(40))
    pairs, rejected = rows_of(tmp_path / "data/preference_pairs.jsonl"), rows_of(tmp_path / "data/rejected_pairs.jsonl")
    assert len(pairs) + len(rejected) == 40
    assert len({row["instruction_id"] for row in pairs + rejected}) == 40
    assert summary.pairs == len(pairs) == sum(summary.pairs_by_type.values())
    assert sum(summary.dropped.values()) == len(rejected)
    assert sum(summary.by_chosen_source.values()) == len(pairs)
    assert sum(summary.by_label_source.values()) == len(pairs)
    assert sum(row.assigned for row in summary.by_principle.values()) == 40
    assert sum(row.pairs for row in summary.by_principle.values()) == len(pairs)
    revised = sum(row.revisions_chosen for row in summary.by_principle.values())
    assert revised == summary.by_chosen_source["revision"]
    assert summary.effective["rows"] == len(pairs)


def test_pairs_load_straight_into_trl(tmp_path: Path) -> None:
    from datasets import load_dataset

    run_generator(tmp_path / "data", StubEngine(), instructions_of(12))
    path = tmp_path / "data/preference_pairs.jsonl"
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "hf"))
    assert {"prompt", "chosen", "rejected", "chosen_source", "principle_id", "label_source"} <= set(loaded.column_names)
    assert loaded["prompt"][0].endswith("\n")
    assert len(loaded) == len(rows_of(path))


def test_the_critic_must_survive_swapping_the_answers() -> None:
    unsure = Judgement(
        instruction_id="q-1", chosen_id="a", rejected_id="b", principle_id="clear", margin=2.0, consistent=False,
        prompt_version="v",
    )  # fmt: skip
    proposal = Proposal(candidate("Bob"), candidate("Ann"), "")
    dropped = build_pair(instruction(), proposal, unsure, "clear", max_similarity=95.0)
    assert isinstance(dropped, RejectedPair)
    assert dropped.reason == "critic_inconsistent"
    swapped = build_pair(
        instruction(), proposal, unsure.model_copy(update={"consistent": True, "margin": -1.0}), "clear",
        max_similarity=95.0,
    )  # fmt: skip
    assert isinstance(swapped, PreferencePair)
    assert (swapped.chosen, swapped.rejected, swapped.label_source) == ("Ann", "Bob", "critic")


def test_the_critic_does_not_overrule_a_rule() -> None:
    against = Judgement(
        instruction_id="q-1", chosen_id="a", rejected_id="b", principle_id="clear", margin=-3.0, consistent=True,
        prompt_version="v",
    )  # fmt: skip
    kept = build_pair(
        instruction(), Proposal(candidate("Bob"), candidate("Ann"), "constraint"), against, "clear", max_similarity=95.0
    )
    assert isinstance(kept, PreferencePair)
    assert (kept.chosen, kept.label_source) == ("Bob", "constraint")


def test_gold_is_read_only_when_it_is_selected() -> None:
    """A fact with a known answer: without `gold` among the judges the known answer must not decide."""
    fact = instruction(args={"rivals": ["Rome"]}, gold=["Paris"], skill="capital", instruction="Capital of France?")
    assert label_tier(fact) == "gold"
    answers = [candidate("Rome", id=f"f{n}", votes=1) for n in range(4)] + [candidate("Paris", id="p")]
    by_gold = propose(fact, answers, frozenset({"gold"}), agreement=0.75)
    assert isinstance(by_gold, Proposal)
    assert by_gold.chosen.text == "Paris"
    by_agreement = propose(fact, answers, frozenset({"constraint", "agreement"}), agreement=0.75)
    assert isinstance(by_agreement, Proposal)
    assert by_agreement.chosen.text == "Rome"  # wrong, and the model's own: nobody told it
    assert by_agreement.decided_by == "agreement"
    assert propose(fact, answers, frozenset({"constraint"}), agreement=0.75) == "no_judge"


def test_disagreeing_answers_abstain() -> None:
    fact = instruction(args={}, gold=["Paris"])
    answers = [candidate(text, id=text) for text in ("Rome", "Paris", "Oslo", "Bern")]
    assert propose(fact, answers, frozenset({"agreement"}), agreement=0.75) == "abstained"


def test_a_copy_of_the_question_is_no_answer_however_often_it_is_given() -> None:
    """Base models answer "the opposite of hot" with "hot", over every exemplar draw: that is no knowledge."""
    fact = instruction(
        args={"rivals": ["hot"]}, gold=["cold"], skill="antonym", instruction="What is the opposite of hot?"
    )
    answers = [candidate("hot", id="f0", votes=7), candidate("cold", id="f7")]
    assert propose(fact, answers, frozenset({"agreement"}), agreement=0.75) == "abstained"
    copied = [candidate("hot", id="f0", votes=1), candidate("cold", id="f1", votes=7)]
    found = propose(fact, copied, frozenset({"agreement"}), agreement=0.75)
    assert isinstance(found, Proposal)
    assert (found.chosen.text, found.rejected.text) == ("cold", "hot")


def test_a_sentence_that_says_the_agreed_answer_is_not_rejected() -> None:
    fact = instruction(
        args={"closed_set": "capitals"}, gold=["Lima"], skill="capital", instruction="Give the capital city of Peru."
    )
    agreed = candidate("Lima", id="f0", votes=8)
    same = candidate("The capital of Peru is Lima.", id="p", plain=True)
    more = candidate("Lima is the capital. The capital of Chile is Santiago.", id="p2", plain=True)
    assert propose(fact, [agreed, same], frozenset({"agreement"}), agreement=0.75) == "none_failed"
    found = propose(fact, [agreed, same, more], frozenset({"agreement"}), agreement=0.75)
    assert isinstance(found, Proposal)
    assert (found.chosen.text, found.rejected.text) == (agreed.text, more.text)


def test_every_second_draw_shows_the_options_of_a_choice_the_other_way_round() -> None:
    asked = instruction(
        instruction="Is a trout a fish or a bird?",
        args={"options": ["a fish", "a bird"], "rivals": ["bird"]},
        gold=["a fish"],
    )
    assert shown(asked, 0) == asked.instruction
    assert shown(asked, 1) == "Is a trout a bird or a fish?"
    assert shown(instruction(), 1) == instruction().instruction
    first = asked.model_copy(update={"instruction": "A fish or a bird: which is a trout?"})
    assert shown(first, 1) == "A bird or a fish: which is a trout?"
    agreed = [candidate("a fish", id="f0", votes=8), candidate("a bird", id="p", plain=True)]
    assert isinstance(propose(asked, agreed, frozenset({"agreement"}), agreement=0.75), Proposal)


def test_every_choice_of_the_pool_can_be_shown_the_other_way_round() -> None:
    choices = [i for i in sample(3000, seed=0) if "options" in i.args]
    assert len(choices) > 10
    for choice in choices:
        other = shown(choice, 1)
        assert other != choice.instruction
        assert sorted(other.casefold()) == sorted(choice.instruction.casefold())
        assert shown(choice.model_copy(update={"instruction": other}), 1) == choice.instruction


def test_constraint_rules_choose_a_passing_answer_and_reject_a_failing_one() -> None:
    asked = instruction()
    found = propose(asked, [candidate("Ann"), candidate("Bob")], frozenset({"constraint"}), agreement=0.75)
    assert isinstance(found, Proposal)
    assert (found.chosen.text, found.rejected.text, found.decided_by) == ("Bob", "Ann", "constraint")
    assert propose(asked, [candidate("Ann")], frozenset({"constraint"}), agreement=0.75) == "none_passed"
    assert propose(asked, [candidate("Bob")], frozenset({"constraint"}), agreement=0.75) == "none_failed"
    assert (
        propose(asked, [candidate("Bob", finished=False)], frozenset({"constraint"}), agreement=0.75) == "no_candidate"
    )


def test_unknown_judge_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown judge 'oracle'; known.*: critic, constraint, agreement, gold"):
        resolve({"generation.select": "critic+oracle"}, environment={})
    with pytest.raises(UsageError):
        resolve({"generation.select": ""}, environment={})


def test_hard_skills_and_facts_get_more_answers() -> None:
    settings = config_of(generation__candidates=3).generation
    assert few_shot_count(instruction(), settings) == 3
    assert few_shot_count(instruction(skill="uppercase"), settings) == 6
    assert few_shot_count(instruction(args={}), settings) == 6


def test_a_plain_answer_counts_whole_and_as_its_first_line() -> None:
    response = Response(
        id="q-1.p", instruction_id="q-1", prompting="plain", candidate=0, text="Bob\nAnn\n", finished=False, seed=0,
        prompt_version="v", model="m",
    )  # fmt: skip
    assert [(c.text, c.finished) for c in collect([response], [])] == [("Bob", True), ("Bob\nAnn", False)]


def test_easy_skills_do_not_fill_the_data() -> None:
    pairs = (
        [pair_of(n) for n in range(60)] + [pair_of(100 + n) for n in range(8)] + [pair_of(200 + n) for n in range(8)]
    )
    skills = {p.instruction_id: "easy" if int(p.id[1:]) < 60 else f"hard{int(p.id[1:]) // 100}" for p in pairs}
    dropped = over_represented(pairs, skills)
    assert len(dropped) == 60 - 16
    assert all(int(name[1:]) < 60 for name in dropped)


def test_easy_skills_are_held_to_the_harder_half_where_most_skills_are_easy() -> None:
    sizes = {"sort": 10, "remove": 14, "copy": 120, "first": 120, "join": 130}
    pairs = [pair_of(1000 * place + n) for place, size in enumerate(sizes.values()) for n in range(size)]
    skills = {p.instruction_id: list(sizes)[int(p.id[1:]) // 1000] for p in pairs}
    dropped = over_represented(pairs, skills)
    left = Counter(skills[p.instruction_id] for p in pairs if p.id not in dropped)
    assert left == {"sort": 10, "remove": 14, "copy": 96, "first": 96, "join": 96}


def test_an_easy_type_is_held_to_the_harder_types() -> None:
    kinds = {"question": 40, "completion": 40, "generation": 400, "transformation": 60}
    pairs = [
        pair_of(1000 * place + n).model_copy(update={"type": kind})
        for place, (kind, size) in enumerate(kinds.items())
        for n in range(size)
    ]
    skills = {p.instruction_id: str(int(p.id[1:]) % 10) for p in pairs}
    dropped = over_represented(pairs, skills)
    left = Counter(p.type for p in pairs if p.id not in dropped)
    assert left == {"question": 40, "completion": 40, "generation": 80, "transformation": 60}


def test_instructions_that_the_model_wrote_are_not_one_skill_that_has_too_many() -> None:
    pairs = [pair_of(n) for n in range(90)]
    skills = {p.instruction_id: "" if n < 60 else f"s{n % 3}" for n, p in enumerate(pairs)}
    assert over_represented(pairs, skills) == set()


def test_effective_unique_counts_what_differs() -> None:
    figures = effective_unique([pair_of(1), pair_of(2, chosen="Answer 1"), pair_of(3, prompt="Ask 1?\n")])
    assert figures == {"rows": 3, "unique_prompts": 2, "unique_chosen": 2, "largest_repetition": 2}


def test_preferences_of_a_positional_critic_are_inconsistent() -> None:
    """A judge that always says A prefers a position, not an answer."""
    from cai_bootstrap.constitution import Principle
    from cai_bootstrap.generation.critic import Comparison, compare

    class Positional(StubEngine):
        def choice_logprobs(self, prompts: object, _choices: object) -> list[list[float]]:
            return [[-0.1, -3.0] for _ in prompts]  # type: ignore[attr-defined]

    asked = [Comparison("Who?", "Bob", "Ann", Principle("clear", "Be clear.", "style"), ())]
    assert compare(Positional(), asked) == [Preference(0.0, False)]
    longer = compare(StubEngine(), [Comparison("Who?", "Bob has it", "Ann", Principle("c", "Be.", "s"), ())])
    assert longer[0].consistent
    assert longer[0].margin > 0


def test_generation_at_temperature_zero_is_greedy_everywhere(tmp_path: Path) -> None:
    seen: set[float] = set()

    def answer(prompt: str, sampling: Sampling) -> Completion:
        seen.add(sampling.temperature)
        return Completion(f"{len(prompt)} words here", "eos", 3)

    config = config_of(generation__temperature=0.0)
    run_generator(tmp_path / "data", StubEngine(answer=answer), instructions_of(4), config)
    assert seen == {0.0}
