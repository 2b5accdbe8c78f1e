"""Rounds after the first: what is settled is asked seldom, what is hard often; no work is counted twice."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from stubs import config_of

from cai_bootstrap.events import EventLog, Progress
from cai_bootstrap.files import write_json, write_jsonl
from cai_bootstrap.generation.candidates import Candidate, answers_planned, exemplars_for
from cai_bootstrap.generation.select import Proposal, propose
from cai_bootstrap.instructions.pool import templates
from cai_bootstrap.instructions.sampler import _draw, _Filter, no_leaks, sample, sample_with_report
from cai_bootstrap.instructions.skills import skills
from cai_bootstrap.measuring.declared import Reuse
from cai_bootstrap.run.folder import RunFolder
from cai_bootstrap.steps import data
from cai_bootstrap.steps.context import StepContext
from cai_bootstrap.steps.data import check_all_data
from cai_bootstrap.steps.generate import _weights


def in_round(base: Path, number: int, **settings: object) -> StepContext:
    workspace = RunFolder.at(base).create()
    progress = Progress(EventLog(workspace.logs / "x.jsonl", "x"), "generate")
    return StepContext(config_of(**settings), workspace, progress, lambda: False, "x", number)


def test_skills_are_drawn_by_their_weights_and_none_is_left_out() -> None:
    weights = {"transformation.sort_words": 1.0, "transformation.repeat": 0.1}
    drawn, report = sample_with_report(2000, seed=1, weights=weights)
    counts = Counter(made.skill for made in drawn if made.type == "transformation")
    assert counts["sort_words"] == pytest.approx(10 * counts["repeat"], rel=0.2)
    assert counts["uppercase"] == pytest.approx(counts["sort_words"], rel=0.1)
    assert set(report.by_type.values()) == {500}
    assert set(counts) == set(skills("transformation"))
    assert drawn == sample_with_report(2000, seed=1, weights=weights)[0]


def test_a_skill_of_weight_zero_is_drawn_only_where_the_others_do_not_suffice() -> None:
    asked = {"capital", "who_has"}
    weights = {f"question.{skill}": float(skill in asked) for skill in skills("question")}
    drawn, _ = sample_with_report(160, seed=1, weights=weights)
    assert {made.skill for made in drawn if made.type == "question"} == asked
    drawn, _ = sample_with_report(80, seed=1, weights=dict.fromkeys(weights, 0.0))
    assert Counter(made.type for made in drawn)["question"] == 20
    more = _draw("question", 12_000, Random(1), _Filter(no_leaks), weights)  # the two hold 7,594
    assert len(more) == 12_000
    assert [made.skill in asked for made in more] == sorted((made.skill in asked for made in more), reverse=True)


def facts_and_others(context: StepContext) -> None:
    """A finished first round: facts that were agreed on, and a rule's skills."""
    made = {made.skill: made for made in sample(400, seed=0)}
    write_jsonl(
        context.workspace.round_data(1).instructions, [made[name] for name in ("capital", "sort_words", "repeat")]
    )
    counts = {f"{made[name].type}.{name}": {"asked": 9, "answered": 3, "settled": 0} for name in ("capital", "repeat")}
    write_json(context.workspace.round_data(1).summary, {"by_skill": counts})


@pytest.mark.parametrize(
    ("select", "asked"),
    [("critic+constraint+agreement", False), ("constraint+agreement+gold", True), ("critic+constraint", True)],
)
def test_a_later_round_asks_no_fact_that_nobody_can_label(tmp_path: Path, select: str, asked: bool) -> None:
    context = in_round(tmp_path, 2, generation__select=select)
    facts_and_others(context)
    weights = _weights(context)
    assert weights is not None
    (capital,) = (weight for name, weight in weights.items() if name.endswith(".capital"))
    assert (capital > 0) is asked
    assert weights["transformation.repeat"] > 0
    assert "transformation.sort_words" not in weights


def test_plain_answers_of_a_later_round_agree_on_nothing() -> None:
    fact = next(made for made in sample(400, seed=0) if made.skill == "capital")
    texts = ["Bern"] * 6 + ["Rome"]
    answers = [Candidate(f"q-1.p{n}", text, True, "response", plain=True) for n, text in enumerate(texts)]
    assert propose(fact, answers, frozenset({"critic", "agreement"}), agreement=0.75) == "abstained"
    shown = [replace(answer, plain=False) for answer in answers]
    assert isinstance(propose(fact, shown, frozenset({"critic", "agreement"}), agreement=0.75), Proposal)


