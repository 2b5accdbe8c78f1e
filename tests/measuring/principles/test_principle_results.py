"""Results of principles: what is built is what a reader computes again, and each finding says what it may."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from principled import (
    CONTROL,
    PAIRS,
    TEST,
    TRAINED,
    Write,
    asked_of,
    conditions,
    constitution,
    judges,
    obedient,
    plain,
    prompts,
    results,
)

from cai_bootstrap.constitution import Constitution, Demonstration, Principle
from cai_bootstrap.errors import DataError, GateError
from cai_bootstrap.measuring.principles.beside_block import Beside, Content
from cai_bootstrap.measuring.principles.declared import JudgeRecord, PrincipleResults
from cai_bootstrap.measuring.principles.findings import in_words, nothing_to_teach, verdict_of
from cai_bootstrap.measuring.principles.gate import judge_principle_file
from cai_bootstrap.measuring.principles.results import (
    Asked,
    Judges,
    build_principle_results,
    is_principle_file,
    read_principle_results,
    write_principle_results,
)
from cai_bootstrap.measuring.results import Measured, Output
from cai_bootstrap.records import Prompt

UNTRUSTED = JudgeRecord(kind="check", kappa=0.4, kappa_lower=0.2, trusted=False, why="κ is too low")


@pytest.fixture(scope="module")
def whole() -> PrincipleResults:
    return results()


def build(
    *,
    asked: Asked | None = None,
    by: Judges | None = None,
    over: tuple[Prompt, ...] | None = None,
    of: Constitution | None = None,
    **settings: Any,
) -> PrincipleResults:
    over = prompts() if over is None else over
    return build_principle_results(
        constitution=of or constitution(),
        prompts=over,
        conditions=settings.pop("conditions", conditions(over)),
        asked=asked or asked_of(over),
        judges=by or judges(),
        **settings,
    )


def some(share: float, then: Write = obedient, otherwise: Write = plain) -> Write:
    """Write as `then` does on this share of the prompts, spread evenly, and else as `otherwise`."""
    return lambda prompt, at: (then if (at * 37) % 100 < 100 * share else otherwise)(prompt, at)


def test_a_file_reads_back_as_it_was_built(whole: PrincipleResults, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_principle_results(path, whole)
    assert read_principle_results(path) == whole
    assert read_principle_results(path, constitution()) == whole


def test_the_file_has_the_fixed_names(whole: PrincipleResults) -> None:
    file = whole.as_dict()
    assert is_principle_file(file)
    assert not is_principle_file({"suite": {}, "models": {}})
    assert {"schema_version", "conditions", "constitution", "prompts", "judges", "principles", "joint", "beside"} < set(
        file
    )
    assert {"name", "sha256"} < set(file["constitution"])
    assert {"name", "sha256", "n"} < set(file["prompts"])
    assert {"kind", "kappa", "kappa_lower", "trusted"} < set(file["judges"]["thanks"])
    principle = file["principles"]["thanks"]
    names = ("judge", "base", "rival", "trained", "control", "lift_over_base", "lift_over_control", "lift_over_rival")
    assert {*names, "steers", "held", "distilled", "kind"} < set(principle)
    assert {"rate", "successes", "total", "interval", "strict"} < set(principle["trained"])


def test_rates_are_by_first_line_whether_or_not_the_answer_ended() -> None:
    def talkative(prompt: Prompt, at: int) -> str:
        return obedient(prompt, at) + "\nAnd it goes on and"

    over = prompts()
    arms = asked_of(over, base=talkative)
    thanks = build(asked=arms, over=over).principles["thanks"]
    assert thanks.base.rate == 1.0
    assert thanks.base.strict.rate == 0.0


def test_applies_to_parts_the_test_prompts_and_the_others_are_not_mixed_in(whole: PrincipleResults) -> None:
    asks = whole.principles["asks"]
    assert asks.outside is not None
    assert (asks.base.total, asks.outside.base.total) == (TEST // 3, TEST - TEST // 3)
    assert asks.trained is not None
    assert asks.trained.rate == 1.0
    assert asks.outside.trained is not None
    assert asks.outside.trained.rate == 0.0
    assert asks.unseen is None
    assert asks.unseen_outside is not None


def test_unseen_prompts_are_reported_apart(whole: PrincipleResults) -> None:
    thanks = whole.principles["thanks"]
    assert thanks.base.total == TEST
    assert thanks.unseen is not None
    assert thanks.unseen.base.total == 12
    assert thanks.outside is None


def test_a_conditional_principle_is_judged_on_its_matched_prompts_alone(whole: PrincipleResults) -> None:
    warn = whole.principles["warn"]
    assert warn.outside is not None
    assert warn.base.total == warn.outside.base.total == PAIRS
    assert warn.kind == "conditional"
    assert warn.evidence is not None
    assert warn.evidence.conditional is not None
    assert (warn.evidence.conditional.hits, warn.evidence.conditional.false_alarms) == (PAIRS, 0)


def test_warning_of_everything_is_no_principle_learned() -> None:
    def warns(prompt: Prompt, at: int) -> str:
        return f"Yes, but be careful with it {at}." if prompt.principle else obedient(prompt, at)

    over = prompts()
    warn = build(asked=asked_of(over, trained=warns), over=over).principles["warn"]
    assert warn.held
    assert warn.kind != "conditional"
    assert "principle:" not in in_words("warn", warn)


def test_copying_a_demonstration_is_a_phrase_and_other_words_are_afresh() -> None:
    def own_words(prompt: Prompt, at: int) -> str:
        return f"Thanks! {['Good', 'Nice', 'Fine'][at % 3]} question {at}." if not prompt.principle else "Yes."

    assert results().principles["thanks"].kind == "phrase"
    over = prompts()
    thanks = build(asked=asked_of(over, trained=own_words), over=over).principles["thanks"]
    assert thanks.kind == "afresh"
    assert "worded afresh" in in_words("thanks", thanks)
    assert "no principle" in in_words("thanks", thanks)


def test_only_conditional_is_called_learned_as_a_principle(whole: PrincipleResults) -> None:
    said = {id: in_words(id, figures) for id, figures in whole.principles.items()}
    assert [id for id, sentence in said.items() if "learned as a principle" in sentence] == ["warn"]
    assert "a copied phrase (60 of 60" in said["thanks"]
    assert "rule-selected" in said["thanks"]
    assert "rule-selected" not in said["asks"]


def test_steers_needs_a_lift_over_base_and_over_control() -> None:
    over = prompts()
    as_control = build(asked=asked_of(over, control=obedient), over=over).principles["thanks"]
    assert as_control.lift_over_base is not None
    assert as_control.lift_over_base.lower > 0
    assert as_control.steers is False
    assert results().principles["thanks"].steers is True


def test_without_a_control_nothing_is_said_of_steering() -> None:
    over = prompts()
    thanks = build(asked=asked_of(over, control=None), over=over).principles["thanks"]
    assert (thanks.steers, thanks.lift_over_control, thanks.control) == (None, None, None)
    assert thanks.held


def test_without_a_rival_nothing_is_said_of_distilling() -> None:
    over = prompts()
    thanks = build(asked=asked_of(over, rival=None), over=over).principles["thanks"]
    assert (thanks.distilled, thanks.better_than_prompting, thanks.lift_over_rival) == (None, None, None)


def test_distilled_and_better_than_prompting_go_by_the_bound() -> None:
    over = prompts()
    worse = build(asked=asked_of(over, trained=some(0.85)), over=over).principles["thanks"]
    assert (worse.distilled, worse.better_than_prompting) == (False, False)
    better = build(asked=asked_of(over, rival=some(0.6)), over=over).principles["thanks"]
    assert (better.distilled, better.better_than_prompting) == (True, True)
    warn = results().principles["warn"]
    assert (warn.distilled, warn.better_than_prompting) == (True, False)


def test_held_asks_for_the_lower_bound_and_not_the_rate() -> None:
    over = prompts()
    thanks = build(asked=asked_of(over, trained=some(0.85)), over=over).principles["thanks"]
    assert thanks.trained is not None
    assert thanks.trained.rate is not None
    assert thanks.trained.lower is not None
    assert thanks.trained.rate > 0.8 > thanks.trained.lower
    assert thanks.held is False
    assert thanks.kind is None


def test_holm_is_over_the_judged_principles() -> None:
    every = results().principles
    one = build(by=judges(asks=UNTRUSTED, warn=UNTRUSTED)).principles
    assert every["thanks"].lift_over_base is not None
    assert one["thanks"].lift_over_base is not None
    assert one["thanks"].lift_over_base.p == one["thanks"].lift_over_base.p_holm
    assert every["thanks"].lift_over_base.p_holm is not None
    assert every["thanks"].lift_over_base.p_holm > every["thanks"].lift_over_base.p


def test_a_judge_that_is_not_trusted_decides_nothing() -> None:
    file = build(by=judges(thanks=UNTRUSTED))
    thanks = file.principles["thanks"]
    assert thanks.judge == "not_judged"
    assert thanks.trained is not None
    assert thanks.trained.rate == 1.0
    findings = (thanks.steers, thanks.held, thanks.distilled, thanks.better_than_prompting, thanks.kind)
    assert findings == (None,) * 5
    verdict, message = verdict_of(file)
    assert verdict == "held"
    assert "not judged: thanks" in message
    assert "not judged" in in_words("thanks", thanks)


def test_no_trusted_judge_at_all_is_not_judged() -> None:
    file = build(by=judges(thanks=UNTRUSTED, asks=UNTRUSTED, warn=UNTRUSTED))
    assert verdict_of(file)[0] == "not_judged"
    assert file.gate.passed is None
    assert not nothing_to_teach(file)
    assert file.joint.principles == []
    assert file.joint.base.rate is None


def test_joint_asks_that_all_that_applies_holds_at_once() -> None:
    def no_question(prompt: Prompt, at: int) -> str:
        return f"Thanks for asking me. It is {at}." if not prompt.principle else obedient(prompt, at)

    over = prompts()
    joint = build(asked=asked_of(over, trained=no_question), over=over).joint
    assert joint.principles == ["thanks", "asks"]
    assert joint.trained is not None
    assert (joint.trained.successes, joint.trained.total) == (TEST - TEST // 3, TEST)
    assert joint.base.successes == 0


def test_nothing_to_teach_looks_at_the_raw_base_alone() -> None:
    over = prompts()
    only_base = {"trained": None, "control": None}
    assert not nothing_to_teach(build(asked=asked_of(over, **only_base), over=over))
    ready = build(asked=asked_of(over, base=obedient, rival=None, **only_base), over=over)
    assert nothing_to_teach(ready)
    assert verdict_of(ready)[0] == "nothing_to_teach"
    assert ready.gate.passed is None
    assert verdict_of(build(asked=asked_of(over, **only_base), over=over))[0] == "baseline"


def test_verdict_names_what_is_not_held(tmp_path: Path) -> None:
    over = prompts()
    file = build(asked=asked_of(over, trained=some(0.5)), over=over)
    verdict, message = verdict_of(file)
    assert verdict == "not_held"
    assert "0 of 3 judged principles held" in message
    path = tmp_path / "results.json"
    write_principle_results(path, file)
    judged = judge_principle_file(path)
    assert judged.passed is False
    assert len(judged.lines) == 3
    with pytest.raises(GateError, match="Constitution FAILED: 0 of 3"):
        judged.demand()
    assert "not enforced" in judge_principle_file(path, enforce=False).message


def test_a_model_as_judge_is_taken_at_its_word_and_never_strict_beyond_the_first_line(tmp_path: Path) -> None:
    over = prompts(test=30, unseen=0, pairs=0)
    kind = Constitution((Principle("kind", "Be kind.", "manner"),), "1" * 64, "kindness", 2)
    record = JudgeRecord(kind="model", kappa=0.8, kappa_lower=0.7, trusted=True)
    verdicts = {
        arm: {prompt.id: arm == "trained" for prompt in over} for arm in ("base", "rival", "trained", "control")
    }
    longer: Write = lambda prompt, at: obedient(prompt, at) + ("\nAnd more." if at % 2 else "")  # noqa: E731
    by = Judges({"kind": record}, {"kind": verdicts})  # type: ignore[dict-item]
    file = build(of=kind, over=over, asked=asked_of(over, trained=longer), by=by)
    found = file.principles["kind"]
    assert found.trained is not None
    assert (found.trained.rate, found.trained.strict.rate, found.base.rate) == (1.0, 0.5, 0.0)
    path = tmp_path / "results.json"
    write_principle_results(path, file)
    assert read_principle_results(path) == file
    with pytest.raises(DataError, match="no verdict on 'kind'"):
        build(of=kind, over=over, by=Judges({"kind": record}))
    unjudged = JudgeRecord(kind="model", trusted=False, why="too few labels")
    rates = build(of=kind, over=over, by=Judges({"kind": unjudged})).principles["kind"]
    assert (rates.base.rate, rates.base.total, rates.judge) == (None, 0, "not_judged")


def test_what_does_not_belong_together_is_refused() -> None:
    over = prompts()
    arms = asked_of(over)
    short = {id: output for id, output in arms.base.outputs.items() if id != "q-0"}
    with pytest.raises(DataError, match="base: answers and prompts differ in 1 prompts, first 'q-0'"):
        build(asked=Asked(base=Measured(short, arms.base.factors)))
    with pytest.raises(DataError, match="the control needs both"):
        build(asked=Asked(base=arms.base, control=arms.control))
    with pytest.raises(DataError, match="trained: these are no declared factors"):
        build(asked=Asked(base=arms.base, trained=arms.base))
    with pytest.raises(DataError, match=r"conditions\.item_order"):
        build(conditions=conditions(over[::-1]))
    with pytest.raises(DataError, match="judges and principles differ, first in 'asks'"):
        build(by=Judges({"thanks": UNTRUSTED, "warn": UNTRUSTED}))
    with pytest.raises(DataError, match="has no 'judge'"):
        build(by=judges(asks=JudgeRecord(kind="judge", trusted=True)))
    with pytest.raises(DataError, match=r"a kappa_lower of 0\.5"):
        build(by=judges(asks=JudgeRecord(kind="check", kappa=0.7, kappa_lower=0.5, trusted=True)))
    trained_on = (over[0].model_copy(update={"split": "train"}), *over[1:])
    with pytest.raises(DataError, match="is a train prompt"):
        build(over=trained_on)
    mismatched = (*over[:-1], over[-1].model_copy(update={"principle": "asks"}))
    with pytest.raises(DataError, match="no conditional principle here"):
        build(over=mismatched)
    with pytest.raises(DataError, match="fall_points"):
        build(beside=Beside(content=Content(base=60, trained=50, total=80, fall_points=1.0, lost=["k"] * 10)))


def test_a_thousand_items_of_four_arms_and_eight_principles_are_read_in_three_seconds(tmp_path: Path) -> None:
    over = prompts(test=1000, unseen=0, pairs=0)
    checks: list[dict[str, Any]] = [
        {"check": "first_word", "word": "thanks"},
        {"check": "question"},
        {"check": "contains", "words": ["careful|caution", "mind"]},
        {"check": "words", "max": 12},
        {"any": [{"check": "contains", "words": ["may be wrong"]}, {"check": "contains", "words": ["unsure"]}]},
        {"all": [{"check": "sentences", "max": 2}, {"check": "words", "min": 5}]},
        {"check": "forbids", "words": ["fool", "hate"]},
        {"check": "ends_with", "text": "please."},
    ]
    case = Demonstration("What?", "A toy.", "No.", "Thanks for asking. A toy.")
    eight = Constitution(
        tuple(Principle(f"p{at}", f"Text {at}", "all", (case, case), rule) for at, rule in enumerate(checks)),
        "8" * 64, "eight", 2,
    )  # fmt: skip

    def write(_: Prompt, at: int) -> str:
        said = "may be wrong" if at % 3 else "is for you"
        return f"Thanks, thing {at} {said}, mind it" + ("?" if at % 2 else ".\nAnd on it goes.")

    by = Judges({principle.id: JudgeRecord(kind="check", trusted=True) for principle in eight.principles})
    path = tmp_path / "results.json"
    write_principle_results(path, build(of=eight, over=over, asked=asked_of(over, trained=write, base=write), by=by))
    began = time.process_time()
    read_principle_results(path)
    assert time.process_time() - began < 3


def test_an_empty_answer_keeps_no_principle() -> None:
    over = prompts(test=20, unseen=0, pairs=0)
    silent = Constitution(
        (Principle("silence", "No stars.", "all", check={"not": {"check": "contains", "words": ["star"]}}),), "2" * 64
    )
    arms = Asked(base=Measured({p.id: Output("", True) for p in over}, asked_of(over).base.factors))
    found = build(of=silent, over=over, asked=arms, by=Judges({"silence": JudgeRecord(kind="check", trusted=True)}))
    assert found.principles["silence"].base.rate == 0.0


def test_adapters_of_trained_and_control_are_told_apart(whole: PrincipleResults) -> None:
    arms = whole.arms
    assert arms.trained is not None
    assert arms.control is not None
    assert (arms.base.factors.adapter, arms.trained.factors.adapter, arms.control.factors.adapter) == (
        None,
        TRAINED,
        CONTROL,
    )


@given(
    texts=st.lists(st.text(max_size=40), min_size=1, max_size=8),
    finished=st.lists(st.booleans(), min_size=1, max_size=8),
    threshold=st.sampled_from([0.5, 0.8, 0.95]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_models_write_the_file_reads_back_as_it_was_built(
    tmp_path: Path, texts: list[str], finished: list[bool], threshold: float
) -> None:
    over = prompts(test=12, unseen=3, pairs=4)
    arms = asked_of(over, rival=None)
    written = {p.id: Output(texts[at % len(texts)], finished[at % len(finished)]) for at, p in enumerate(over)}
    assert arms.trained is not None
    arms = replace(arms, trained=Measured(written, arms.trained.factors))
    file = build(over=over, asked=arms, threshold=threshold, conditions=conditions(over, max_new_tokens=64))
    path = tmp_path / "results.json"
    write_principle_results(path, file)
    assert read_principle_results(path) == file


def test_a_conditional_principle_that_was_not_learned_is_said_with_its_false_alarms() -> None:
    over = prompts()
    warn = build(asked=asked_of(over, trained=plain), over=over).principles["warn"]
    assert "no principle learned: obeyed in 0 of 64 where it applies and in 0 of 64" in in_words("warn", warn)
    assert "learned as a principle" not in in_words("warn", warn)