def test_without_weights_the_same_instructions_come_as_ever() -> None:
    assert sample_with_report(200, seed=3)[0] == sample(200, seed=3)


def test_what_was_settled_is_asked_less_and_what_was_hardly_answered_more(tmp_path: Path) -> None:
    context = in_round(tmp_path, 2)
    counts = {
        "question.capital": {"asked": 100, "answered": 100, "settled": 90},
        "question.compare_pick": {"asked": 100, "answered": 90, "settled": 10},
        "transformation.sort_words": {"asked": 100, "answered": 10, "settled": 0},
    }
    write_json(context.workspace.round_data(1).summary, {"by_skill": counts})
    write_jsonl(context.workspace.round_data(1).instructions, [])
    weights = _weights(context)
    assert weights == pytest.approx(
        {"question.capital": 0.05, "question.compare_pick": 0.54, "transformation.sort_words": 1.4}
    )
    assert _weights(in_round(tmp_path, 1)) is None


def test_later_rounds_may_ask_another_number_of_instructions(tmp_path: Path) -> None:
    settings = {"generation__count": 12, "generation__later_count": 40}
    assert [in_round(tmp_path, n, **settings).count for n in (1, 2, 3)] == [12, 40, 40]
    assert in_round(tmp_path, 2, generation__count=12).count == 12


def test_the_counts_of_the_first_round_that_differs_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {1: 40, 2: 12}
    monkeypatch.setattr(data, "check_data", lambda c: Reuse(requested=c.count, found=found[c.round]))
    asked = {"generation__count": 24, "generation__later_count": 12}
    assert check_all_data(in_round(tmp_path, 2, **asked)) == Reuse(requested=24, found=40)
    found[1] = 24
    assert check_all_data(in_round(tmp_path, 2, **asked)) == Reuse(requested=12, found=12)


def test_where_no_other_judge_can_tell_the_critic_compares_plain_answers_in_a_later_round() -> None:
    answers = [Candidate(f"q-1.p{n}", text, True, "response", plain=True) for n, text in enumerate(("Ann", "Bob"))]
    asked = next(made for made in sample(40, seed=0) if made.scorer == "checks")
    proposal = propose(asked, answers, frozenset({"critic"}), agreement=0.75)
    assert isinstance(proposal, Proposal)
    assert (proposal.chosen.text, proposal.rejected.text, proposal.decided_by) == ("Ann", "Bob", "")


def test_hard_skills_get_twice_as_many_samples_in_later_rounds() -> None:
    settings = config_of(generation__samples=3).generation
    made = {i.skill: i for i in sample(400, seed=0)}
    assert answers_planned(made["repeat"], settings, later_round=True) == (4, 0)
    assert answers_planned(made["sort_words"], settings, later_round=True) == (7, 0)


@pytest.mark.parametrize(("share", "alike"), [(0.0, None), (0.5, 3), (1.0, 6)])
def test_a_share_of_the_exemplars_stands_in_the_instructions_own_wording(share: float, alike: int | None) -> None:
    known = {template.id for group in templates().values() for template in group}
    for made in sample(40, seed=2):
        examples = exemplars_for(made, 6, seed=0, use="x", same_wording=share)
        assert len(examples) == 6
        assert {e.template for e in examples} <= known
        assert all(e.instruction != made.instruction for e in examples)
        if alike is not None:
            assert [e.template for e in examples[-alike:]] == [made.template] * alike
        else:
            assert examples == exemplars_for(made, 6, seed=0, use="x")


def test_work_that_is_done_again_is_not_counted_twice(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "x.jsonl", "x")
    progress = Progress(log, "generate")
    progress.begin(10)
    progress.advance(6)
    before = progress.mark
    progress.advance(3)
    progress.rewind(before)
    progress.advance(4)
    last = json.loads(log.path.read_text().splitlines()[-1])
    assert (last["done"], last["total"]) == (10, 10)


def test_no_rate_is_told_from_the_first_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("cai_bootstrap.events.time.monotonic", lambda: now[0])
    log = EventLog(tmp_path / "x.jsonl", "x")
    progress = Progress(log, "generate")
    progress.begin(1000)
    for at, count in ((16.0, 1), (16.5, 255), (32.0, 1)):
        now[0] = at
        progress.advance(count, tokens=10 * count)
    first, last = map(json.loads, log.path.read_text().splitlines())
    assert (first["done"], "eta_seconds" in first, "tokens_per_second" in first) == (1, False, False)
    assert last["done"] == 257
    assert last["eta_seconds"] == pytest.approx(743 * 32 / 257, abs=0.1)
